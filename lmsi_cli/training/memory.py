"""How much memory a training run will take, known before anything is loaded.

A row is computed forwards and backwards with tensors that have sizes but no numbers, through the
very code that trains, and every byte that would be alive is counted. So no architecture has to be
known here; packing, checkpointing and types are counted as they are. Two shallow models tell what
a layer costs. Knows no free memory and no user. A forecast, in bytes:

    Footprint(process=610000000, weights=1840000000, adapter=140000000, row=2100000000,
              loading=330000000, proving=560000000)
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.records import Record
from lmsi_cli.splits import size_of
from lmsi_cli.training import attention, data, fused, heap, load, lora, schedule, step, weights

if TYPE_CHECKING:
    import torch
    from torch import nn

DEPTHS = (2, 4)  # layers of the shallow models; kinds of layers repeat at once or every other
ADAM = 4  # a number of the adapter has a gradient and two moments beside itself
# Measured: bytes per number of a slab that is dequantised, and what the libraries take when they
# are first used (kernels, threads' stacks, packed operands).
DEQUANTISING = 40
LIBRARIES = 150 << 20
# Copies of a block that are alive while its weights are gathered: as they come, and in place.
GATHERED = 2
# In bf16 the products that oneDNN keeps prepared, and the heap's holes, take more than is alive.
KEPT = {"bf16": 300 << 20, "fp32": 0}


class UnforeseenError(Exception):
    """The model goes other ways for other numbers (experts), so sizes alone foretell nothing."""


class Footprint(Record, frozen=True, kw_only=True):
    """Bytes of a training run: what stays, and what a phase needs beside it, one at a time.

    ``process`` is what was there before; ``adapter`` includes gradients and moments; ``proving``
    is llama.cpp with the same file, after the last step.
    """

    process: int
    weights: int
    adapter: int
    row: int
    loading: int
    proving: int

    @property
    def more(self) -> int:
        """Bytes beyond what the process has now."""
        return self.weights + max(self.loading, self.adapter + max(self.row, self.proving))

    @property
    def peak(self) -> int:
        """The largest resident size that the process will reach."""
        return self.process + self.more


class Outline(NamedTuple):
    """What a forecast needs of a model and of the examples."""

    meta: load.GgufMeta
    examples: Sequence[data.Unit]
    dtype: load.Dtype
    file_bytes: int = 0
    shares: int = 1  # processes that the weights of the blocks are spread over


def outline(
    gguf: Path, examples: Sequence[data.Unit], dtype: load.Dtype, shares: int = 1
) -> Outline:
    """Read what a forecast needs of a model's file."""
    return Outline(load.read_meta(gguf), examples, dtype, size_of(gguf), shares)


def forecast(run: Outline, config: TrainConfig, checkpointing: bool) -> Footprint:
    """Foretell the memory of a run.

    Args:
        run: The model's header, and the examples as they will be trained on.
        config: Settings of the run.
        checkpointing: Whether activations are computed twice instead of kept.

    Raises:
        UnforeseenError: Sizes alone do not tell.
    """
    model = shallow(run.meta, run.meta.blocks)
    layers = lora.adapted(model, config.target, config.layers, config.rank)
    numbers = config.rank * sum(sum(load.sizes(layer)) for layer in layers.values())
    blocks = len(lora.last(model, config.layers) or range(run.meta.blocks))
    longest = max(data.lengths(run.examples))
    budget = config.row_tokens if attention.supports(model.config, longest) else 0
    rows = largest(run.examples, config, budget)
    process, held, adapter = resident(), _weight_bytes(model, run), 4 * ADAM * numbers
    at_once = 2 if config.loss == "scpo" and not budget else 1  # a pair is two rows then
    holes = int((heap.GROWTH - 1) * (process + held + adapter))  # before they are given back
    return Footprint(
        process=process,
        weights=held,
        adapter=adapter,
        row=LIBRARIES
        + KEPT[run.dtype]
        + holes
        + at_once * max(_row_bytes(run, config, checkpointing, blocks, r) for r in rows),
        loading=LIBRARIES + DEQUANTISING * weights.SLAB,
        proving=LIBRARIES + run.file_bytes,
    )


def resident() -> int:
    """Bytes of this process that are in memory."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def shallow(meta: load.GgufMeta, depth: int) -> nn.Module:
    """The model that a header describes, but of ``depth`` layers, without numbers.

    More layers than it has repeat its kinds of layers, in order.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    settings = load.configuration(meta)
    settings.num_hidden_layers = depth
    if kinds := getattr(settings, "layer_types", None):
        settings.layer_types = list(islice(cycle(kinds), depth))
    with load.quiet(), init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(settings)
    model.tie_weights()
    return cast("nn.Module", model.requires_grad_(False))


