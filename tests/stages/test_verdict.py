"""The verdict through the stages and the commands: what is written, refused, forced, and shown."""

import json

import msgspec
import pytest
from stage_helpers import QUESTIONS, TASK, sampled
from typer.testing import CliRunner

from lmsi_cli.cli.main import app
from lmsi_cli.config import SampleConfig, VoteConfig
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


def lmsi(*argv):
    done = CliRunner().invoke(app, [str(a) for a in argv])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def judged(run, probe=(), **settings):
    return vote_run(run, TASK, VoteConfig(**settings), probe=probe).verdict


def labelled_file(folder, questions):
    file = folder / "probe.jsonl"
    write_records(file, questions)
    return file


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


def test_questions_that_were_stopped_early_are_told(tmp_path):
    sampled(tmp_path, SampleConfig(paths=12, stop="window:2"))
    verdict = judged(RunDir(tmp_path))
    assert "3 questions were stopped early, so no shares" in verdict.reasons[0].text
    assert "share of all" not in verdict.evidence.signals


BAD_PROBES = {
    "ids": ([*RIGHT, *(Question(id=f"x{i}", question="?", answer="1") for i in range(5))],
            "5 of 9 questions are not in {run}, or in other words: x0, x1, x2, ..."),
    "words": ([msgspec.structs.replace(RIGHT[1], question="What is 1 + 2?")],
              "1 of 1 questions are not in {run}, or in other words: q1"),
    "kind": ([msgspec.structs.replace(RIGHT[2], answer="maybe")], "question 'q2': its answer"),
    "none": ([Question(id="q1", question="?")], "{probe}:1: no 'answer'"),
}  # fmt: skip


@pytest.mark.parametrize(("probe", "words"), BAD_PROBES.values(), ids=BAD_PROBES)
def test_a_probe_that_does_not_fit_is_refused_and_nothing_is_written(run, probe, words):
    file = labelled_file(run.root.parent, probe)
    done = lmsi("vote", run.root, "--probe", file)
    assert words.format(run=run.root, probe=file) in done.stderr and "\nhint: " in done.stderr
    assert (done.exit_code, done.stdout) == (1, "")
    assert not run.votes.exists() and not run.verdict.exists()


def test_training_against_the_verdict_needs_force(run):
    judged(run, min_votes=3)  # keeps nothing
    done = lmsi("train", run.root)
    assert done.exit_code == 1
    assert done.stderr == (
        f"error: {run.root}: the verdict is not to train: no path of 4 questions is kept\n"
        f"hint: {run.verdict} has all figures; `lmsi train {run.root} --force` trains all the "
        "same\n"
    )
    forced = lmsi("train", run.root, "--force")
    assert "a.gguf: the model of" in forced.stderr  # past the verdict: the script has no model
    judged(run)
    assert "a.gguf: the model of" in lmsi("train", run.root).stderr


def test_a_folder_without_a_verdict_passes_and_a_damaged_one_is_told(run):
    permit(run, "")  # raises nothing
    run.verdict.write_text('{"verdict": "perhaps"}')
    with pytest.raises(LmsiError, match=r"verdict.json: .*perhaps"):
        permit(run, "")


def test_vote_shows_the_verdict_and_its_figures(run):
    file = labelled_file(run.root.parent, RIGHT)
    shown = lmsi("vote", run.root, "--probe", file)
    assert shown.exit_code == 0, shown.stderr
    for text in ("verdict: train with care", "with care", "maj@m"):
        assert text in shown.stdout
    assert shown.stdout.index("agreement (share") < shown.stdout.index("verdict: ")
    told = json.loads(lmsi("vote", run.root, "--probe", file, "--json").stdout)
    assert told["questions"] == 4
    assert told["verdict"] == json.loads(run.verdict.read_text())
