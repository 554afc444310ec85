"""Attention over packed rows, piece by piece.

With a dense (T, T) mask over a packed row, most scores are computed and thrown away: half of a
training step, by measurement. Here each piece attends to its prefix and to itself, so the cost is
the sum over pieces. Plugs into transformers' attention interface; knows nothing of models beyond
it. The pieces of a row with a prefix of 2 tokens and two tails of 3 and 4:

    [Piece(length=2, parent=None), Piece(length=3, parent=0), Piece(length=4, parent=0)]
"""

from __future__ import annotations

from collections import UserList
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from lmsi_cli.training.architectures import PACKING

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "lmsi_pieces"

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
        getattr(config, "model_type", "") in PACKING
        and kinds == {"full_attention"}
        and (window is None or window >= longest)
    )


def install(model: nn.Module) -> None:
    """Make ``model`` accept the argument ``pieces``; calls without it work as before."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)  # type: ignore[operator]


@contextmanager
def handed(model: nn.Module, pieces: Sequence[Piece] | None) -> Iterator[dict[str, Pieces]]:
    """Yield the keyword for the model's forward call; none for a row of one plain sequence.

    ValueError, since examples would see one another: ``install`` was not called, or a layer in
    between dropped the pieces.
    """
    if pieces is None:
        yield {}
        return
    if getattr(model.config, "_attn_implementation", "") != NAME:
        raise ValueError(f"a packed row needs {NAME} attention")
    found = Pieces(pieces)
    yield {"pieces": found}
    if not found.reached:
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
    """Attend from a piece, (1, heads, L, size), to P tokens before it and to itself."""
    from torch.nn.functional import scaled_dot_product_attention as sdpa
    from transformers.integrations.sdpa_attention import repeat_kv

    from lmsi_cli.training.kernels import Attention

    factor = query.shape[-1] ** -0.5 if scale is None else scale
    tail, keys = query.shape[2], key.shape[2]
    small = tail * keys <= SMALL
    mask: Tensor | None = None
    if small or tail < keys:  # to add to the scores, (L, P + L): own keys only up to oneself
        mask = query.new_full((tail, keys), float("-inf")).triu_(diagonal=keys - tail + 1)
    if small:
        return Attention.apply(query, key, value, mask, factor)  # type: ignore[no-any-return, no-untyped-call]
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    return sdpa(query, key, value, attn_mask=mask, is_causal=mask is None, scale=factor)
