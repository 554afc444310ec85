"""The least time a LoRA step can take on this machine: its arithmetic at the CPU's own rate.

Counts the operations of a packed row that no implementation can leave out, and measures how fast
matrix products of this model's shapes run in the training dtype. Knows shapes, not weights.
Measured operations per second, by product (outputs x inputs):

    {"4864x896": 3.9e11, "896x4864": 3.9e11, "151936x896": 3.1e11}
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lmsi_cli.training.data import Row

if TYPE_CHECKING:
    from torch import nn

REPEATS = 5


class Product(NamedTuple):
    """The shape of a frozen matrix, (out, into), and how many matrices have it."""

    out: int
    into: int
    layers: int = 1

    @property
    def name(self) -> str:
        """Its name in the results."""
        return f"{self.out}x{self.into}"


class Sizes(NamedTuple):
    """What the count needs to know of a model and its adapter."""

    products: list[Product]
    head: Product
    layers: int
    heads: int
    head_size: int
    rank: int


def sizes(model: nn.Module, rank: int) -> Sizes:
    """Read the sizes off a model, which may be a skeleton without weights."""
    from lmsi_cli.training.load import block_linears

    config: Any = model.config
    linears: list[Any] = list(block_linears(model).values())
    counted = Counter((m.out_features, m.in_features) for m in linears)
    width, heads = config.hidden_size, config.num_attention_heads
    return Sizes(
        [Product(*shape, count) for shape, count in counted.items()],
        Product(config.vocab_size, width),
        config.num_hidden_layers,
        heads,
        getattr(config, "head_dim", None) or width // heads,
        rank,
    )


def operations(row: Row, model: Sizes) -> Iterator[tuple[str, float]]:
    """The operations of one row, forward and back, by product.

    A frozen matrix takes two operations per weight and token forward and two back, for the gradient
    of its input; its own gradient is not needed. An adapter's matrices take two forward and four
    back. Attention takes two products forward and four back over the pairs that see each other.
    """
    tokens, predicted = len(row.ids), len(row.labels)
    for p in model.products:
        yield p.name, 4 * tokens * p.out * p.into * p.layers
        yield "adapter", 6 * tokens * model.rank * (p.out + p.into) * p.layers
    yield model.head.name, 4 * predicted * model.head.out * model.head.into
    yield "attention", 12 * _pairs(row) * model.heads * model.head_size * model.layers


def _pairs(row: Row) -> int:
    """Count the (query, key) pairs of a row, piece by piece."""
    before = [0 if p.parent is None else row.pieces[p.parent].length for p in row.pieces]
    return sum(
        p.length * seen + p.length * (p.length + 1) // 2
        for p, seen in zip(row.pieces, before, strict=True)
    )


def rates(model: Sizes, dtype: str, tokens: int, predicted: int) -> dict[str, float]:
    """Operations per second of each product of the model, forward and back together.

    Args:
        model: The shapes.
        dtype: bf16 or fp32.
        tokens: Rows of a product's input: the tokens of a packed row.
        predicted: The same for the head: the tokens that are predicted.
    """
    found = {p.name: _rate(p, dtype, tokens) for p in model.products}
    found[model.head.name] = _rate(model.head, dtype, predicted)
    # The narrow products of adapters and attention are not measured; they get the best rate.
    found["adapter"] = found["attention"] = max(found.values())
    return found


def _rate(product: Product, dtype: str, tokens: int) -> float:
    import torch

    kind = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    x, w, g = (
        torch.randn(*size).to(kind)
        for size in ((tokens, product.into), (product.out, product.into), (tokens, product.out))
    )
    with torch.inference_mode():
        seconds = _best(lambda: x @ w.t()) + _best(lambda: g @ w)
    return 4 * tokens * product.out * product.into / seconds


def _best(call: Callable[[], object]) -> float:
    call()
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def seconds(steps: Sequence[Sequence[Row]], model: Sizes, rate: dict[str, float]) -> list[float]:
    """The floor of each step, given its rows."""
    return [
        sum(count / rate[name] for row in rows for name, count in operations(row, model))
        for rows in steps
    ]
