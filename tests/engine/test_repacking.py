"""Repacked weights: the same model up to rounding, and never beside PyTorch in one process."""

import subprocess
import sys

import pytest
import repacked

from lmsi_cli.engine import cpu_check
from lmsi_cli.engine.fast_copy import check_kind, quantise
from lmsi_cli.training.verify import gap

WIDTHS = [1, 8, 33, 64]  # one token, fewer than a tile's rows, a tile and one more, whole tiles


@pytest.mark.model
@pytest.mark.slow
def test_repacked_weights_compute_the_same_model(tmp_path):
    """Both sides round the activations; where they do so differently, each is as good.

    The yardstick is what rounding does at all: the distance of the side that is not repacked from
    the same weights as F32 numbers. Measured on AMX it is 1.7% to 2.9% of the logits, and so is
    the other side's, to a fiftieth. Two roundings of that size that have nothing in common lie
    1.41 times as far apart; measured are up to 0.7 times. A tile of the wrong shape, or one row of
    a wrong scale, is not near it.
    """
    if not cpu_check.cpu_check().extra_buffers:
        pytest.skip("this llama.cpp cannot repack weights on this CPU")
    model = repacked.written(tmp_path / "m.gguf")
    true = repacked.logits(repacked.exact(model, tmp_path / "f32.gguf"), False, [64])[64]
    plain, packed = (repacked.logits(model, how, WIDTHS) for how in (False, True))
    for width in WIDTHS:
        rounding = gap(plain[width], true)
        assert 0 < rounding < 0.05
        assert gap(packed[width], true) < 1.1 * rounding
        assert gap(packed[width], plain[width]) < 1.41 * rounding


OPENED = """
import sys
from pathlib import Path
from lmsi_cli.config import EngineConfig
from lmsi_cli.engine.engine import LlamaEngine
ids = [list(range(5, 45))]
def opened():
    return LlamaEngine(Path(sys.argv[1]), EngineConfig(threads=1))
"""


TILES = """
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
    first = "with opened() as engine:\n    engine.last_logits(ids)\n"
    model = tmp_path / "q8.gguf"
    quantise(gguf, model, check_kind("Q8_0"))
    command = [sys.executable, "-c", OPENED + first + TILES, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode, done.stderr) == ("256.0\n1\n", 0, "")


def test_the_rule(monkeypatch):
    works = cpu_check.CpuCheck(build="", extra_buffers=True, usable=True)
    monkeypatch.setattr(cpu_check, "cpu_check", lambda: works)
    assert cpu_check.may_repack() is ("torch" not in sys.modules)
    monkeypatch.setitem(sys.modules, "torch", sys)
    assert not cpu_check.may_repack()
    with pytest.raises(RuntimeError, match="PyTorch was imported while"):
        cpu_check.check_repacked(repacked=True)  # a model that was open before
    monkeypatch.delitem(sys.modules, "torch")
    assert cpu_check.may_repack()
