"""`lmsi report` without a browser: one digest for all forms, escaping, unfinished runs, size."""

import io
import json
import os
import re
import shlex
import shutil

import msgspec
import pytest
from report_run import HOSTILE, evaluated
from rich.console import Console
from typer.testing import CliRunner

from lmsi_cli.cli.main import app
from lmsi_cli.config import VoteConfig
from lmsi_cli.jsonl import write_records
from lmsi_cli.prompts import Task
from lmsi_cli.records import Question
from lmsi_cli.reporting.charts import round_values
from lmsi_cli.reporting.digest import Chart, Digest, Section, Series, Step, bars
from lmsi_cli.reporting.page import page
from lmsi_cli.reporting.text import markdown as as_markdown
from lmsi_cli.reporting.text import rendered
from lmsi_cli.run_folder import RunDir
from lmsi_cli.settings import resolve
from lmsi_cli.stages.report import commands, read_run
from lmsi_cli.stages.train import TrainResult
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.training.trainer import TrainSummary
from lmsi_cli.training.verify import AdapterProof

TASK: Task = load_task("number")


def reading(folder, questions=0):
    return read_run(folder, TASK, questions, "1.2.3")


def paged(folder):
    told = reading(folder)
    return page(told.digest, told.sets, told.sentence, "1.2.3")


def call(*argv):
    return CliRunner().invoke(app, [str(a) for a in argv])


def test_every_form_says_the_same(run):
    digest = reading(run).digest
    console = Console(width=400, record=True, file=io.StringIO())
    for part in rendered(digest):
        console.print(part)
    text, markdown = console.export_text(), as_markdown(digest)
    html = paged(run)
    figures = ["+16.7 points", "33.3% to 50.0%", "30 (100.0%)"]
    for figure in figures:
        for form in (text, markdown.replace("\\", ""), html):
            assert figure in form, figure


def test_hostile_text_is_nowhere_markup(run):
    html = paged(run)
    assert "&lt;script&gt;window.hacked" in html
    assert html.count("<script") == html.count("<script type=") + 1  # blobs, and the page's own
    assert "<img" not in html and "\u202e" not in html
    assert "onerror" not in re.sub(r"&lt;.*?&gt;", "", html)
    markdown = as_markdown(reading(run).digest)
    assert "<script>" not in markdown and "\\<script\\>" in markdown


def test_the_page_names_nothing_outside_itself(run):
    html = paged(run)
    assert not re.search(r'(?:src|href)="(?!#)', html)
    assert "http" not in html.replace("http-equiv", "")
    assert "url(" not in html and "@import" not in html


def test_the_same_run_gives_the_same_file(run):
    assert paged(run) == paged(run)


def test_a_run_that_is_not_finished_says_what_is_missing(run):
    for file in (run.votes, run.vote_summary, run.verdict, run.train):
        file.unlink()
    run.eval_result("test").unlink()
    told = reading(run)
    assert (told.digest.next.why, told.digest.picture) == ("no vote yet", None)
    assert [q.kinds for q in told.sets[0].questions] == [("no vote yet",)] * 30
    run.paths.unlink()
    assert reading(run).digest.next.command.startswith("lmsi sample QUESTIONS -o ")


