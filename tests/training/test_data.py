"""What a folder gives to train on, and packing, which is only a matter of speed."""

from types import SimpleNamespace

import pytest
from builders import example, preference
from toys import CODEC, gradient, moved

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import write_records
from lmsi_cli.run_folder import RunDir
from lmsi_cli.training import attention
from lmsi_cli.training.attention import NAME, Piece, install, supports
from lmsi_cli.training.data import (
    Row,
    TokenExample,
    pack,
    tokenize,
)
from lmsi_cli.training.examples import chosen, one_each, origin, read, split
from lmsi_cli.training.loop import speed_up
from lmsi_cli.training.losses import accumulate, token_losses


def pair(prompt, completion, kind="cot-zero"):
    return example("q1", prompt, completion, format=kind)


def test_a_pair_becomes_prompt_ids_with_bos_and_completion_ids_with_eos():
    [example], dropped = tokenize([pair("ab", "c")], CODEC, 16)
    assert (example.prompt, example.completion, dropped) == ([1, 97, 98], [99, 2], 0)
    assert example.name == "q1 (cot-zero)"


def test_each_format_gets_its_own_longest_common_prefix():
    few = "x" * 20
    texts = [
        pair(few + "ab", "1", "cot-few"),
        pair(few + "ac", "1", "cot-few"),
        pair("y" * 20 + "a", "1", "direct-few"),
        pair("y" * 20 + "b", "1", "direct-few"),
        pair("short a", "1"),
        pair("short b", "1"),
    ]
    kept, _ = tokenize(texts, CODEC, 100)
    assert [e.shared for e in kept] == [22, 22, 21, 21, 0, 0]  # BOS counts; 7 are not worth it


def test_a_row_holds_the_prefix_once():
    both = [TokenExample([5, 6, 7], [8], shared=2), TokenExample([5, 6, 9], [4], shared=2)]
    assert pack(both) == [
        Row(
            ids=[5, 6, 7, 8, 9, 4],
            positions=[0, 1, 2, 3, 2, 3],
            pieces=[Piece(2, None), Piece(2, 0), Piece(2, 0)],
            keep=[2, 4],
            labels=[8, 4],
            parts=[(1, 1.0), (1, 1.0)],
        )
    ]


def test_rows_fill_up_to_the_limit_and_lose_nothing(examples):
    for limit in (0, 40, 60, 100, 1000):
        rows = pack(examples, limit)
        assert sum(len(r.labels) for r in rows) == sum(len(e.completion) for e in examples)
        assert all(len(r.ids) <= limit or len(r.pieces) <= 2 for r in rows)
        assert all(sum(p.length for p in r.pieces) == len(r.ids) for r in rows)
    assert len(pack(examples, 1000)) == 1


def test_a_packed_row_is_refused_without_its_attention(tiny, examples):
    with pytest.raises(ValueError, match=NAME):
        token_losses(tiny(), pack(examples)[0], "fp32")


@pytest.mark.parametrize(
    ("config", "fits"),
    [
        ({"model_type": "llama"}, True),
        ({"model_type": "qwen2", "layer_types": ["full_attention"] * 2, "sliding_window": None},
         True),
        ({"model_type": "phi3", "sliding_window": 4096}, True),
        ({"model_type": "phi3", "sliding_window": 100}, False),
        ({"model_type": "qwen3", "layer_types": ["full_attention", "sliding_attention"]}, False),
        ({"model_type": "gemma2"}, False),
        ({}, False),
    ],
)  # fmt: skip
def test_only_plain_causal_attention_is_packed(config, fits):
    assert supports(SimpleNamespace(**config), 2048) is fits


# -- the loss of a step ----------------------------------------------------------------------------


def slow(model, examples):
    """The mean over all completion tokens, an example at a time, by the model's code."""
    import torch
    from torch.nn.functional import cross_entropy

    total, tokens = 0.0, 0
    for e in examples:
        ids = torch.tensor([e.prompt + e.completion])
        logits = model(input_ids=ids, use_cache=False).logits[0, len(e.prompt) - 1 : -1]
        total = total + cross_entropy(logits, torch.tensor(e.completion), reduction="sum")
        tokens += len(e.completion)
    return total / tokens


@pytest.mark.parametrize("limit", [0, 60, 1000], ids=["a row each", "some rows", "one row"])
@pytest.mark.parametrize("by_hand", [False, True], ids=["libraries", "fused"])
@pytest.mark.parametrize("small", [0, 1 << 19], ids=["fused attention", "plain attention"])
def test_every_token_counts_the_same_however_packed(
    tiny, examples, monkeypatch, limit, by_hand, small
):
    monkeypatch.setattr(attention, "SMALL", small)
    model = moved(tiny())
    wanted = slow(model, examples)
    wanted.backward()
    theirs = gradient(model)
    model.zero_grad()
    install(model)
    if by_hand:
        assert speed_up(model, "fp32", limit)
    count = sum(e.predicted for e in examples)
    figures = accumulate(model, examples, TrainConfig(row_tokens=limit), "fp32", count)
    assert figures["loss"] == pytest.approx(wanted.item(), rel=1e-6)
    # torch's own kernel lies up to 3e-5 from a float64 run of the same, ours at 1.3e-5
    assert (gradient(model) - theirs).norm() < (2e-5 if small else 1e-4) * theirs.norm()


# -- what a folder gives to train on ---------------------------------------------------------------


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
    train, apart = split(many(questions), share)
    sides = [{e.question_id for e in side} for side in (train, apart)]
    assert len(sides[1]) == held and not sides[0] & sides[1]
    assert len(apart) == 3 * held and len(train) == 3 * (questions - held)


def test_one_example_per_question_of_either_format():
    found = one_each(many(60))
    assert len(found) == len({e.question_id for e in found}) == 60
    assert {e.format for e in found} == {"cot-few", "cot-zero"}
    assert found == one_each(list(reversed(many(60))))
