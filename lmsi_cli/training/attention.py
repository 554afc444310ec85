"""Attention over packed rows, piece by piece.

With a dense (T, T) mask over a packed row, most scores are computed and thrown away: half of a
training step, by measurement. Here each piece attends to its prefix and to itself, so the cost is
the sum over pieces. Plugs into transformers' attention interface; knows nothing of models beyond
it. The pieces of a row with a prefix of 2 tokens and two tails of 3 and 4:

    [Piece(length=2, parent=None), Piece(length=3, parent=0), Piece(length=4, parent=0)]
"""

from __future__ import annotations

from collections import UserList
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lmsi_cli.training import kernels

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "lmsi_pieces"

# Families in which every layer does plain causal attention through transformers' interface. Others
# (recurrent state, ALiBi, attention sinks, windows) get one example per row and their own code,
# and so do those that do not pass ``pieces`` down to their layers (stablelm, nemotron).
FAMILIES = frozenset(
    {
        "arcee",
        "cohere",
        "gemma",
        "granite",
        "llama",
        "mistral",
        "olmo",
        "olmo2",
        "phi",
        "smollm3",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "phi3",
        "starcoder2",
    }
)


# Up to this many scores (queries x keys) of a piece, three plain products are two to five times as
# fast as the fused CPU kernel; beyond, keeping them for the backward pass costs too much memory.
SMALL = 1 << 19


class Pieces(UserList["Piece"]):
    """The pieces of a row, passed through a model; ``reached`` counts the layers that got them.

    Not a plain list, because modules that are spread over GPUs would make a copy of it.
    """

    reached = 0


class Piece(NamedTuple):
    """A run of tokens that sees itself causally, and all that piece number ``parent`` sees."""

    length: int
    parent: int | None


def seen(pieces: Sequence[Piece], number: int) -> list[int]:
    """The numbers of the pieces that a piece sees, in token order; its own is the last."""
    chain = [number]
    while (parent := pieces[chain[0]].parent) is not None:
        chain.insert(0, parent)
    return chain


def supports(config: object, longest: int) -> bool:
    """Whether this model does plain causal attention.

    A sliding window of at least ``longest``, the tokens of the longest example, never acts.
    """
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    return (
        getattr(config, "model_type", "") in FAMILIES
        and kinds == {"full_attention"}
        and (window is None or window >= longest)
    )


def install(model: nn.Module) -> None:
    """Make ``model`` accept the argument ``pieces``; calls without it work as before."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)  # type: ignore[operator]


def argument(model: nn.Module, pieces: Sequence[Piece] | None) -> dict[str, Pieces]:
    """The keyword for the model's forward call; none for a row of one plain sequence.

    ValueError: ``install`` was not called; other attention would silently mix the pieces.
    """
    if pieces is None:
        return {}
    if getattr(model.config, "_attn_implementation", "") != NAME:
        raise ValueError(f"a packed row needs {NAME} attention")
    return {"pieces": Pieces(pieces)}


def check(arguments: dict[str, Any]) -> None:
    """Check after a forward call, given its keywords, that its pieces reached the attention.

    ValueError: a layer in between dropped them, so examples saw one another.
    """
    pieces: Pieces | None = arguments.get("pieces")
    if pieces is not None and not pieces.reached:
        raise ValueError("this family does not hand the pieces of a row to its attention")


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **settings: Any,  # noqa: ANN401 - the interface's own
) -> tuple[Tensor, None]:
    """Attend within the pieces of one packed row; without pieces, run transformers' own code.

    Shapes: query (1, heads, T, head size), key and value (1, key heads, T, head size), the result
    (1, T, heads, head size), with no attention weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    pieces: Pieces | None = settings.pop("pieces", None)
    if pieces is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)  # type: ignore[no-any-return]
    import torch

    pieces.reached += 1
    lengths = [piece.length for piece in pieces]
    # split, not slices: its backward pass is one concatenation instead of T zeros per piece.
    queries, keys, values = (torch.split(x, lengths, dim=2) for x in (query, key, value))
    scale = settings.get("scaling")
    out = []
    for i, query in enumerate(queries):
        chain = seen(pieces, i)
        whole = len(chain) == 1
        key, value = (
            x[i] if whole else torch.cat([x[j] for j in chain], dim=2) for x in (keys, values)
        )
        out.append(_one(query, key, value, scale))
    return torch.cat(out, dim=2).transpose(1, 2).contiguous(), None


def _one(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    from torch.nn.functional import scaled_dot_product_attention as sdpa
    from transformers.integrations.sdpa_attention import repeat_kv

    factor = query.shape[-1] ** -0.5 if scale is None else scale
    if query.shape[2] * key.shape[2] <= SMALL:
        mask = _tail_mask(query, key.shape[2])
        return kernels.attention().apply(query, key, value, mask, factor)  # type: ignore[no-any-return]
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    if query.shape[2] == key.shape[2]:
        return sdpa(query, key, value, is_causal=True, scale=factor)
    mask = _tail_mask(query, key.shape[2])
    return sdpa(query, key, value, attn_mask=mask, scale=factor)


def _tail_mask(query: Tensor, keys: int) -> Tensor:
    """The mask to add to the scores, (L, P + L): all prefix keys and own keys up to oneself."""
    import torch

    tail = query.shape[-2]
    blocked = torch.full((tail, keys), float("-inf"), dtype=query.dtype, device=query.device)
    return blocked.triu_(diagonal=keys - tail + 1)