TRAINED = TrainResult(
    summary=TrainSummary(
        steps=1, examples=8, dropped_too_long=0, tokens=80, unpacked_tokens=80,
        completion_tokens=40, first_loss=2.0, final_loss=1.0, seconds=1.0, tokens_per_second=80.0,
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
    digest = reading(run).digest
    assert said in digest.headline and digest.next.command.startswith(command)
    assert (digest.picture is None) == (there in ("vote", "adapter"))
    if digest.picture:
        assert digest.picture.ticks == ("CoT greedy", "majority of 8", "any of 8")
        assert [s.name for s in digest.picture.series] == ["base", "adapter"]
    assert "could have been seen" not in paged(run)


def test_a_run_stands_beside_another_as_compare_shows_it(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run.root, other)
    told = json.loads(call("report", run.root, "--against", other, "--json").stdout)
    compared = json.loads(call("compare", other, run.root, "--json").stdout)
    assert told["data"]["against"] == [compared]
    assert told["sections"][0]["key"] == "against-1"
    assert call("report", run.root, "--against", other).exit_code == 0
    assert "B is not clearly different from A" in run.report.read_text()
    refused = call("report", run.root, "--against", tmp_path / "none")
    assert refused.exit_code == 1 and "no evaluation in it" in refused.stderr


def test_flips_can_be_browsed_with_the_paths_behind_them(run):
    views = reading(run).sets[1].questions
    kinds = {q.id: q.kinds[0] for q in views}
    assert kinds["t0"] == "right before and after" and kinds["t2"] == "gained"
    assert kinds["t3"] == "lost" and kinds["t1"] == "wrong before and after"
    shown = views[2].paths
    assert shown[0].line == "base, CoT greedy: 41, wrong"
    assert shown[0].text[shown[0].start : shown[0].end] == "41"


def test_a_thousand_questions_stay_under_three_mib(run, tmp_path):
    from report_run import path

    asked = [Question(id=f"q{i}", question=f"{i}: " + "word " * 40) for i in range(1000)]
    write_records(run.questions, asked)
    many = [
        path(q.id, n, str((i * 7919 + n) % 997)) for i, q in enumerate(asked) for n in range(16)
    ]
    write_records(run.paths, many)
    call("vote", run.root)
    assert len(reading(run).sets[0].questions) == 1000
    assert len(paged(run).encode()) < 3 << 20


def test_fewer_questions_are_taken_evenly_and_it_is_said(run):
    told = reading(run, 10)
    assert [q.id for q in told.sets[0].questions] == [f"q{i}" for i in range(0, 30, 3)]
    assert "20 more are left out" in told.sentence


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
    assert call("report", tmp_path).exit_code == 1


def test_the_commands_that_repeat_a_run_are_commands(run):
    run.save_settings("sample", {"temperature": 0.5, "top_k": 20, "model": "a b.gguf"})
    run.save_settings("vote", {"check_equations": False, "formats": ["cot-few"]})
    sampled, voted = commands(RunDir("r"), run.load_settings())
    assert "--temperature 0.5" in sampled and "--set top_k=20" in sampled
    for command in (sampled, voted):
        name, *words = shlex.split(command)
        assert (name, call(*words, "--help").exit_code) == ("lmsi", 0)
    table = dict(word.split("=") for word in shlex.split(voted) if "=" in word)
    assert resolve(VoteConfig, table).check_equations is False


def test_a_vote_of_another_version_is_one_line(run):
    run.vote_summary.write_text('{"questions": 1}')
    done = call("report", run.root)
    assert done.exit_code == 1 and "not of this version" in done.stderr


@pytest.mark.parametrize(
    ("ends", "ticks"),
    [
        ((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ((3, 3), [3]),
        ((0, 97), [0, 20, 40, 60, 80, 100]),
    ],
)
def test_ticks_are_round_and_cover_the_ends(ends, ticks):
    assert round_values(*ends) == pytest.approx(ticks)


def pictured(*charts):
    """The page of nothing but charts."""
    section = Section(key="s", title="t", charts=charts)
    step = Step("why", "lmsi")
    digest = Digest(title="t", headline="h", picture=None, next=step, notes=(), sections=(section,))
    return page(digest, [], "", "1")


def test_charts_are_drawn_from_hostile_names_and_one_point():
    one = Chart(title=HOSTILE, series=(Series(name=HOSTILE, x=(1,), y=(0,)),), log_x=True)
    bars = Chart(title="b", series=(Series(name="n", x=(0,), y=(0,)),), ticks=("a",), kind="bars")
    html = pictured(one, bars)
    assert html.count("<svg") == 2 and '<rect class="bar"' in html
    assert "nan" not in html and "<img" not in html and html.count("<script") == 1


def test_counts_stay_whole_numbers_with_bars_beside_them():
    console = Console(width=80, record=True, file=io.StringIO())
    for part in rendered(bars("", {"42": 12345, "41": 4115}, ("ballot", "paths"))):
        console.print(part)
    rows = [line.split() for line in console.export_text().splitlines()]
    assert rows == [["ballot", "paths"], ["42", "12,345", "█" * 24], ["41", "4,115", "█" * 8]]


def test_of_several_evaluations_of_a_set_the_newest_is_shown(run):
    newer = run.eval_result("test-2")
    text = (
        run.eval_result("test").read_text().replace('"primary":"CoT greedy"', '"primary":"direct"')
    )
    newer.write_text(text)
    os.utime(run.eval_result("test"), (1, 1))
    told = json.loads(call("report", run.root, "--json").stdout)
    assert [e["primary"] for e in told["data"]["evaluations"]] == ["direct"]
    assert RunDir(run.root).eval_dir.exists()