def largest(examples: Sequence[data.Unit], config: TrainConfig, budget: int) -> list[data.Row]:
    """The rows of the whole plan that may need the most memory: by tokens, labels and scores."""
    best: dict[str, tuple[int, data.Row]] = {}
    for indices in schedule.plan(len(examples), config):
        for row in data.pack([examples[i] for i in indices], budget):
            for name, size in _sizes(row).items():
                if size > best.get(name, (-1, row))[0]:
                    best[name] = (size, row)
    found = {id(row): row for _, row in best.values()}
    return list(found.values())


def _sizes(row: data.Row) -> dict[str, int]:
    return {"tokens": len(row.ids), "labels": len(row.labels), "scores": scores(row)}


def scores(row: data.Row) -> int:
    """Pairs of tokens that attention compares in a row."""
    lengths = [piece.length for piece in row.pieces]
    return sum(
        length * sum(lengths[i] for i in attention.seen(row.pieces, number))
        for number, length in enumerate(lengths)
    )


def _weight_bytes(model: nn.Module, run: Outline) -> int:
    """All weights; of those that are spread this process's share, and a block that is gathered."""
    narrow = load.narrow_names(model) if run.dtype == "bf16" else frozenset()

    def held(part: nn.Module, prefix: str = "") -> int:
        named = part.named_parameters(prefix)
        return sum(p.numel() * (2 if name in narrow else 4) for name, p in named)

    if run.shares == 1:
        return held(model)
    blocks = [held(block, name) for name, block in load.blocks(model).items()]
    return held(model) - sum(blocks) + sum(blocks) // run.shares + GATHERED * max(blocks)


def _row_bytes(
    run: Outline, config: TrainConfig, checkpointing: bool, blocks: int, row: data.Row
) -> int:
    """The peak of a row beside weights, adapter and its gradients, drawn out from two depths."""
    try:
        few, more = (row_peak(run, config, checkpointing, depth, row) for depth in DEPTHS)
    except RuntimeError as e:  # what fake tensors raise where a number is asked for
        raise UnforeseenError from e
    return few + (more - few) * (blocks - DEPTHS[0]) // (DEPTHS[1] - DEPTHS[0])


def row_peak(
    run: Outline, config: TrainConfig, checkpointing: bool, depth: int, row: data.Row
) -> int:
    """The most bytes alive at once while a row goes through a shallow model and back.

    Args:
        run: The model and the type of its matrices.
        config: Rank, target and dropout of the adapter; every layer gets one.
        checkpointing: As in ``forecast``.
        depth: Layers of the shallow model.
        row: From ``data.pack``.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = shallow(run.meta, depth)
    narrow = load.narrow_names(model) if run.dtype == "bf16" else frozenset()
    thin = {id(p) for name, p in model.named_parameters() if name in narrow}
    everywhere = msgspec.structs.replace(config, layers="all")
    model = lora.add_lora(model, everywhere, "forecast")
    with FakeTensorMode(allow_non_fake_inputs=True):
        _give_sizes(model, thin)
        batch = data.to_batch(row)
        if batch.pieces is not None:
            attention.install(model)
        fused.replace(model)
        step.recompute(model, checkpointing)
        model.train()
        return _counted(model, lambda: step.row_loss(model, batch, run.dtype))


def _give_sizes(model: nn.Module, thin: set[int]) -> None:
    """Put a parameter of the CPU, without numbers, in the place of every one of no device."""
    import torch

    made: dict[int, nn.Parameter] = {}
    for part in model.modules():
        for name, old in part._parameters.items():
            if old is None:
                continue
            if id(old) not in made:
                kind = torch.bfloat16 if id(old) in thin else torch.float32
                fresh = torch.nn.Parameter(torch.empty(old.shape, dtype=kind), old.requires_grad)
                fresh.grad = torch.empty_like(fresh) if old.requires_grad else None
                made[id(old)] = fresh
            part._parameters[name] = made[id(old)]


def _counted(model: nn.Module, loss: Any) -> int:  # noqa: ANN401 - a function
    """The most bytes that computing and differentiating ``loss()`` holds at once."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    there = [t for p in model.parameters() for t in (p, p.grad) if t is not None]
    held = {t.untyped_storage()._cdata: 0 for t in there}
    now = most = 0

    def gone(key: int) -> None:
        nonlocal now
        now -= held.pop(key)

    def born(storage: torch.UntypedStorage) -> None:
        nonlocal now, most
        held[storage._cdata] = storage.nbytes()
        weakref.finalize(storage, gone, storage._cdata)
        now += storage.nbytes()
        most = max(most, now)

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, f, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
            out = f(*args, **(kwargs or {}))
            for leaf in tree_leaves(out):
                if isinstance(leaf, torch.Tensor):
                    storage = leaf.untyped_storage()
                    if storage._cdata not in held:
                        born(storage)
            return out

    with Watch():  # type: ignore[no-untyped-call]
        loss().backward()
    return most
