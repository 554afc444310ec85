"""What a folder gives to train on: examples, weighted examples or pairs, or one clear line."""

import msgspec
import pytest
from builders import example, preference, vote

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import encode_line, write_records
from lmsi_cli.run_folder import RunDir
from lmsi_cli.training.data import TokenExample, weighed
from lmsi_cli.training.examples import chosen, one_each, origin, read, split

SCPO = TrainConfig(loss="scpo")


def ballots(question, share, margin):
    return vote(question, share=share, margin=margin)


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path)
    write_records(run.train, [example("q1"), example("q2"), example("q1")])
    write_records(run.votes, [ballots("q1", 0.5, 0.2), ballots("q2", 1.0, 0.1)])
    write_records(run.pairs, [preference(), preference(0.0)])
    return run


def test_plain_examples_weigh_one_and_their_file_is_as_it_was(run):
    assert [e.weight for e in read(run, TrainConfig())] == [1.0, 1.0, 1.0]
    assert b"weight" not in run.train.read_bytes()
    assert b'"weight":0.5' in encode_line(example(weight=0.5))


@pytest.mark.parametrize(
    ("kind", "wanted"), [("share", [0.5, 1.0, 0.5]), ("margin", [0.2, 0.1, 0.2])]
)
def test_the_weight_of_an_example_is_looked_up_in_its_vote(run, kind, wanted):
    assert [e.weight for e in read(run, TrainConfig(example_weight=kind))] == wanted


def test_pairs_are_read_for_scpo(run):
    assert list(read(run, SCPO)) == [preference(), preference(0.0)]


def test_what_decides_is_named_by_its_hash(run):
    named = {
        kind: set(origin(run, config))
        for kind, config in {
            "plain": TrainConfig(),
            "share": TrainConfig(example_weight="share"),
            "pairs": SCPO,
        }.items()
    }
    assert named == {
        "plain": {"train_sha256"},
        "share": {"train_sha256", "votes_sha256"},
        "pairs": {"pairs_sha256"},
    }


def refused(run, config, told, hint):
    with pytest.raises(LmsiError, match=told) as e:
        read(run, config)
    assert hint in e.value.hint


@pytest.mark.parametrize("pairs", [[], [preference(0.0)]], ids=["none", "of no weight"])
def test_without_pairs_it_says_what_to_type(run, pairs):
    write_records(run.pairs, pairs)
    refused(run, SCPO, "pairs.jsonl: no preference pairs", "--set pair_share=0.25")


def test_two_weightings_contradict_each_other(run):
    both = msgspec.structs.replace(SCPO, example_weight="margin")
    refused(run, both, "--loss scpo weighs pairs by its own rule", "leave one")


def test_an_example_without_a_vote_is_named(run):
    write_records(run.votes, [ballots("q1", 0.5, 0.2)])
    told = "no vote on question 'q2' of train.jsonl"
    refused(run, TrainConfig(example_weight="share"), told, "leave example_weight out")
    run.votes.unlink()
    refused(run, TrainConfig(example_weight="share"), "votes.jsonl: no such file", "lmsi vote")
    run.train.unlink()
    refused(run, TrainConfig(), "train.jsonl: no such file", "lmsi vote")


def test_weights_are_scaled_to_a_mean_of_one():
    units = [TokenExample([1], [2], weight=w) for w in (0.5, 1.0, 0.0)]
    assert [u.weight for u in weighed(units)] == [1.0, 2.0, 0.0]
    same = [TokenExample([1], [2])] * 3
    assert weighed(same) == same
    pair = units[0]._replace(rejected=[3])
    assert weighed([pair]) == [pair]
    with pytest.raises(LmsiError, match="every example has the weight 0"):
        weighed([units[2]])


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
    sides = [{e.question_id for e in side} for side in parts]
    assert len(sides[1]) == held and not sides[0] & sides[1]
    assert len(parts.held) == 3 * held and len(parts.train) == 3 * (questions - held)


def test_one_example_per_question_of_either_format():
    found = one_each(many(60))
    assert len(found) == len({e.question_id for e in found}) == 60
    assert {e.format for e in found} == {"cot-few", "cot-zero"}
    assert found == one_each(list(reversed(many(60))))
