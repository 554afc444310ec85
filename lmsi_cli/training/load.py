"""From a GGUF file to a PyTorch model with the same weights.

Builds the model that the file's header describes and fills it a slab of rows at a time. Never
touches the network, runs no remote code and loads no tokenizer (token ids come from the GGUF's own,
through llama.cpp). Every tensor of the file must have its parameter, and every parameter but a bias
its tensor, so nothing is lost silently. Knows nothing of adapters or training. llama.cpp's own
table matches the names:

    load_base(Path("model.gguf"), "fp32")  ->  LlamaForCausalLM(...), frozen
    blk.0.attn_q.weight                    ->  model.layers.0.self_attn.q_proj.weight
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.errors import LmsiError
from lmsi_cli.splits import tensors
from lmsi_cli.training.architectures import family, order, settings
from lmsi_cli.training.header import ROPE, GgufMeta, read_meta, untrainable

if TYPE_CHECKING:
    import torch
    from gguf import ReaderTensor
    from torch import nn

Dtype = Literal["bf16", "fp32"]
# Numbers dequantised at once; numpy's intermediate results take some ten times the memory.
SLAB = 1 << 22


def skeleton(gguf: Path) -> nn.Module:
    """Build the model of a file on the meta device; LmsiError: it cannot be trained, and why."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    meta = read_meta(gguf)
    try:
        with quiet(), init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(configuration(meta))
    except (ValueError, NotImplementedError, KeyError, RuntimeError, TypeError, ImportError) as e:
        raise untrainable(
            f"transformers cannot build architecture '{meta.architecture}' of this file",
            hint=f"{type(e).__name__}: {e}".splitlines()[0],
        ) from e
    model.tie_weights()  # again: on the meta device, each end got a parameter of its own
    return cast("nn.Module", model)


def configuration(meta: GgufMeta) -> Any:  # noqa: ANN401 - transformers is untyped
    """The transformers configuration that a header describes, with all dropout off."""
    from transformers import AutoConfig

    kind = family(meta).model_type
    plain = AutoConfig.for_model(kind)
    known = {*plain.to_dict(), *plain.attribute_map, "rope_parameters", "head_dim"}
    fixed = {name for name in known if isinstance(getattr(type(plain), name, None), property)}
    fields = {
        plain.attribute_map.get(name, name): value
        for name, value in settings(meta).items()
        if name in known - fixed
    }
    # The base is frozen and llama.cpp has no dropout; special tokens are llama.cpp's business.
    off = {name: 0.0 for name in known if name.endswith(("dropout", "pdrop"))}
    none = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))
    return AutoConfig.for_model(kind, **{**off, **none, **fields, "use_cache": False})


def load_base(gguf: Path, dtype: Dtype) -> nn.Module:
    """Load the GGUF file's weights into a frozen PyTorch model in evaluation mode.

    In fp32 every weight is the number in the file. In bf16 the matrices inside the blocks and the
    head are stored as bf16: autocast would round them the same way at every step. So is the table
    of embeddings, which is often the head itself; its rows come out as fp32. Everything else stays
    fp32. Beside the model itself, no more than a slab of one tensor is in memory at a time.

    LmsiError: the architecture cannot be loaded, or the file has too many or too few tensors.
    """
    import torch

    meta, model = read_meta(gguf), skeleton(gguf)
    by_name = _places(model, meta)
    absent = _absent(by_name, meta)
    if dtype == "bf16":
        ends = (model.get_input_embeddings(), model.get_output_embeddings())  # type: ignore[operator]
        for part in [*block_linears(model).values(), *ends]:
            part.weight = torch.nn.Parameter(part.weight.to(torch.bfloat16), requires_grad=False)
        model.tie_weights()  # type: ignore[operator]
    for name, p in list(model.named_parameters()):  # no memory is taken before it is written
        owner, _, leaf = name.rpartition(".")
        whole = torch.nn.Parameter(torch.empty_like(p, device="cpu"), requires_grad=False)
        setattr(model.get_submodule(owner), leaf, whole)
    for name in absent:  # llama.cpp adds no bias where the file has none
        _target(model, *by_name[name]).zero_()
    for tensor in tensors(gguf):
        if tensor.name in by_name:
            target = _target(model, *by_name[tensor.name])
            for where, values in _slabs(tensor, target.shape, meta):
                target[where] = values.to(target.dtype)
    model.tie_weights()  # type: ignore[operator]
    if dtype == "bf16":
        from lmsi_cli.training.kernels import Words

        model.set_input_embeddings(Words(model.get_input_embeddings()))  # type: ignore[operator]
    if meta.rope_factors is not None:
        _scale_rope(model, meta.rope_factors)
    return model.requires_grad_(False).eval()


def block_linears(model: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer inside the blocks by its full name; the output head is left out.

    Layers with a single output (gates of experts) are left out, too: llama.cpp stores them as
    vectors and takes no adapter for them.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, (nn.Linear, Conv1D))
        and any(step.isdigit() for step in name.split("."))
        and sizes(part)[0] > 1
    }


def sizes(layer: nn.Module) -> tuple[int, int]:
    """Outputs and inputs of a linear layer, of whichever kind."""
    rows, columns = cast("tuple[int, int]", tuple(layer.weight.shape))  # type: ignore[arg-type]
    return (rows, columns) if hasattr(layer, "out_features") else (columns, rows)


