"""From a GGUF file to a PyTorch model with the same weights.

Reads the file with ``transformers``, which dequantises it; never touches the network, runs no
remote code and takes no tokenizer (token ids come from the GGUF's own, through llama.cpp). Does
not know about adapters or training. What it reads of a file before loading it:

    GgufMeta(architecture='llama', blocks=8, heads=8, kv_heads=4,
             shapes={'blk.0.attn_q.weight': (512, 512), ...}, rope_factors=None)
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from lmsi_cli.errors import LmsiError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

Dtype = Literal["bf16", "fp32"]

# transformers reads these from GGUF but skips steps that llama.cpp's converter takes for them,
# so the adapter's rows would not line up with the file's.
UNFAITHFUL = frozenset({"bloom", "falcon", "gpt2", "mamba", "t5", "t5encoder"})


class GgufMeta(NamedTuple):
    """What training and export must know of a GGUF file.

    ``shapes`` maps a tensor's name to (rows, columns) as PyTorch counts them; ``rope_factors``
    divides the rotary frequencies (Llama 3.1 and later), shape (head_dim / 2,).
    """

    architecture: str
    blocks: int
    heads: int
    kv_heads: int
    shapes: dict[str, tuple[int, ...]]
    rope_factors: NDArray[np.float32] | None


def pick_dtype(wanted: str) -> Dtype:
    """Choose the arithmetic of training.

    ``auto`` takes bf16 only where the CPU multiplies it natively: emulated bf16 is slower than
    fp32 (PEFT issue 1977 saw a factor of 65).

    Raises:
        LmsiError: ``wanted`` is none of auto, bf16, fp32.
    """
    if wanted in ("bf16", "fp32"):
        return cast(Dtype, wanted)
    if wanted != "auto":
        raise LmsiError(f"dtype '{wanted}' is unknown", hint="use auto, bf16 or fp32")
    return "bf16" if _native_bf16() else "fp32"


def _native_bf16() -> bool:
    import torch

    # get_capabilities came with torch 2.10; the private names answer for older ones.
    tell = getattr(torch.cpu, "get_capabilities", None)
    if tell is not None:
        flags = tell()
        return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def read_meta(gguf: Path) -> GgufMeta:
    """Read a GGUF file's header; the weights stay on disk.

    Raises:
        LmsiError: The file is not there or is not a GGUF file.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(gguf)
    except (OSError, ValueError, KeyError) as e:
        raise LmsiError(f"{gguf}: not a readable GGUF file: {e}") from None
    arch = str(_field(reader, "general.architecture", "unknown"))
    heads = _one(_field(reader, f"{arch}.attention.head_count", 0))
    factors = next((t.data for t in reader.tensors if t.name == "rope_freqs.weight"), None)
    return GgufMeta(
        architecture=arch,
        blocks=_one(_field(reader, f"{arch}.block_count", 0)),
        heads=heads,
        kv_heads=_one(_field(reader, f"{arch}.attention.head_count_kv", heads)),
        shapes={t.name: tuple(int(n) for n in reversed(t.shape)) for t in reader.tensors},
        rope_factors=None if factors is None else factors.astype("float32"),
    )


def _field(reader: Any, key: str, default: object) -> Any:  # noqa: ANN401 - untyped library
    field = reader.get_field(key)
    return default if field is None else field.contents()


def _one(value: Any) -> int:  # noqa: ANN401 - a number, or one number per layer
    return int(max(value)) if isinstance(value, list) else int(value)


def skeleton(gguf: Path) -> nn.Module:
    """Build the model that ``gguf`` describes without any weights (meta device).

    Raises:
        LmsiError: transformers cannot load this architecture.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with _refusing(gguf), quiet():
        settings = AutoConfig.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True
        )
        with torch.device("meta"):
            return cast("nn.Module", AutoModelForCausalLM.from_config(settings))


def load_base(gguf: Path, dtype: Dtype) -> nn.Module:
    """Load the GGUF file's weights into a frozen PyTorch model in evaluation mode.

    In fp32 every weight is the number in the file. In bf16 the matrices inside the blocks are
    stored as bf16: autocast would round them the same way at every step, so the arithmetic is
    unchanged and memory falls to a third; embeddings, norms and the head stay fp32.

    Args:
        gguf: The model file; quantised files are dequantised.
        dtype: From ``pick_dtype``.

    Raises:
        LmsiError: The architecture cannot be loaded, or the file lacks tensors of it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    meta = read_meta(gguf)
    with _refusing(gguf), quiet():
        model, info = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    # transformers fills what it does not find with random numbers and only warns.
    if missing := sorted(info["missing_keys"]):
        raise LmsiError(
            f"{gguf.name}: training is not possible: no weights for {missing[0]}"
            f" and {len(missing) - 1} more; sampling and voting work"
        )
    model.config.use_cache = False
    model.requires_grad_(False)
    if meta.rope_factors is not None:
        _scale_rope(model, meta.rope_factors)
    if dtype == "bf16":
        _narrow(model)
    return cast("nn.Module", model.eval())


def block_linears(model: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer inside the blocks by its full name; the output head is left out."""
    from torch import nn

    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and any(step.isdigit() for step in name.split("."))
    }


def _narrow(model: nn.Module) -> None:
    import torch

    for linear in block_linears(model).values():
        linear.to(torch.bfloat16)


def _scale_rope(model: nn.Module, factors: NDArray[np.float32]) -> None:
    # llama.cpp divides the rotary angles by the file's factors; transformers drops the tensor.
    import torch

    for part in model.modules():
        frequencies = getattr(part, "inv_freq", None)
        if isinstance(frequencies, torch.Tensor) and frequencies.shape == factors.shape:
            frequencies.div_(torch.from_numpy(factors))


@contextmanager
def _refusing(gguf: Path) -> Iterator[None]:
    """Turn transformers' ways of refusing a file into one message, before and while loading."""
    arch = read_meta(gguf).architecture
    refusal = LmsiError(
        f"training is not possible: transformers cannot load architecture '{arch}'"
        " from GGUF; sampling and voting work"
    )
    if arch in UNFAITHFUL:
        raise refusal
    _beware_adapter_folder(gguf)
    try:
        yield
    except (ValueError, NotImplementedError, KeyError, RuntimeError, TypeError) as e:
        refusal.hint = f"{type(e).__name__}: {e}".splitlines()[0]
        raise refusal from e


def _beware_adapter_folder(gguf: Path) -> None:
    # transformers would load the adapter lying there, or follow it to another base model.
    if (gguf.parent / "adapter_config.json").exists():
        raise LmsiError(
            f"{gguf.parent} holds an adapter beside the model",
            hint="move the GGUF file to a folder of its own",
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the bars, logs and warnings of transformers; ours go through ``Progress``."""
    import transformers.modeling_gguf_pytorch_utils as reader
    from transformers.utils import logging as hf

    level, bars, bar = hf.get_verbosity(), hf.is_progress_bar_enabled(), reader.tqdm
    hf.set_verbosity(logging.CRITICAL)
    hf.disable_progress_bar()
    reader.tqdm = lambda items, **_: items
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        reader.tqdm = bar
        hf.set_verbosity(level)
        if bars:
            hf.enable_progress_bar()
