"""Fills a PyTorch model with the numbers of a GGUF file, a slab of rows at a time.

Every tensor of the file must find its place and every parameter its tensor, so nothing is lost
in silence. Does not know configurations or adapters. Names meet through llama.cpp's own table:

    blk.0.attn_q.weight  ->  model.layers.0.self_attn.q_proj.weight
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lmsi_cli.errors import LmsiError
from lmsi_cli.splits import tensors
from lmsi_cli.training.architectures import family, order
from lmsi_cli.training.header import ROPE, GgufMeta

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

# Numbers that are dequantised at once; numpy's intermediate results take some ten times as much.
SLAB = 1 << 22


class Place(NamedTuple):
    """Where a tensor of the file goes: a parameter, and which part of it.

    ``half`` is 0 or 1 where two tensors of the file share a parameter (an expert's gate and up).
    """

    parameter: str
    half: int | None = None


def namer(meta: GgufMeta) -> Callable[[str], str | None]:
    """From a name in transformers, with or without its suffix, to the file's."""
    table = _table(meta.architecture, meta.blocks)

    def name(ours: str) -> str | None:
        if table is None:
            return None
        # Some tables leave out the outermost module.
        for spelling in (ours, ours.partition(".")[2]):
            found = table.get_name(spelling, try_suffixes=(".weight", ".bias"))
            if found:
                return str(found)
        return None

    return name


@lru_cache(maxsize=4)
def _table(architecture: str, blocks: int) -> Any:  # noqa: ANN401 - untyped library
    """The names that gguf knows; they are asked for once a layer, and making them takes 20 ms."""
    import gguf

    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}.get(architecture)
    return gguf.get_tensor_name_map(arch, blocks) if arch is not None else None


def places(model: nn.Module, meta: GgufMeta) -> dict[str, Place]:
    """Where each tensor of the file goes, by its name there."""
    name = namer(meta)
    by_name: dict[str, Place] = {}
    for ours, _ in model.named_parameters():
        theirs = name(ours) or ours
        if ours.endswith("experts.gate_up_proj"):
            block = next(step for step in ours.split(".") if step.isdigit())
            by_name[f"blk.{block}.ffn_gate_exps.weight"] = Place(ours, 0)
            by_name[f"blk.{block}.ffn_up_exps.weight"] = Place(ours, 1)
        else:
            whole = theirs.endswith((".weight", ".bias"))
            by_name[theirs if whole else f"{theirs}.weight"] = Place(ours)
    return by_name


def fill(model: nn.Module, gguf: Path, meta: GgufMeta, narrow: frozenset[str]) -> None:
    """Put the file's weights into a model on the meta device; its parameters become frozen ones.

    Those named in ``narrow`` are held as bf16, all others as fp32.

    LmsiError: a tensor has no place, a parameter no tensor, the type cannot be dequantised, or a
    weight is infinite or not a number; says which.
    """
    import torch

    by_name = places(model, meta)
    absent = set(by_name) - set(meta.shapes)
    lost = sorted(set(meta.shapes) - set(by_name) - set(ROPE))
    missing = sorted(name for name in absent if not name.endswith(".bias"))
    if lost or missing:
        what = f"no place for {lost[0]}" if lost else f"no weights for {missing[0]}"
        raise LmsiError(
            f"training is not possible: {what} and {len(lost or missing) - 1} more tensors of "
            f"architecture '{meta.architecture}' in transformers; sampling and voting work"
        )
    made: dict[str, torch.Tensor] = {}

    def target(place: Place) -> torch.Tensor:
        if place.parameter not in made:  # a frozen one in place of that without numbers
            owner, _, leaf = place.parameter.rpartition(".")
            own = model.get_submodule(owner)._parameters
            dtype = torch.bfloat16 if place.parameter in narrow else torch.float32
            made[place.parameter] = torch.empty(own[leaf].shape, dtype=dtype)  # type: ignore[union-attr]
            own[leaf] = torch.nn.Parameter(made[place.parameter], requires_grad=False)
        return _part(model, made[place.parameter], place)

    for name in absent:  # llama.cpp adds no bias where the file has none
        target(by_name[name]).zero_()
    for tensor in tensors(gguf):
        if place := by_name.get(tensor.name):
            whole = target(place)
            for where, values in _slabs(tensor, whole.shape, meta):
                whole[where] = values.to(whole.dtype)


def _part(model: nn.Module, target: torch.Tensor, place: Place) -> torch.Tensor:
    """The part of a parameter that one tensor of the file fills, in the file's order of axes."""
    from transformers.pytorch_utils import Conv1D  # stores its matrix as (in, out); GPT-2's layers

    if place.half is not None:
        size = target.shape[1] // 2
        return target[:, place.half * size : (place.half + 1) * size]
    owner, _, leaf = place.parameter.rpartition(".")
    turned = leaf == "weight" and isinstance(model.get_submodule(owner), Conv1D)
    return target.T if turned else target


def _slabs(
    tensor: Any,  # noqa: ANN401 - untyped
    shape: Sequence[int],
    meta: GgufMeta,
) -> Iterator[tuple[Any, torch.Tensor]]:
    """Dequantise a tensor of the file piece by piece.

    ``shape`` is that of the part of the parameter that it fills, in the file's order of axes.
    Yields where the piece belongs in that part, an index, and its numbers in fp32. LmsiError: the
    sizes differ, or the numbers cannot be read.
    """
    import torch

    theirs, rows = meta.shapes[tensor.name], order(tensor.name, meta)
    shift = float(family(meta).shifted and tensor.name.endswith("norm.weight"))
    if torch.Size(shape).numel() != torch.Size(theirs).numel():
        raise LmsiError(
            f"training is not possible: {tensor.name} is {theirs} in the file and "
            f"{tuple(shape)} in transformers; sampling and voting work"
        )
    if len(theirs) != 2 or len(shape) != 2:
        values = torch.from_numpy(numbers(tensor, tensor.data)) - shift
        yield (..., (values if rows is None else values[rows.argsort()]).reshape(tuple(shape)))
        return
    step = max(1, SLAB // theirs[-1])
    for start in range(0, theirs[0], step):
        where = slice(start, start + step) if rows is None else rows[start : start + step]
        yield where, torch.from_numpy(numbers(tensor, tensor.data[start : start + step]))


def numbers(tensor: Any, data: NDArray[Any]) -> NDArray[np.float32]:  # noqa: ANN401 - untyped
    """Dequantise rows of a tensor.

    LmsiError: no code for this type, or a number is infinite or none at all.
    """
    import numpy as np
    from gguf import dequantize

    try:
        values = dequantize(np.ascontiguousarray(data), tensor.tensor_type)
    except NotImplementedError:
        raise LmsiError(
            f"{tensor.data.filename}: {tensor.name} is stored as {tensor.tensor_type.name}, which "
            "cannot be dequantised here; sampling and voting work",
            hint="take a file in another quantisation, such as Q8_0 or Q4_K_M",
        ) from None
    if not np.isfinite(values).all():
        raise LmsiError(
            f"{tensor.data.filename}: {tensor.name} holds numbers that are infinite or none at all "
            "(a weight beyond 65,504 does not fit F16)",
            hint="convert the model to BF16 or Q8_0 again",
        )
    return np.array(values, dtype=np.float32)
