"""What goes in and out: question files and stdin; results to stdout, all else to stderr.

``tests/tasks/`` has all kinds of question files.
"""

import json
import sys
from types import SimpleNamespace

import pytest
from commands import QUESTIONS, SAMPLE, works

from lmsi_cli.cli import console
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Question
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages import sample as stage

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("folder")]
SPANS = {"spans": ["4", "4 yard", "4"], "types": ["number", "span", "number"]}
DROP = {"query_id": "v1", "passage": "A 4 yard kick.", "question": "How far?"}
MEASURE = "--modes cot --threads 1 --max-tokens 4 --json --quiet"
# The argument, what is in the file, and the questions with their right answers.
FILES = [
    ("q.csv", "id;question;answer\na;1?;4\nb;2?;6\n", {"1?": "4", "2?": "6"}),
    ("drop:d.jsonl", json.dumps({**DROP, "answers_spans": SPANS}),
     {"A 4 yard kick.\nHow far?": "4"}),
]  # fmt: skip


@pytest.mark.parametrize(("source", "content", "expected"), FILES, ids=[f[0] for f in FILES])
def test_sample_and_eval_read_it(sampled, source, content, expected):
    (sampled / source.rpartition(":")[2]).write_text(content)
    draw = SAMPLE.replace("q.jsonl", source).replace("-o r", "-o drawn").split()
    assert works(*draw, "--quiet").stderr == ""
    kept = list(read_records(RunDir("drawn").questions, Question))
    assert [q.question for q in kept] == list(expected)
    assert {q.answer for q in kept} == {None}  # no right answer is near the paths
    told = works("eval", "r", "--data", *source.split(), *MEASURE.split())
    (result,) = json.loads(told.stdout)
    assert [q["gold"] for q in result["questions"]] == list(expected.values())


@pytest.mark.parametrize("text", ["1?\n\n2?\n", QUESTIONS], ids=["text", "jsonl"])
def test_questions_from_stdin(lmsi, text):
    done = lmsi(*SAMPLE.replace("q.jsonl", "-").split(), "--json", stdin=text)
    assert json.loads(done.stdout)["paths"] == 2 * text.count("?")


def test_results_go_to_stdout_and_progress_to_stderr(folder):
    done = works(*SAMPLE.split())
    assert done.stdout.splitlines()[0].strip() == "sample"
    assert "sampling  4/4" in done.stderr and "sampling" not in done.stdout
    assert works(*SAMPLE.split(), "--overwrite", "--quiet").stderr == ""
    for command in (SAMPLE, "models", "models show m.gguf"):
        assert json.loads(works(*command.split(), "--json").stdout)
    # what goes to a file is not cut at 80 columns
    long = folder / ("y" * 100 + ".gguf")
    long.symlink_to((folder / "m.gguf").resolve())
    assert str(long) in works("models", "show", long).stdout


def test_an_interrupted_command_that_discards_goes_on_without(lmsi, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "to_path", interrupt)
    monkeypatch.setattr(sys, "argv", ["lmsi", "sample", "--overwrite"])
    done = lmsi(*SAMPLE.split(), "--overwrite")
    assert (done.exit_code, done.stdout) == (130, "")
    assert "the same command without --overwrite goes on" in done.stderr


def test_the_live_bar_is_beside_results_and_gone_before_an_error_is_told(lmsi, monkeypatch):
    order = []

    class Beacon(console.Beacon):
        def end(self, how):
            assert not self.live.disable
            super().end(how)
            order.append("on" if self.live.live.is_started else "stopped")

    told = SimpleNamespace(print=lambda text, **_: order.append(text))
    monkeypatch.setattr(console, "animated", lambda: True)
    assert json.loads(lmsi(*SAMPLE.split(), "--dry-run", "--json").stdout)["prompt"]
    monkeypatch.setattr("lmsi_cli.cli.session.Beacon", Beacon)
    monkeypatch.setattr("lmsi_cli.cli.main.err", lambda: told)
    lmsi(*SAMPLE.split(), "--max-tokens", "4000")
    assert "stopped" in order and order[order.count("stopped")].startswith("error: ")
