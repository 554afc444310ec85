"""An adapter as it lies on the disk in PEFT's format: its files are checked, and read by PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object
from lmsi_cli.training.adapter import CONFIG, WEIGHTS
from lmsi_cli.training.load import Dtype, load_base, quiet

if TYPE_CHECKING:
    from torch import nn

ANEW = "bring the file back, or train again: lmsi train RUN --overwrite"


def check_files(folder: Path) -> dict[str, Any]:
    """Refuse an adapter whose files are missing, torn or another kind's; returns its settings.

    Raises:
        LmsiError: Names the file.
    """
    saved = read_object(folder / CONFIG)
    if saved.get("peft_type") != "LORA" or not isinstance(saved.get("r"), int):
        raise LmsiError(f"{folder / CONFIG}: not the settings of a LoRA adapter", hint=ANEW)
    _names(folder)
    return saved


def _names(folder: Path) -> set[str]:
    """The names of the saved matrices."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / WEIGHTS, "np") as file:
            return set(file.keys())
    except (OSError, SafetensorError) as e:
        raise LmsiError(f"{folder / WEIGHTS}: cannot be read: {e}", hint=ANEW) from e


def with_adapter(gguf: Path, folder: Path, dtype: Dtype) -> nn.Module:
    """The file's own weights with a saved adapter, as PEFT reads it: what llama.cpp will run.

    Args:
        gguf: The base.
        folder: The adapter in PEFT's format.
        dtype: Of the matrix products.

    Raises:
        LmsiError: transformers cannot load the base, or PEFT the adapter, or only a part of it.
    """
    import peft

    check_files(folder)
    base = load_base(gguf, dtype)
    try:
        with quiet():
            model = peft.PeftModel.from_pretrained(base, str(folder)).eval()
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as e:
        reason = f"{type(e).__name__}: {e}".splitlines()[0]
        raise LmsiError(f"{folder}: PEFT cannot read this adapter: {reason}", hint=ANEW) from e
    # PEFT leaves what it does not find as it begins, with no more than a warning.
    if set(peft.get_peft_model_state_dict(model, save_embedding_layers=False)) != _names(folder):
        raise LmsiError(f"{folder / WEIGHTS}: not the matrices that {CONFIG} tells of", hint=ANEW)
    return cast("nn.Module", model)
