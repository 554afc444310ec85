"""`lmsi report` without a browser: one digest for all forms, escaping, unfinished runs."""

import io
import json
import re

import msgspec
import pytest
from commands import call, refused, works
from report_run import evaluated, trained
from rich.console import Console

from lmsi_cli.jsonl import write_records
from lmsi_cli.reporting.digest import markdown, page, rendered
from lmsi_cli.stages.report import read_run
from lmsi_cli.stages.train import TrainResult
from lmsi_cli.training.trainer import TrainSummary
from lmsi_cli.training.validation import Reading
from lmsi_cli.training.verify import AdapterProof


def paged(folder):
    return page(read_run(folder), "1.2.3")


def printed(*parts):
    console = Console(width=400, record=True, file=io.StringIO())
    for part in rendered(*parts):
        console.print(part)
    return console.export_text()


def test_every_form_says_the_same_and_takes_no_text_for_markup(run):
    digest, html = read_run(run), paged(run)
    text, marked = printed(digest), markdown(digest)
    for figure in ("+16.7 points", "33.3% to 50.0%", "30 (100.0%)"):
        for form in (text, marked.replace("\\", ""), html):
            assert figure in form, figure
    assert "&lt;script&gt;window.hacked" in html
    assert "<script" not in html and "<img" not in html and "\u202e" not in html
    assert "onerror" not in re.sub(r"&lt;.*?&gt;", "", html)
    assert "<script>" not in marked and "\\<script\\>" in marked
    # the page names nothing outside itself and is the same each time
    assert not re.search(r'(?:src|href)="(?!#)', html)
    assert "http" not in html.replace("http-equiv", "")
    assert "url(" not in html and "@import" not in html
    assert html == paged(run)


def finish_training(run):
    summary = TrainSummary(
        steps=1, examples=8, dropped_too_long=0, tokens=80, first_loss=2.0, final_loss=1.0,
        seconds=1.0, tokens_per_second=80.0, dtype="fp32", peak_rss_mib=900,
    )  # fmt: skip
    gaps = {"moved": 0.2, "base_gap": 0.0, "adapted_gap": 0.0, "effect_gap": 0.0}
    proof = AdapterProof(prompts=8, tolerance=0.1, ok=True, **gaps)
    run.adapter.mkdir()
    result = TrainResult(summary=summary, proof=proof)
    run.adapter_origin.write_bytes(msgspec.json.encode({"result": result}))


def test_a_run_that_is_not_finished_says_what_is_missing(run):
    run.eval_result("test").unlink()
    digest = read_run(run)
    assert "mean share 0.62, 100.0% of the paths voted; verdict: do" in digest.headline
    assert digest.next.command.startswith("lmsi show") and digest.picture is None
    finish_training(run)
    assert read_run(run).next.command.startswith("lmsi eval")
    run.vote_summary.unlink()
    assert read_run(run).next.why == "no vote yet"
    run.paths.unlink()
    assert read_run(run).next.command.startswith("lmsi sample QUESTIONS -o ")


@pytest.mark.parametrize(
    ("every", "said", "command"),
    [  # of the adapter's answers, one in so many is right
        (2, "this set could only have shown a change of", "lmsi eval"),
        (1, "adapter is better than base: 33.3% to 100.0%", "lmsi export"),
        (99, "adapter is worse than base", "lmsi compare"),
    ],
)
def test_the_first_screen_is_a_sentence_a_picture_and_the_next_step(run, every, said, command):
    finish_training(run)
    evaluated(run, every)
    digest = read_run(run)
    assert said in digest.headline and digest.next.command.startswith(command)
    lines = ["CoT greedy", "", "majority of 8", "", "any of 8", ""]
    rows = digest.picture.rows
    assert [row[:2] for row in rows] == list(zip(lines, ["base", "adapter"] * 3, strict=True))
    drawn = [f"{100 * i.value:.1f}" for i in digest.picture.spans]
    assert drawn == [row[2].split()[0] for row in rows]


@pytest.mark.parametrize("steps", [1, 3])
def test_a_training_is_drawn_from_its_first_step_on(run, steps):
    trained(run, steps)
    write_records(run.validation_log, [Reading(step=2, loss=1.5, seconds=1.0)])
    html = paged(run)
    assert f"Not finished: {steps} steps so far" in html and "held-out questions" in html
    [points] = re.findall(r'<polyline class="curve s0" points="([^"]+)"', html)
    assert len(points.split()) == max(2, steps) and "nan" not in points


def test_questions_that_changed_are_listed(run):
    [sheet] = [t for s in read_run(run).sections for t in s.sheets if ": better" in t.title]
    assert sheet.title == "CoT greedy, of 60 questions: better 20, worse 10"
    assert sheet.rows[0][:3] == ("t2", "better", "42") and len(sheet.rows) == 20
    assert sheet.note == "and 10 more"


def test_the_command_writes_reads_and_refuses(run, tmp_path):
    for _ in range(2):  # its own report is made anew
        works("report", run.root)
    assert run.report.exists()
    other = tmp_path / "mine.html"
    other.write_text("mine")
    refused(call("report", run.root, "-o", other), "is there already", hint="--overwrite")
    assert other.read_text() == "mine"
    works("report", run.root, "-o", other, "--overwrite")
    told = json.loads(works("report", run.root, "--json").stdout)["data"]
    assert told["vote"]["questions"] == 30 and told["evaluations"]
    assert works("report", run.root, "--markdown").stdout.startswith("# lmsi report")
    assert "The vote" in works("report", run.root, "--text").stdout
    for form in ("--text", "--markdown", "--json"):
        refused(call("report", run.root, form, "-o", "x.html"), "--out x.html")
    refused(call("report", tmp_path), "not a run folder")
    run.vote_summary.write_text('{"questions": 1}')
    refused(call("report", run.root), "not of this version")
