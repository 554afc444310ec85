"""Packing is only a matter of speed: same ids, same loss, same gradient."""

import pytest
from builders import example
from toys import CODEC, gradient, moved

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import attention
from lmsi_cli.training.attention import NAME, Piece, install, supports
from lmsi_cli.training.data import (
    Row,
    TokenExample,
    pack,
    tokenize,
)
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


@pytest.mark.parametrize("limit", [60, 1000])
@pytest.mark.parametrize("small", [0, 1 << 19], ids=["fused kernel", "by hand"])
def test_packed_and_unpacked_agree_in_loss_and_gradient(tiny, examples, monkeypatch, limit, small):
    monkeypatch.setattr(attention, "SMALL", small)
    model = moved(tiny())

    def run(rows):
        model.zero_grad()
        losses = [token_losses(model, row, "fp32").sum() for row in rows]
        sum(losses).backward()
        return sum(losses).item(), gradient(model)

    plain, wanted = run(pack(examples, 0))  # transformers' own causal attention
    install(model)
    packed, got = run(pack(examples, limit))
    assert packed == pytest.approx(plain, rel=1e-6)
    # fp32 kernels lie up to 3e-5 from a float64 run of the same, ours at 1.3e-5 the nearest.
    assert (got - wanted).norm() < 1e-4 * wanted.norm()


def test_a_packed_row_is_refused_without_its_attention(tiny, examples):
    with pytest.raises(ValueError, match=NAME):
        token_losses(tiny(), pack(examples)[0], "fp32")


class Shape:
    def __init__(self, **fields):
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    ("config", "fits"),
    [
        (Shape(model_type="llama"), True),
        (Shape(model_type="qwen2", layer_types=["full_attention"] * 2, sliding_window=None), True),
        (Shape(model_type="phi3", sliding_window=4096), True),
        (Shape(model_type="phi3", sliding_window=100), False),
        (Shape(model_type="qwen3", layer_types=["full_attention", "sliding_attention"]), False),
        (Shape(model_type="gemma2"), False),
        (Shape(), False),
    ],
)
def test_only_plain_causal_attention_is_packed(config, fits):
    assert supports(config, 2048) is fits


# -- the loss of a step ----------------------------------------------------------------------------


def tokens_of(examples):
    return sum(e.predicted for e in examples)


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
def test_every_token_counts_the_same_however_packed(tiny, examples, limit, by_hand):
    model = moved(tiny())
    wanted = slow(model, examples)
    wanted.backward()
    theirs = gradient(model)
    model.zero_grad()
    install(model)
    if by_hand:
        assert speed_up(model, "fp32", limit)
    figures = accumulate(
        model, examples, TrainConfig(row_tokens=limit), "fp32", tokens_of(examples)
    )
    assert figures["loss"] == pytest.approx(wanted.item(), rel=1e-5)
    assert (gradient(model) - theirs).norm() < 2e-5 * theirs.norm()
