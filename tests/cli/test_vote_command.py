"""`lmsi vote` from its command line: what is shown, what is refused, what a flag beats."""

from pathlib import Path

import builders
import pytest
from bad_input_cases import SEEN
from commands import refused, works

from lmsi_cli.engine.base import path_seed
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Vote
from lmsi_cli.run_folder import RunDir

TRUE, FALSE = " 2 * 2 = 4. The answer is 4.", " 2 * 2 = 5. The answer is 4."
SLIP, REPEATED = " 2 * 2 = 3. The answer is 3.", " 2 * 2 = 6. The answer is 6."
# of each question: three sound paths, a false step to the winner, four wrong answers
SAID = [(TRUE, "4")] * 3 + [(FALSE, "4"), (SLIP, "3")] + [(REPEATED, "6")] * 3


@pytest.fixture
def run(sampled):
    run = RunDir("r")
    paths = [
        builders.path(i, answer, text, question_id=q, seed=path_seed(0, q, i))
        for q in "ab" for i, (text, answer) in enumerate(SAID)
    ]  # fmt: skip
    write_records(run.paths, paths)
    (sampled / "c.toml").write_text("[vote]\npreset = 'paper'\nmax_paths_per_question = 1\n")
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
    Path("seen.jsonl").write_text(SEEN)
    command = ("vote", "r", "--quiet", "--exclude", "test.jsonl", "--exclude", "seen.jsonl")
    told = "seen.jsonl holds 1 of the 2 questions to train on: a"
    refused(lmsi(*command), told, hint="--force")
    assert not run.votes.exists() and not run.train.exists()
    assert "false-equation 10" in " ".join(works(*command, "--force").stdout.split())


@pytest.mark.usefixtures("run")
def test_nothing_to_train_on_ends_with_the_figures_and_one_line(lmsi):
    done = lmsi("vote", "r", "--quiet", "--min-share", "1", "--no-check-equations")
    assert done.exit_code == 1 and "kept paths" in done.stdout
    assert done.stderr.startswith("error: r/paths.jsonl: nothing to train on")
    assert "min-share removed 16 of 16" in done.stderr
