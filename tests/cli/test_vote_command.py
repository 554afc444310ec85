"""`lmsi vote` from its command line: what is shown, what is refused, what a flag beats."""

import builders
import pytest
from commands import call

from lmsi_cli.engine.base import path_seed
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Question, Vote
from lmsi_cli.run_folder import RunDir

TRUE, FALSE = " 2 * 2 = 4. The answer is 4.", " 2 * 2 = 5. The answer is 4."
SLIP, REPEATED = " 2 * 2 = 3. The answer is 3.", " 2 * 2 = 6. The answer is 6."
# of each question: three sound paths, a false step to the winner, four wrong answers
SAID = [(TRUE, "4")] * 3 + [(FALSE, "4"), (SLIP, "3")] + [(REPEATED, "6")] * 3


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder of two questions, and a file that holds one of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    run = RunDir("r")
    ids = ("q1", "q2")
    write_records(run.questions, [Question(id=q, question=f"What is {q}?") for q in ids])
    paths = [
        builders.path(i, answer, text, question_id=q, seed=path_seed(0, q, i))
        for q in ids for i, (text, answer) in enumerate(SAID)
    ]  # fmt: skip
    write_records(run.paths, paths)
    run.save_settings("sample", {"task": "number", "task_name": "number", "seed": 0, "paths": 8})
    (tmp_path / "test.jsonl").write_text('{"question": "what is q2", "answer": 4}\n')
    (tmp_path / "probe.jsonl").write_text('{"id": "q1", "question": "What is q1?", "answer": 4}\n')
    return run


def vote(*words):
    done = call("vote", "r", "--quiet", *words)
    return done.exit_code, done.stdout, done.stderr


def kept(run):
    return {v.question_id: v.kept for v in read_records(run.votes, Vote)}


def test_the_tables_show_what_was_removed(run):
    code, out, err = vote()
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    (removed,) = [line for line in lines if line.startswith("false-equation")]
    assert removed == "false-equation 10"


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        ("", (0, 1, 2)),
        ("--preset paper", (0, 1, 2, 3)),
        ("--config c.toml", (0,)),
        ("--config c.toml --preset paper", (0, 1, 2, 3)),
    ],
)
def test_flags_say_what_is_kept(run, tmp_path, words, paths):
    (tmp_path / "c.toml").write_text("[vote]\npreset = 'paper'\nmax_paths_per_question = 1\n")
    code, _, err = vote(*words.split())
    assert (code, err) == (0, "")
    assert kept(run) == {"q1": paths, "q2": paths}


def test_questions_kept_for_measuring_are_refused_unless_forced(run):
    code, _, err = vote("--exclude", "probe.jsonl", "--exclude", "test.jsonl")
    assert code == 1 and not run.votes.exists() and not run.train.exists()
    assert err.startswith("error: probe.jsonl holds 1 of the 2 questions to train on: q1\nhint: ")
    assert vote("--exclude", "test.jsonl", "--force")[0] == 0


def test_nothing_to_train_on_ends_with_the_figures_and_one_line(run):
    code, out, err = vote("--min-share", "1", "--no-check-equations")
    assert code == 1
    assert "kept paths" in out
    assert err.startswith("error: r/paths.jsonl: nothing to train on")
    assert "min-share removed 16 of 16" in err
