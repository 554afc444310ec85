"""Attention over packed rows, piece by piece.

A dense (T, T) mask over a packed row computes mostly scores that it then throws away: half of a
training step, by measurement. Here each piece attends to its prefix and to itself, so the cost is
the sum over pieces. Plugs into transformers' attention interface; knows nothing of models beyond
it. The pieces of a row with a prefix of 2 tokens and two tails of 3 and 4:

    [Piece(length=2, parent=None), Piece(length=3, parent=0), Piece(length=4, parent=0)]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "lmsi_pieces"

# Families whose every layer is plain causal attention by transformers' interface. Others
# (recurrent state, ALiBi, attention sinks, windows) get one example per row and their own code.
FAMILIES = frozenset(
    {
        "llama",
        "mistral",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "phi3",
        "stablelm",
        "starcoder2",
        "nemotron",
    }
)


# Scores (queries x keys) of a piece up to which three plain products beat the fused CPU kernel two
# to five times; beyond it, keeping the scores for the backward pass costs too much memory.
SMALL = 1 << 19


class Piece(NamedTuple):
    """A run of tokens that sees itself causally, and all of the piece number ``parent``."""

    length: int
    parent: int | None


def supports(config: object, longest: int) -> bool:
    """Whether attention of this model is causal and nothing else.

    Args:
        config: The transformers configuration.
        longest: Tokens of the longest example; a sliding window beyond it never acts.
    """
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    return (
        getattr(config, "model_type", "") in FAMILIES
        and kinds == {"full_attention"}
        and (window is None or window >= longest)
    )


def install(model: nn.Module) -> None:
    """Make ``model`` understand the argument ``pieces``; without it nothing changes for it."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)  # type: ignore[operator]


def argument(model: nn.Module, pieces: Sequence[Piece] | None) -> dict[str, Sequence[Piece]]:
    """The keyword for the model's forward call; none for a row of one plain sequence.

    Raises:
        ValueError: ``install`` was not called; other attention would silently mix the pieces.
    """
    if pieces is None:
        return {}
    if getattr(model.config, "_attn_implementation", "") != NAME:
        raise ValueError(f"a packed row needs {NAME} attention")
    return {"pieces": pieces}


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **settings: Any,  # noqa: ANN401 - the interface's own
) -> tuple[Tensor, None]:
    """Attend within the pieces of one packed row.

    Args:
        module: The attention layer.
        query: (1, heads, T, head size).
        key: (1, key heads, T, head size).
        value: As ``key``.
        attention_mask: Only for rows without pieces.
        settings: ``pieces``, ``scaling``, ``dropout`` and whatever transformers adds.

    Returns:
        (1, T, heads, head size), and no attention weights.
    """
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    pieces: Sequence[Piece] | None = settings.pop("pieces", None)
    if pieces is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)  # type: ignore[no-any-return]
    import torch

    groups = int(getattr(module, "num_key_value_groups", 1))
    lengths = [piece.length for piece in pieces]
    # split, not slices: its backward pass is one concatenation instead of T zeros per piece.
    queries = torch.split(query, lengths, dim=2)
    keys = torch.split(repeat_kv(key, groups), lengths, dim=2)
    values = torch.split(repeat_kv(value, groups), lengths, dim=2)
    scale = settings.get("scaling")
    out = [
        _one(queries[i], _seen(keys, i, pieces), _seen(values, i, pieces), scale)
        for i in range(len(pieces))
    ]
    return torch.cat(out, dim=2).transpose(1, 2).contiguous(), None


def _seen(parts: Sequence[Tensor], number: int, pieces: Sequence[Piece]) -> Tensor:
    import torch

    parent = pieces[number].parent
    return parts[number] if parent is None else torch.cat((parts[parent], parts[number]), dim=2)


def _one(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    if query.shape[2] * key.shape[2] <= SMALL:
        return _by_hand(query, key, value, scale)
    if query.shape[2] == key.shape[2]:
        return sdpa(query, key, value, is_causal=True, scale=scale)
    return sdpa(query, key, value, attn_mask=_tail_mask(query, key.shape[2]), scale=scale)


def _by_hand(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    """Attention as three plain products; scores stay fp32 under autocast, as in fused kernels.

    bf16 scores are a quarter faster here, but scores in the hundreds, which some families have,
    would be off by a half.
    """
    import torch

    factor = query.shape[-1] ** -0.5 if scale is None else scale
    with torch.autocast(query.device.type, enabled=False):
        q, k = query[0].float() * factor, key[0].float()
        mask = _tail_mask(q, k.shape[1]).expand(len(q), -1, -1)
        scores = torch.baddbmm(mask, q, k.transpose(1, 2))  # (heads, L, P + L)
        return (scores.softmax(-1).to(value.dtype) @ value[0])[None]


def _tail_mask(query: Tensor, keys: int) -> Tensor:
    """Added to the scores, (L, P + L): every prefix key is seen, own keys up to oneself."""
    import torch

    tail = query.shape[-2]
    blocked = torch.full((tail, keys), float("-inf"), dtype=query.dtype, device=query.device)
    return blocked.triu_(diagonal=keys - tail + 1)