def _scale_rope(model: nn.Module, factors: NDArray[np.float32]) -> None:
    """Divide the rotary frequencies by the file's factors, which ``configuration`` leaves out."""
    found = 0
    for part in model.modules():
        frequencies = getattr(part, "inv_freq", None)
        if frequencies is not None and frequencies.shape == factors.shape:
            frequencies.div_(frequencies.new_tensor(factors))
            found += 1
    if not found:
        raise untrainable(
            "the file scales positions by rope_freqs in a way that transformers does not"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the bars, logs and warnings of transformers; ours go through ``Progress``."""
    from transformers.utils import logging as hf

    level, bars = hf.get_verbosity(), hf.is_progress_bar_enabled()
    hf.set_verbosity(logging.CRITICAL)
    hf.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf.set_verbosity(level)
        if bars:
            hf.enable_progress_bar()


def name_in_file(ours: str, meta: GgufMeta) -> str | None:
    """The file's name for a name in transformers, with or without suffix; None: it has none."""
    table = _table(meta.architecture, meta.blocks)
    # Some tables leave out the outermost module.
    spellings = (ours, ours.partition(".")[2]) if table is not None else ()
    found = (table.get_name(name, try_suffixes=(".weight", ".bias")) for name in spellings)
    return next((str(name) for name in found if name), None)


@lru_cache(maxsize=4)
def _table(architecture: str, blocks: int) -> Any:  # noqa: ANN401 - untyped library
    """The name table of gguf, cached: it is read once a layer, and making it takes 20 ms."""
    import gguf

    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}.get(architecture)
    return gguf.get_tensor_name_map(arch, blocks) if arch is not None else None


def _places(model: nn.Module, meta: GgufMeta) -> dict[str, tuple[str, int | None]]:
    """Where each tensor of the file goes, by its name in the file: a parameter, and which half.

    The half is 0 or 1 where two tensors of the file share a parameter (an expert's gate and up).
    """
    found: dict[str, tuple[str, int | None]] = {}
    for ours, _ in model.named_parameters():
        theirs = name_in_file(ours, meta) or ours
        if ours.endswith("experts.gate_up_proj"):
            block = next(step for step in ours.split(".") if step.isdigit())
            found[f"blk.{block}.ffn_gate_exps.weight"] = ours, 0
            found[f"blk.{block}.ffn_up_exps.weight"] = ours, 1
        else:
            whole = theirs.endswith((".weight", ".bias"))
            found[theirs if whole else f"{theirs}.weight"] = ours, None
    return found


def _absent(places: Collection[str], meta: GgufMeta) -> set[str]:
    """The biases that the file lacks; LmsiError: it lacks more, or has what has no place."""
    absent = set(places) - set(meta.shapes)
    lost = sorted(set(meta.shapes) - set(places) - set(ROPE))
    missing = sorted(name for name in absent if not name.endswith(".bias"))
    if lost or missing:
        what = f"no place for {lost[0]}" if lost else f"no weights for {missing[0]}"
        raise untrainable(
            f"{what} and {len(lost or missing) - 1} more tensors of "
            f"architecture '{meta.architecture}' in transformers"
        )
    return absent


def _target(model: nn.Module, parameter: str, half: int | None) -> torch.Tensor:
    """The part of a parameter that one tensor of the file fills, in the file's order of axes."""
    from transformers.pytorch_utils import Conv1D  # stores its matrix as (in, out); GPT-2's layers

    owner, _, leaf = parameter.rpartition(".")
    module = model.get_submodule(owner)
    target = cast("torch.Tensor", getattr(module, leaf))
    if half is not None:
        return target.chunk(2, dim=1)[half]
    return target.T if leaf == "weight" and isinstance(module, Conv1D) else target


def _slabs(
    tensor: ReaderTensor, shape: Sequence[int], meta: GgufMeta
) -> Iterator[tuple[Any, torch.Tensor]]:
    """Dequantise a tensor of the file piece by piece; ``shape`` is that of the part it fills.

    Yields each piece's index in that part and its numbers in fp32. LmsiError: the sizes differ, or
    the numbers cannot be read.
    """
    import torch

    theirs, rows = meta.shapes[tensor.name], order(tensor.name, meta)
    shift = float(family(meta).shifted and tensor.name.endswith("norm.weight"))
    if torch.Size(shape).numel() != torch.Size(theirs).numel():
        raise untrainable(
            f"{tensor.name} is {theirs} in the file and {tuple(shape)} in transformers"
        )
    if len(theirs) != 2 or len(shape) != 2:
        values = torch.from_numpy(numbers(tensor, tensor.data)) - shift
        yield (..., (values if rows is None else values[rows.argsort()]).reshape(tuple(shape)))
        return
    step = max(1, SLAB // theirs[-1])
    for start in range(0, theirs[0], step):
        where = slice(start, start + step) if rows is None else rows[start : start + step]
        yield where, torch.from_numpy(numbers(tensor, tensor.data[start : start + step]))


def numbers(tensor: ReaderTensor, data: NDArray[Any]) -> NDArray[np.float32]:
    """Dequantise rows of a tensor; LmsiError: gguf cannot, or a number is infinite or NaN."""
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
