"""The voting stage: what is written, what is left out, and what is refused."""

import random

import msgspec
import pytest
from builders import tree
from stage_helpers import QUESTIONS, sampled, voted

from lmsi_cli.config import SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Path, Preference, TrainExample, Vote
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.vote import nothing_kept

FORMATS = ("cot-few", "direct-few", "cot-zero", "direct-zero")
LOOSE = {"min_votes": 1, "min_share": 0.0, "max_paths_per_question": 0}


@pytest.fixture
def run(tmp_path):
    """A run folder whose four questions have four paths each."""
    sampled(tmp_path, SampleConfig(paths=4))
    return RunDir(tmp_path)


def rewrite(run, change):
    """Give every path the fields that ``change`` says."""
    paths = list(read_records(run.paths, Path))
    write_records(run.paths, [msgspec.structs.replace(p, **change(p)) for p in paths])


def examples_of(run):
    return list(read_records(run.train, TrainExample))


def test_one_vote_a_question_and_examples_of_the_winners(run):
    summary = voted(run.root, **LOOSE)
    votes = {v.question_id: v for v in read_records(run.votes, Vote)}
    assert {q: v.predicted_answer for q, v in votes.items()} == {
        "q0": "0", "q1": "2", "q2": "4", "q3": None,
    }  # fmt: skip
    assert votes["q1"].no_answer == 1  # "I do not know."
    assert votes["q1"].truncated == 1  # "1 + 1 = 2, so two"
    assert votes["q2"].refuted == 1  # "2 + 2 = 5"
    assert votes["q3"].tie
    assert summary.questions == 4
    assert summary.kept_questions == 3
    assert {e.question_id for e in examples_of(run)} == {"q0", "q1", "q2"}


def test_every_kept_path_in_all_four_formats(run):
    voted(run.root, **LOOSE)
    kept = {v.question_id: v.kept for v in read_records(run.votes, Vote)}
    for question in QUESTIONS[:3]:
        own = [e for e in examples_of(run) if e.question_id == question.id]
        assert {e.format for e in own} == set(FORMATS)
        for form in ("cot-few", "cot-zero"):
            paths = sorted(e.path for e in own if e.format == form)
            assert paths == sorted(kept[question.id])
        for e in own:
            assert question.question in e.prompt
            assert e.format.endswith("zero") == ("What is 6 * 7?" not in e.prompt)
            assert e.completion.startswith(" ") and not e.prompt.endswith(" ")


def test_gold_answers_stay_outside_from_the_first_path_on(run):
    voted(run.root)
    everything = b"".join(tree(run.root).values())
    assert b"What is 1 + 1?" in everything and b"g0ld" not in everything


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_finishing_changes_nothing(run, seed):
    voted(run.root)
    before = run.votes.read_bytes(), run.train.read_bytes()
    lines = run.paths.read_text().splitlines(keepends=True)
    random.Random(seed).shuffle(lines)
    run.paths.write_text("".join(lines))
    voted(run.root)
    assert (run.votes.read_bytes(), run.train.read_bytes()) == before


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"predicted_answer": None}, "15 without an answer, 1 cut off"),
        ({"stop_reason": "length"}, "16 cut off"),
        ({"text": " 1 + 1 = 3. The answer is 3."}, "14 with a false equation"),
    ],
    ids=["parse", "cut", "false"],
)
def test_a_vote_without_voters_is_refused_and_writes_nothing(run, fields, told):
    rewrite(run, lambda _: fields)
    with pytest.raises(LmsiError, match=f"none of 16 paths can vote: .*{told}"):
        voted(run.root)
    assert not run.votes.exists() and not run.train.exists()


def twice(run):
    run.paths.write_bytes(run.paths.read_bytes() * 2)


def renamed(run):
    run.questions.write_text(run.questions.read_text().replace('"q0"', '"q9"'))


def strange(run):
    rewrite(run, lambda p: {"seed": p.seed + (p.question_id == "q2")})


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (twice, r"paths.jsonl: path \d of question 'q\d' is there twice"),
        (renamed, r"questions.jsonl: question 'q0' is not there"),
        (strange, r"path 0 of question 'q2' is of another run: .* seed 0"),
    ],
)
def test_files_that_do_not_belong_together_are_told(run, spoil, told):
    spoil(run)
    with pytest.raises(LmsiError, match=told):
        voted(run.root)
    assert not run.votes.exists()


def test_paths_must_be_there(tmp_path):
    run = RunDir(tmp_path)
    for content in (None, b"", b'{"question_id"'):
        if content is not None:
            run.paths.write_bytes(content)
        with pytest.raises(LmsiError, match=r"paths.jsonl: (no such file|holds no paths)") as e:
            voted(tmp_path)
        assert "lmsi sample" in e.value.hint


def test_many_paths_that_are_cut_off_are_warned_of(run):
    rewrite(run, lambda p: {} if p.path else {"stop_reason": "length"})
    (warning,) = voted(run.root).warnings
    assert "31% of 16 paths are cut off" in warning and "--max-tokens" in warning


def test_what_leaves_nothing_to_train_on_is_named(run):
    summary = voted(run.root, min_votes=9)
    assert "min-votes removed 9 of 16" in str(nothing_kept(run, summary))
    assert nothing_kept(run, voted(run.root, **LOOSE)) is None
    said = {"text": " So.", "stop_reason": "answer"}
    rewrite(run, lambda p: {"predicted_answer": str(p.path % 2), **said})
    summary = voted(run.root)
    assert (summary.ties, summary.kept_paths, examples_of(run)) == (4, 0, [])
    assert "tie removed 16 of 16" in str(nothing_kept(run, summary))


def test_pairs_stand_beside_the_examples(run):
    summary = voted(run.root, **LOOSE)
    pairs = list(read_records(run.pairs, Preference))
    votes = {v.question_id: v for v in read_records(run.votes, Vote)}
    assert {p.question_id for p in pairs} == {"q0", "q2"}  # the others have one answer, or a tie
    assert {p.format for p in pairs} == {"cot-few", "cot-zero"}
    assert summary.pairs == 2 and len(pairs) == 4
    for p in pairs:
        prompts = {e.prompt: e for e in examples_of(run) if e.path == p.chosen_path}
        assert prompts[p.prompt].completion == p.chosen  # as plain training would learn it
        assert p.chosen_path in votes[p.question_id].kept
        assert p.rejected_path not in votes[p.question_id].kept
        assert p.chosen != p.rejected and 0 < p.weight <= 1
