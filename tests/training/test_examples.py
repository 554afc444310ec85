"""What a folder gives to train on: examples or pairs, or one clear line."""

import pytest
from builders import example, preference

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import write_records
from lmsi_cli.run_folder import RunDir
from lmsi_cli.training.examples import chosen, one_each, origin, read, split

SCPO = TrainConfig(loss="scpo")


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path)
    write_records(run.train, [example("q1"), example("q2"), example("q1")])
    write_records(run.pairs, [preference(), preference(0.0)])
    return run


def test_the_loss_says_which_file_is_read_and_named_by_its_hash(run):
    assert list(read(run, TrainConfig())) == [example("q1"), example("q2"), example("q1")]
    assert list(read(run, SCPO)) == [preference(), preference(0.0)]
    assert list(origin(run, TrainConfig())) == ["train_sha256"]
    assert list(origin(run, SCPO)) == ["pairs_sha256"]


def refused(run, config, told, hint):
    with pytest.raises(LmsiError, match=told) as e:
        read(run, config)
    assert hint in e.value.hint


@pytest.mark.parametrize("pairs", [[], [preference(0.0)]], ids=["none", "of no weight"])
def test_without_pairs_it_says_what_to_type(run, pairs):
    write_records(run.pairs, pairs)
    refused(run, SCPO, "pairs.jsonl: no preference pairs", "--set pair_share=0.25")


@pytest.mark.parametrize("config", [TrainConfig(), SCPO], ids=["train", "pairs"])
def test_a_missing_file_is_named(run, config):
    file = run.pairs if config is SCPO else run.train
    file.unlink()
    refused(run, config, f"{file.name}: no such file", "lmsi vote")


def test_of_a_pair_the_chosen_side_is_an_example(run):
    assert chosen([preference(), example("q2")]) == [example("q1"), example("q2")]


def many(questions):
    """Three examples of two formats for each question."""
    return [
        example(f"q{n}", format=kind, path=k)
        for n in range(questions)
        for k, kind in enumerate(["cot-few", "cot-zero", "cot-zero"])
    ]


@pytest.mark.parametrize(
    ("questions", "share", "held"),
    [(79, 0.05, 0), (80, 0.05, 8), (400, 0.05, 20), (4000, 0.05, 64), (400, 0.0, 0)],
)
def test_questions_are_set_apart_whole(questions, share, held):
    parts = split(many(questions), share)
    train, held_out = parts
    sides = [{e.question_id for e in side} for side in parts]
    assert len(sides[1]) == held and not sides[0] & sides[1]
    assert len(held_out) == 3 * held and len(train) == 3 * (questions - held)


def test_one_example_per_question_of_either_format():
    found = one_each(many(60))
    assert len(found) == len({e.question_id for e in found}) == 60
    assert {e.format for e in found} == {"cot-few", "cot-zero"}
    assert found == one_each(list(reversed(many(60))))
