"""Repacked weights: the same model up to rounding, and never beside PyTorch in one process."""

import subprocess
import sys

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader

from lmsi_cli.engine import cpu_check
from lmsi_cli.engine.fast_copy import check_kind, quantise
from lmsi_cli.training.verify import gap

MIXED = ("F16", "Q4_0", "Q8_0", "Q4_K", "Q6_K")  # one matrix after the other
WIDTHS = (1, 8, 33, 64)  # one token, fewer than a tile's rows, a tile and one more, whole tiles
LOGITS = """
import sys
from pathlib import Path
import numpy as np
from lmsi_cli.engine import fast_copy, llama
model, repacked, out, *widths = sys.argv[1:]
llama.may_repack = lambda: repacked == "True"
model, found = llama.LlamaModel(Path(model)), {}
ids = np.random.default_rng(1).integers(0, model.n_vocab, 64)
for fast_copy.CHUNK in map(int, widths):
    parts = [part.copy() for part in fast_copy.logits_along(model, ids, 1)]
    found[str(fast_copy.CHUNK)] = np.concatenate(parts)
np.savez(out, **found)
"""


def logits(model, repacked, *widths):
    """The logits after each of 64 tokens, by how many are read at a time; in another process."""
    out = model.with_suffix(".npz")
    argv = [sys.executable, "-c", LOGITS, *map(str, (model, repacked, out, *widths))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return dict(np.load(out))


@pytest.mark.model
@pytest.mark.slow
def test_repacked_weights_compute_the_same_model(one_block, tmp_path):
    """Both sides round the activations; where they do so differently, each is as good.

    The yardstick is what rounding does at all: the distance of the side that is not repacked from
    the same weights as F32 numbers. Two roundings of that size that have nothing in common lie
    1.41 times as far apart. A tile of the wrong shape, or one row of a wrong scale, is not near it.
    """
    if not cpu_check.cpu_check().extra_buffers:
        pytest.skip("this llama.cpp cannot repack weights on this CPU")
    model, exact = tmp_path / "m.gguf", tmp_path / "f32.gguf"
    matrices = [t.name for t in GGUFReader(one_block).tensors if len(t.shape) > 1]
    kinds = [int(GGMLQuantizationType[MIXED[i % len(MIXED)]]) for i in range(len(matrices))]
    quantise(one_block, model, check_kind("Q8_0"), dict(zip(matrices, kinds, strict=True)))
    quantise(model, exact, check_kind("F32"))
    (true,) = logits(exact, False, 64).values()
    plain, packed = (logits(model, how, *WIDTHS) for how in (False, True))
    assert len(plain) == len(WIDTHS)
    for width, theirs in plain.items():
        rounding = gap(theirs, true)
        assert 0 < rounding < 0.05
        assert gap(packed[width], true) < 1.1 * rounding
        assert gap(packed[width], theirs) < 1.41 * rounding


AFTER = """
import sys
from pathlib import Path
from lmsi_cli.config import EngineConfig
from lmsi_cli.engine.engine import LlamaEngine
ids = [list(range(5, 45))]
def opened():
    return LlamaEngine(Path(sys.argv[1]), EngineConfig(threads=1))
with opened() as engine:
    engine.last_logits(ids)
import torch
square = torch.ones(256, 256, dtype=torch.bfloat16)
with torch.no_grad():
    print(torch.nn.functional.linear(square, square).float().mean().item())
with opened() as engine:
    print(engine.last_logits(ids).shape[0])
"""


@pytest.mark.model
def test_llama_cpp_survives_after_pytorch_has_computed(gguf, tmp_path):
    """With a Q8_0 model, whose weights AMX takes: without the rule this dies with SIGILL there."""
    model = tmp_path / "q8.gguf"
    quantise(gguf, model, check_kind("Q8_0"))
    command = [sys.executable, "-c", AFTER, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode, done.stderr) == ("256.0\n1\n", 0, "")


def test_the_rule(monkeypatch):
    works = cpu_check.CpuCheck(build="", extra_buffers=True, usable=True)
    monkeypatch.setattr(cpu_check, "cpu_check", lambda: works)
    monkeypatch.setitem(sys.modules, "torch", sys)
    assert not cpu_check.may_repack()
    with pytest.raises(RuntimeError, match="PyTorch was imported while"):
        cpu_check.check_repacked(repacked=True)  # a model that was open before
    monkeypatch.delitem(sys.modules, "torch")
    assert cpu_check.may_repack()
