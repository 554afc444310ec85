"""`lmsi vote` from its command line: what is shown, what is refused, what a flag beats."""

import builders
import pytest
from commands import refused, works

from lmsi_cli.engine.base import path_seed
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Question, Vote
from lmsi_cli.run_folder import RunDir

TRUE, FALSE = " 2 * 2 = 4. The answer is 4.", " 2 * 2 = 5. The answer is 4."
SLIP, REPEATED = " 2 * 2 = 3. The answer is 3.", " 2 * 2 = 6. The answer is 6."
# of each question: three sound paths, a false step to the winner, four wrong answers
SAID = [(TRUE, "4")] * 3 + [(FALSE, "4"), (SLIP, "3")] + [(REPEATED, "6")] * 3


@pytest.fixture
def run(folder):
    """A run folder of two questions."""
    run = RunDir("r")
    write_records(run.questions, [Question(id=q, question=f"What is {q}?") for q in ("q1", "q2")])
    paths = [
        builders.path(i, answer, text, question_id=q, seed=path_seed(0, q, i))
        for q in ("q1", "q2") for i, (text, answer) in enumerate(SAID)
    ]  # fmt: skip
    write_records(run.paths, paths)
    run.save_settings("sample", {"task": "number", "task_name": "number", "seed": 0, "paths": 8})
    (folder / "c.toml").write_text("[vote]\npreset = 'paper'\nmax_paths_per_question = 1\n")
    (folder / "q1.jsonl").write_text('{"id": "q1", "question": "What is q1?", "answer": 4}\n')
    (folder / "q2.jsonl").write_text('{"question": "what is q2", "answer": 4}\n')
    return run


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("", (0, 1, 2)),
        ("--preset paper", (0, 1, 2, 3)),
        ("--config c.toml", (0,)),
        ("--config c.toml --preset paper", (0, 1, 2, 3)),
    ],
)
def test_flags_say_what_is_kept(run, words, kept):
    assert works("vote", "r", "--quiet", *words.split()).stderr == ""
    assert [v.kept for v in read_records(run.votes, Vote)] == [kept, kept]


def test_questions_kept_for_measuring_are_refused_unless_forced(run, lmsi):
    command = ("vote", "r", "--quiet", "--exclude", "q1.jsonl", "--exclude", "q2.jsonl")
    told = "q1.jsonl holds 1 of the 2 questions to train on: q1"
    refused(lmsi(*command), told, hint="--force")
    assert not run.votes.exists() and not run.train.exists()
    done = works(*command, "--force")
    assert "false-equation 10" in " ".join(done.stdout.split())


@pytest.mark.usefixtures("run")
def test_nothing_to_train_on_ends_with_the_figures_and_one_line(lmsi):
    done = lmsi("vote", "r", "--quiet", "--min-share", "1", "--no-check-equations")
    assert done.exit_code == 1 and "kept paths" in done.stdout
    assert done.stderr.startswith("error: r/paths.jsonl: nothing to train on")
    assert "min-share removed 16 of 16" in done.stderr
