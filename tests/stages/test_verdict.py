"""The verdict through the stages and the commands: what is written, refused, forced, and shown."""

import json

import msgspec
import pytest
from commands import call, refused
from stage_helpers import QUESTIONS, TASK, sampled

from lmsi_cli.config import VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import write_records
from lmsi_cli.records import Question
from lmsi_cli.run_folder import RunDir, discard
from lmsi_cli.stages.vote import permit, vote_run
from lmsi_cli.verdict.rules import CARE, Verdict

RIGHT = [Question(id=q.id, question=q.question, answer=str(2 * i)) for i, q in enumerate(QUESTIONS)]


@pytest.fixture
def run(tmp_path):
    sampled(tmp_path / "r")
    return RunDir(tmp_path / "r")


@pytest.fixture
def probe(tmp_path):
    return tmp_path / "probe.jsonl"


def judged(run, probe=(), **settings):
    return vote_run(run, TASK, VoteConfig(**settings), probe=probe).verdict


def test_the_verdict_lies_beside_the_votes_and_goes_with_them(run):
    verdict = judged(run)
    assert msgspec.json.decode(run.verdict.read_bytes(), type=Verdict) == verdict
    assert verdict.evidence.questions == 4
    assert verdict.verdict == CARE  # four questions say nothing
    discard(run)
    assert not run.verdict.exists()


def test_a_probe_changes_the_verdict_and_nothing_else(run):
    judged(run)
    before = run.votes.read_bytes(), run.train.read_bytes()
    gold = [msgspec.structs.replace(q, answer=f"98765{i}") for i, q in enumerate(RIGHT)]
    with_labels = judged(run, gold)
    assert with_labels.evidence.probe.questions == 4
    assert (run.votes.read_bytes(), run.train.read_bytes()) == before
    for file in (run.votes, run.train, run.verdict, run.run_toml):
        assert "98765" not in file.read_text() and "g0ld" not in file.read_text()


BAD_PROBES = {
    "ids": ([*RIGHT, *(Question(id=f"x{i}", question="?", answer="1") for i in range(5))],
            "5 of 9 questions are not in {run}, or in other words: x0, x1, x2, ..."),
    "words": ([msgspec.structs.replace(RIGHT[1], question="What is 1 + 2?")],
              "1 of 1 questions are not in {run}, or in other words: q1"),
    "kind": ([msgspec.structs.replace(RIGHT[2], answer="maybe")], "question 'q2': its answer"),
    "none": ([Question(id="q1", question="?")], "{probe}:1: no 'answer'"),
}  # fmt: skip


@pytest.mark.parametrize(("questions", "words"), BAD_PROBES.values(), ids=BAD_PROBES)
def test_a_probe_that_does_not_fit_is_refused_and_nothing_is_written(run, probe, questions, words):
    write_records(probe, questions)
    done = call("vote", run.root, "--probe", probe)
    refused(done, words.format(run=run.root, probe=probe), hint="hint: ", notes=1)
    assert not run.votes.exists() and not run.verdict.exists()


def test_training_against_the_verdict_needs_force(run):
    judged(run, min_votes=3)
    told = f"{run.root}: the verdict is not to train: no path of 4 questions is kept"
    refused(call("train", run.root), told, hint=f"`lmsi train {run.root} --force`")
    forced = call("train", run.root, "--force")
    assert "a.gguf: the model of" in forced.stderr  # past the verdict: the script has no model
    judged(run)
    assert "a.gguf: the model of" in call("train", run.root).stderr


def test_a_folder_without_a_verdict_passes_and_a_damaged_one_is_told(run):
    permit(run, "")  # raises nothing
    run.verdict.write_text('{"verdict": "perhaps"}')
    with pytest.raises(LmsiError, match=r"verdict.json: .*perhaps"):
        permit(run, "")


def test_vote_shows_the_verdict_and_its_figures(run, probe):
    write_records(probe, RIGHT)
    shown = call("vote", run.root, "--probe", probe)
    assert shown.exit_code == 0, shown.stderr
    for text in ("verdict: train with care", "with care", "maj@m"):
        assert text in shown.stdout
    assert shown.stdout.index("agreement (share") < shown.stdout.index("verdict: ")
    told = json.loads(call("vote", run.root, "--probe", probe, "--json").stdout)
    assert told["questions"] == 4
    assert told["verdict"] == json.loads(run.verdict.read_text())
