"""The sampler's memory is gone before training starts, in one process as `lmsi run` is."""

import subprocess
import sys

import pytest

CODE = """
import sys
from pathlib import Path
from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.base import Request, Wanted
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.training.heap import give_back, resident

def sample(paths):
    settings = SampleConfig(max_tokens=48, parallel=paths, kv="split")
    with LlamaEngine(Path(sys.argv[1]), settings) as engine:
        wanted = tuple(Wanted(i, i) for i in range(paths))
        drawn = list(engine.generate([Request("q", tuple(range(5, 400)), wanted)], settings, "="))
        assert len(drawn) == paths
        return resident()

sample(1)  # libraries stay
before = resident()
most = sample(96)
give_back()
print(before, most, resident())
"""


@pytest.mark.model
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sampling_gives_its_memory_back(gguf):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(gguf)], capture_output=True, text=True, check=True
    )
    before, most, after = map(int, done.stdout.split())
    assert most - before > 50 << 20  # the cache, and the weights that were mapped
    assert after - before < 0.1 * (most - before)
