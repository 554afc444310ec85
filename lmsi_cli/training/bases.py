"""The weights that a training stands on: the file's own, or its originals, proven to be its model.

llama.cpp's logits come as numbers; this calls no llama.cpp. What it says of originals:

    Qwen2.5-0.5B is the model of the GGUF file: Q4_K lies up to 7.82% from its weights
    (blk.3.ffn_up.weight), 4.39% from its logits
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.training.load import Dtype, load_base, quiet
from lmsi_cli.training.origin import Original, load_original
from lmsi_cli.training.verify import Witness, check_base, gap, torch_logits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    Logits = NDArray[np.float32]

# Logits that lie this far apart by rounding alone, and how much more they may than the weights:
# measured up to 0.6 times as far on tinymath and 3.5 times on two random layers.
ROUNDING, AMPLIFIED = 0.03, 4.5


def load_proven(
    gguf: Path, folder: str, dtype: Dtype, witness: Witness | None, say: Callable[[str], None]
) -> tuple[nn.Module, Original | None]:
    """Load the weights to train over, frozen, on the CPU, and compare them with llama.cpp.

    Args:
        gguf: The file that will run the adapter.
        folder: Of the originals; empty for the file's own weights.
        dtype: Of the matrix products.
        witness: What llama.cpp computes from the file; without one that comparison is left out.
        say: Told what was found of a folder.

    Returns:
        The model, and what is known of the folder.

    Raises:
        LmsiError: They cannot be loaded, or are another model; says what differs.
    """
    original = None
    if folder:
        model, original = load_original(Path(folder).expanduser(), gguf, dtype, say)
    else:
        model = load_base(gguf, dtype)
    if witness is None:
        return model, original
    ours = torch_logits(model, dtype)(witness.prompts, True)
    if original is None:
        check_base(ours, witness.logits)
        return model, None
    original = same_logits(original, ours, witness.logits)
    say(told(original))
    return model, original


def same_logits(original: Original, ours: Logits, llama: Logits) -> Original:
    """Compare PyTorch on the folder with llama.cpp on the file.

    Where the weights agree, this finds what the settings did not tell, such as positions that are
    scaled on one side only.

    Args:
        original: From ``origin.load_original``.
        ours: PyTorch's next-token logits, (prompts, vocabulary).
        llama: llama.cpp's of the same prompts.

    Returns:
        The record with ``logits``.

    Raises:
        LmsiError: They lie further apart than the weights can explain.
    """
    apart = gap(llama, ours)
    limit = ROUNDING + AMPLIFIED * original.weights
    if not apart <= limit:
        raise LmsiError(
            f"{original.folder} is not the model of the GGUF file: the logits lie {apart:.1%} "
            f"apart, and weights in {original.file_type} explain {limit:.1%}",
            hint="take the folder that the file was made from, or train without --base",
        )
    return msgspec.structs.replace(original, logits=apart)


def told(original: Original) -> str:
    """What was found, in one line."""
    return (
        f"{original.folder} is the model of the GGUF file: {original.file_type} lies up to "
        f"{original.weights:.2%} from its weights ({original.worst}), {original.logits:.2%} from "
        "its logits"
    )


def adapted(gguf: Path, adapter: Path, dtype: Dtype) -> nn.Module:
    """The file's own weights with a saved adapter: what llama.cpp will run, for the proof.

    Args:
        gguf: The file, not the folder that was trained on.
        adapter: Folder in PEFT's format.
        dtype: From ``load.pick_dtype``.
    """
    from peft import PeftModel

    base = load_base(gguf, dtype)
    with quiet():
        return cast("nn.Module", PeftModel.from_pretrained(base, str(adapter)).eval())
