"""From a GGUF file to a PyTorch model with the same weights.

Builds the model that the file's header describes and fills it; never touches the network, runs
no remote code and takes no tokenizer (token ids come from the GGUF's own, through llama.cpp).
Does not know about adapters or training.

    load_base(Path("model.gguf"), "fp32")  ->  LlamaForCausalLM(...), frozen
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from lmsi_cli.errors import LmsiError
from lmsi_cli.training.architectures import family, settings
from lmsi_cli.training.header import GgufMeta, read_meta
from lmsi_cli.training.weights import fill

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

Dtype = Literal["bf16", "fp32"]


def skeleton(gguf: Path) -> nn.Module:
    """Build the model that ``gguf`` describes, with parameters that hold no numbers yet.

    LmsiError: the architecture, or something in this file, cannot be trained; says what.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    meta = read_meta(gguf)
    family(meta)
    try:
        with quiet(), init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(configuration(meta))
    except (ValueError, NotImplementedError, KeyError, RuntimeError, TypeError, ImportError) as e:
        raise LmsiError(
            f"training is not possible: transformers cannot build architecture "
            f"'{meta.architecture}' of this file; sampling and voting work",
            hint=f"{type(e).__name__}: {e}".splitlines()[0],
        ) from e
    model.tie_weights()  # again: without numbers, each end got a parameter of its own
    return cast("nn.Module", model)


def configuration(meta: GgufMeta) -> Any:  # noqa: ANN401 - transformers is untyped
    """The configuration of transformers that a header stands for, without any dropout."""
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
    # The base is frozen and llama.cpp drops nothing out; token numbers are llama.cpp's business.
    off = {name: 0.0 for name in known if name.endswith(("dropout", "pdrop"))}
    none = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))
    return AutoConfig.for_model(kind, **{**off, **none, **fields, "use_cache": False})


def load_base(gguf: Path, dtype: Dtype) -> nn.Module:
    """Load the GGUF file's weights into a frozen PyTorch model in evaluation mode.

    In fp32 every weight is the number in the file. In bf16 the matrices inside the blocks are
    stored as bf16: autocast would round them the same way at every step, so the arithmetic is
    unchanged and memory falls to a third; embeddings, norms and the head stay fp32. Beside the
    model itself, no more than a slab of one tensor is in memory at a time.

    LmsiError: the architecture cannot be loaded, or the file has tensors too many or too few.
    """
    meta = read_meta(gguf)
    model = skeleton(gguf)
    narrow = block_linears(model).items() if dtype == "bf16" else ()
    names = {f"{name}.{leaf}" for name, part in narrow for leaf, _ in part.named_parameters()}
    fill(model, gguf, meta, frozenset(names))
    model.tie_weights()  # type: ignore[operator]
    if meta.rope_factors is not None:
        _scale_rope(model, meta.rope_factors)
    return model.requires_grad_(False).eval()


def block_linears(model: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer inside the blocks by its full name; the output head is left out.

    Also without layers of a single output, which are gates of experts: llama.cpp holds them as
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
    """Divide the rotary angles by the file's factors, which no configuration has room for."""
    import torch

    found = 0
    for part in model.modules():
        frequencies = getattr(part, "inv_freq", None)
        if isinstance(frequencies, torch.Tensor) and frequencies.shape == factors.shape:
            frequencies.div_(torch.from_numpy(factors))
            found += 1
    if not found:
        raise LmsiError(
            "training is not possible: the file scales positions by rope_freqs in a way that "
            "transformers does not; sampling and voting work"
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
