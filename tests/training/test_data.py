"""Packing is only a matter of speed: same ids, same loss, same gradient."""

import pytest

from lmsi_cli.records import TrainExample
from lmsi_cli.training.attention import NAME, Piece, install, supports
from lmsi_cli.training.data import (
    Codec,
    Part,
    Row,
    TokenExample,
    pack,
    share_prefixes,
    to_batch,
    tokenize,
)

CODEC = Codec(lambda text: [1, *map(ord, text)], lambda _, text: [*map(ord, text), 2])


def pair(prompt, completion, kind="cot-zero", question="q1"):
    return TrainExample(
        prompt=prompt, completion=completion, format=kind, question_id=question, path=0
    )


def test_a_pair_becomes_prompt_ids_with_bos_and_completion_ids_with_eos():
    [example], dropped = tokenize([pair("ab", "c")], CODEC, 16)
    assert (example.prompt, example.completion, dropped) == ([1, 97, 98], [99, 2], 0)
    assert example.name == "q1 (cot-zero)"


def test_too_long_examples_are_counted_and_left_out():
    kept, dropped = tokenize([pair("ab", "c"), pair("abc", "c"), pair("a", "cde")], CODEC, 5)
    assert (len(kept), dropped) == (1, 2)


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


def test_the_last_prompt_token_is_never_shared():
    same = [TokenExample([7] * 30, [8]), TokenExample([7] * 30, [9])]
    assert [e.shared for e in share_prefixes(same, ["a", "a"])] == [29, 29]
    assert [e.shared for e in share_prefixes(same[:1], ["a"])] == [0]


def test_a_row_holds_the_prefix_once():
    both = [TokenExample([5, 6, 7], [8], shared=2), TokenExample([5, 6, 9], [4], shared=2)]
    assert pack(both) == [
        Row(
            ids=[5, 6, 7, 8, 9, 4],
            positions=[0, 1, 2, 3, 2, 3],
            pieces=[Piece(2, None), Piece(2, 0), Piece(2, 0)],
            keep=[2, 4],
            labels=[8, 4],
            parts=[Part(1), Part(1)],
        )
    ]


def test_rows_fill_up_to_the_limit_and_lose_nothing(examples):
    for limit in (0, 40, 60, 100, 1000):
        rows = pack(examples, limit)
        assert sum(len(r.labels) for r in rows) == sum(len(e.completion) for e in examples)
        assert all(len(r.ids) <= limit or len(r.pieces) <= 2 for r in rows)
        assert all(sum(p.length for p in r.pieces) == len(r.ids) for r in rows)
    assert len(pack(examples, 1000)) == 1


def test_a_text_without_a_prompt_cannot_predict_its_first_token():
    [row] = pack([TokenExample([], [5, 6])])
    assert (row.keep, row.labels) == ([0], [6])


def test_one_plain_sequence_needs_no_pieces(examples):
    assert all(to_batch(row).pieces is None for row in pack(examples, 0))
    assert to_batch(pack(examples)[0]).pieces is not None


@pytest.mark.parametrize("limit", [60, 100, 1000])
@pytest.mark.parametrize("small", [0, 1 << 19], ids=["fused kernel", "by hand"])
def test_packed_and_unpacked_agree_in_loss_and_gradient(tiny, examples, monkeypatch, limit, small):
    import torch

    from lmsi_cli.training import attention
    from lmsi_cli.training.adapter import trainable
    from lmsi_cli.training.step import row_loss

    monkeypatch.setattr(attention, "SMALL", small)
    model = tiny()
    for p in trainable(model).values():
        torch.nn.init.normal_(p, std=0.2)  # with B zero, A would have no gradient

    def run(rows):
        model.zero_grad()
        losses = [row_loss(model, to_batch(row), "fp32") for row in rows]
        sum(losses).backward()
        return sum(losses).item(), torch.cat([p.grad.flatten() for p in trainable(model).values()])

    plain, wanted = run(pack(examples, 0))  # transformers' own causal attention
    install(model)
    packed, got = run(pack(examples, limit))
    assert packed == pytest.approx(plain, rel=1e-6)
    # fp32 kernels lie up to 3e-5 from a float64 run of the same, ours at 1.3e-5 the nearest.
    assert (got - wanted).norm() < 1e-4 * wanted.norm()


def test_a_packed_row_is_refused_without_its_attention(tiny, examples):
    from lmsi_cli.training.step import row_loss

    with pytest.raises(ValueError, match=NAME):
        row_loss(tiny(), to_batch(pack(examples)[0]), "fp32")


class Shape:
    def __init__(self, **fields):
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    ("config", "fits"),
    [
        (Shape(model_type="llama"), True),
        (Shape(model_type="qwen2", layer_types=["full_attention"] * 2, sliding_window=None), True),
        (Shape(model_type="mistral", sliding_window=4096), True),
        (Shape(model_type="mistral", sliding_window=100), False),
        (Shape(model_type="qwen3", layer_types=["full_attention", "sliding_attention"]), False),
        (Shape(model_type="gemma2"), False),
        (Shape(), False),
    ],
)
def test_only_plain_causal_attention_is_packed(config, fits):
    assert supports(config, 2048) is fits
