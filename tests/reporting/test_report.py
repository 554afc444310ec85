"""`lmsi report` without a browser: one digest for all forms, escaping, unfinished runs."""

import io
import json
import re

import msgspec
import pytest
from report_run import evaluated
from rich.console import Console
from typer.testing import CliRunner

from lmsi_cli.cli.main import app
from lmsi_cli.jsonl import write_records
from lmsi_cli.reporting.digest import markdown, page, rendered
from lmsi_cli.stages.report import read_run
from lmsi_cli.stages.train import TrainResult
from lmsi_cli.training import validation
from lmsi_cli.training.loop import LogLine
from lmsi_cli.training.trainer import TrainSummary
from lmsi_cli.training.verify import AdapterProof


def paged(folder):
    return page(read_run(folder), "1.2.3")


def printed(*parts):
    console = Console(width=400, record=True, file=io.StringIO())
    for part in rendered(*parts):
        console.print(part)
    return console.export_text()


def call(*argv):
    return CliRunner().invoke(app, [str(a) for a in argv])


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


def test_the_page_names_nothing_outside_itself_and_is_the_same_each_time(run):
    html = paged(run)
    assert not re.search(r'(?:src|href)="(?!#)', html)
    assert "http" not in html.replace("http-equiv", "")
    assert "url(" not in html and "@import" not in html
    assert html == paged(run)


def test_a_run_that_is_not_finished_says_what_is_missing(run):
    for file in (run.votes, run.vote_summary, run.verdict, run.train):
        file.unlink()
    run.eval_result("test").unlink()
    told = read_run(run)
    assert (told.next.why, told.picture) == ("no vote yet", None)
    run.paths.unlink()
    assert read_run(run).next.command.startswith("lmsi sample QUESTIONS -o ")


TRAINED = TrainResult(
    summary=TrainSummary(
        steps=1, examples=8, dropped_too_long=0, tokens=80,
        first_loss=2.0, final_loss=1.0, seconds=1.0, tokens_per_second=80.0,
        dtype="fp32", peak_rss_mib=900,
    ),
    proof=AdapterProof(
        prompts=8, moved=0.2, base_gap=0.0, adapted_gap=0.0, effect_gap=0.0, tolerance=0.1, ok=True
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("there", "said", "command"),
    [
        ("vote", "kept, mean share 0.62, 100.0% of the paths voted; verdict: do", "lmsi show"),
        ("adapter", "verdict: ", "lmsi eval"),
        ("few right", "this set could only have shown a change of", "lmsi eval"),
        (
            "all right",
            "adapter is better than base: 33.3% to 100.0% of 60 questions",
            "lmsi export",
        ),
        ("none right", "adapter is worse than base", "lmsi compare"),
    ],
)
def test_the_first_screen_is_a_sentence_a_picture_and_the_next_step(run, there, said, command):
    if there != "vote":
        run.adapter.mkdir()
        run.adapter_origin.write_bytes(msgspec.json.encode({"result": TRAINED}))
    if there in ("vote", "adapter"):
        run.eval_result("test").unlink()
    else:
        evaluated(run, right={"few right": 2, "all right": 1, "none right": 99}[there])
    digest = read_run(run)
    assert said in digest.headline and digest.next.command.startswith(command)
    assert (digest.picture is None) == (there in ("vote", "adapter"))
    if digest.picture:
        lines = ["CoT greedy", "", "majority of 8", "", "any of 8", ""]
        assert [row[0] for row in digest.picture.rows] == lines
        assert [row[1] for row in digest.picture.rows] == ["base", "adapter"] * 3
        assert [f"{100 * i.value:.1f}" for i in digest.picture.spans] == [
            row[2].split()[0] for row in digest.picture.rows
        ]


def test_a_training_is_drawn_from_its_first_step_on(run):
    run.adapter.mkdir()
    for steps in (1, 3):
        log = [
            LogLine(
                step=n, loss=2.0 / n, lr=0.1, tokens=9, unpacked_tokens=9, completion_tokens=5,
                grad_norm=1.0, seconds=1.0,
            )
            for n in range(1, steps + 1)
        ]  # fmt: skip
        write_records(run.train_log, log)
        write_records(
            run.adapter / validation.LOG,
            [validation.Reading(step=2, loss=1.5, seconds=1.0)],
        )
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
    done = call("report", run.root)
    assert done.exit_code == 0 and run.report.exists()
    assert call("report", run.root).exit_code == 0  # its own report is made anew
    other = tmp_path / "mine.html"
    other.write_text("mine")
    refused = call("report", run.root, "-o", other)
    assert refused.exit_code == 1 and "is there already" in refused.stderr
    assert other.read_text() == "mine"
    assert call("report", run.root, "-o", other, "--overwrite").exit_code == 0
    told = json.loads(call("report", run.root, "--json").stdout)
    assert told["data"]["vote"]["questions"] == 30 and told["data"]["evaluations"]
    assert call("report", run.root, "--markdown").stdout.startswith("# lmsi report")
    assert "The vote" in call("report", run.root, "--text").stdout
    for other in ("--text", "--markdown", "--json"):  # they write no file
        refused = call("report", run.root, other, "-o", "x.html")
        assert refused.exit_code == 1 and "--out x.html" in refused.output
    assert call("report", tmp_path).exit_code == 1
    run.vote_summary.write_text('{"questions": 1}')
    done = call("report", run.root)
    assert done.exit_code == 1 and "not of this version" in done.stderr
