"""A base and its adapter as one folder in the format of ``transformers``.

Everything comes out of the GGUF file: weights, configuration and, where that is possible, the
tokenizer. Never touches the network. The folder:

    config.json  generation_config.json  model.safetensors  tokenizer.json  tokenizer_config.json
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from unicodedata import is_normalized

from lmsi_cli.errors import LmsiError
from lmsi_cli.training.header import read_meta
from lmsi_cli.training.load import quiet
from lmsi_cli.training.saved_adapter import with_adapter

if TYPE_CHECKING:
    from torch import nn

DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
             "chat_template.jinja", "vocab.json", "merges.txt", "added_tokens.json",
             "tokenizer.model")  # fmt: skip
# What tokenizers differ in: spaces, digits, case, line ends, other scripts, marks, code.
TEXTS = (
    "Hello world",
    " a leading space, and  two   three",
    "Line one\nLine two\r\n\n\nTab\there \n",
    "12345 1,234.50 3/4 100% $42 -7",
    "It's don't WE'LL CamelCase snake_case",
    "naïve café Straße — “quotes” … ½ €",
    "Привет мир, 你好世界 こんにちは 안녕하세요 مرحبا שלום नमस्ते",
    "🙂👍🏽 👩‍👩‍👧",
    "def f(x):\n    return {'a': [1, 2]}  # done",
    "Q: Tom has 3 boxes.\nA: Let's think step by step. 3 * 4 = 12. The answer is 12.",
    "\x07\u200b\ufeff",
)  # fmt: skip


ROUNDING = 1e-5  # of rotary frequencies in fp32, which are powers of a base
DECOMPOSED = "Caf" + "e\u0301"


class Tokenizer(NamedTuple):
    """Whether there is one in the folder, and how it compares or why it is missing."""

    written: bool
    note: str


def save_merged(gguf: Path, adapter_dir: Path, out: Path, kind: str) -> None:
    """Write the merged model's weights, as ``kind`` F16, BF16 or F32, and its configuration.

    LmsiError: transformers cannot load the base, or a folder could not say all that the file says.
    """
    import torch

    merged = with_adapter(gguf, adapter_dir, "fp32").merge_and_unload()  # type: ignore[operator]
    dtype = getattr(torch, DTYPES[kind])
    with torch.no_grad():
        merged = merged.to(dtype)
    if not all(bool(torch.isfinite(p).all()) for p in merged.parameters()):
        raise LmsiError(f"a weight does not fit {kind}", hint="export with --type F32")
    merged.config.use_cache, merged.config.dtype = True, dtype
    _scale_positions(merged.config, gguf)
    with quiet():
        merged.save_pretrained(str(out), safe_serialization=True)


def _scale_positions(config: Any, gguf: Path) -> None:  # noqa: ANN401 - transformers is untyped
    """Put the file's rotary factors into the configuration, in the terms of Llama 3.

    There a factor f is 1 for the fast frequencies and ``factor`` for the slow ones; in between, 1 /
    f rises with the turns that a frequency makes in the original context, evenly, from
    ``low_freq_factor`` turns to ``high_freq_factor``. Only the ratios of those three lengths are in
    the factors, so the lower one is set to 1, as in all models of that kind. LmsiError: the factors
    are others.
    """
    import numpy as np
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    factors = read_meta(gguf).rope_factors
    if factors is None:
        return
    plain = float(config.rope_parameters["rope_theta"]) ** -np.arange(0, 1, 1 / len(factors))
    top = float(factors.max())
    between = (factors > 1 + ROUNDING) & (factors < top * (1 - ROUNDING))
    if np.count_nonzero(between) > 1:
        rise = (1 / factors[between].astype(float) - 1 / top) / (1 - 1 / top)
        turns = plain[between] / (2 * np.pi)  # per token
        slope, start = map(float, np.polyfit(turns, rise, 1))
        config.rope_parameters |= {
            "rope_type": "llama3",
            "factor": round(top, 4),
            "low_freq_factor": 1.0,
            "high_freq_factor": round(1 - 1 / min(start, -1e-9), 4),
            "original_max_position_embeddings": round(-slope / min(start, -1e-9)),
        }
        made, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
        if np.allclose(made.numpy() * factors, plain, rtol=ROUNDING, atol=0):
            return
    message = f"{gguf}: its rotary factors have no place in a Hugging Face configuration"
    raise LmsiError(message, hint="export a merged GGUF: --to gguf")


def load_merged(folder: Path) -> nn.Module:
    """Load such a folder again, in fp32."""
    import torch
    from transformers import AutoModelForCausalLM

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32
        )
    return cast("nn.Module", model.eval())


def save_tokenizer(
    gguf: Path, out: Path, texts: Sequence[str], encode: Callable[[str], list[int]]
) -> Tokenizer:
    """Write the file's tokenizer for ``transformers``, unless it would give other ids.

    ``encode`` is the GGUF's own, through llama.cpp; they are compared on ``TEXTS`` and ``texts``.
    """
    from transformers import AutoTokenizer

    written, asked = False, (*TEXTS, *texts)
    try:
        with quiet():
            made = AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, local_files_only=True
            )
            made.save_pretrained(str(out))
            read = AutoTokenizer.from_pretrained(out, local_files_only=True)
    except Exception as e:  # noqa: BLE001 - many libraries behind it; none may cost the model
        note = f"transformers cannot make one of this file ({type(e).__name__})"
    else:
        other = [t for t in (*asked, DECOMPOSED) if list(read(t)["input_ids"]) != encode(t)]
        # transformers composes characters first where the original tokenizer does; llama.cpp never
        wrong = [t for t in other if is_normalized("NFC", t)]
        same = len(asked) - len(other) + (DECOMPOSED in other)
        written, note = not wrong, f"the same ids as llama.cpp's on {same} texts"
        if wrong:
            note = f"transformers' own gives other ids, as for {wrong[0][:40]!r}"
        elif other:
            note += "; other ones for characters that are written as letter and accent apart"
    if not written:
        for name in TOKENIZER:
            (out / name).unlink(missing_ok=True)
    return Tokenizer(written, note)
