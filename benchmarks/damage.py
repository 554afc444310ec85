"""Models that are worse than they were: quantised hard, or with noise in every matrix.

    damaged("noise:0.3", work, None) -> work/noise-0.3.gguf, made once

The noise of a matrix is normal, and its standard deviation that share of the matrix's own; the
seed is fixed, so a damaged model is the same model every time. Norms are left alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lmsi_cli.catalog import find_model

SEED = 5


def damaged(name: str, work: Path, pretrained: Path | None) -> Path:
    """Find or make a model.

    Args:
        name: ``tinymath``, ``pretrained``, ``noise:SHARE`` or ``q2_k``.
        work: Where made models go.
        pretrained: The file that ``pretrained`` stands for.
    """
    if name == "pretrained":
        assert pretrained is not None
        return pretrained.absolute()
    source = find_model("tinymath").path
    if name == "tinymath":
        return source.absolute()
    target = work / f"{name.replace(':', '-')}.gguf"
    if not target.exists():
        part = target.with_suffix(".part")
        _quantised(source, part) if name == "q2_k" else _noisy(source, part, float(name[6:]))
        part.replace(target)
    return target


def _noisy(source: Path, target: Path, share: float) -> None:
    import gguf
    import numpy as np

    shutil.copyfile(source, target)
    rng = np.random.default_rng(SEED)
    for tensor in gguf.GGUFReader(target, "r+").tensors:
        if tensor.data.ndim == 2:
            weights = tensor.data.astype(np.float32)
            noise = rng.standard_normal(weights.shape, dtype=np.float32) * weights.std() * share
            tensor.data[:] = (weights + noise).astype(tensor.data.dtype)


def _quantised(source: Path, target: Path) -> None:
    import llama_cpp

    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q2_K
    failed = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), settings)
    if failed:
        raise SystemExit(f"{source}: llama.cpp cannot quantise it")
