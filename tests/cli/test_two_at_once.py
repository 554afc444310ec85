"""Two commands at once on one cache and one download: neither harms the other.

On one run folder or export the second is refused: ``test_bad_input.py``, ``test_atomic.py``; a
fast copy is made by both, and kept once: ``test_fast_copy.py``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import hub
import pytest

from lmsi_cli.run_folder import RunDir

pytestmark = pytest.mark.model
ROOT = Path(__file__).parents[2]
SAMPLE = "--limit 4 -n 2 --max-tokens 8 --threads 1 --prompt cot-zero --set kv=split -q"


def both(folder, model, *more, **env):
    """Sample into two folders at once; what each one drew, by key."""
    asked = ROOT / "models/tinymath/questions.jsonl"
    runs = [RunDir(folder / name) for name in "ab"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LMSI_CACHE": str(folder / "cache"), **env}
    words = [sys.executable, "-m", "lmsi_cli", "sample", asked, "-m", model, *SAMPLE.split(), *more]
    started = [
        subprocess.Popen([*words, "-o", run.root], env=env, stderr=subprocess.PIPE) for run in runs
    ]
    said = [process.communicate()[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    lines = [map(json.loads, run.paths.read_text().splitlines()) for run in runs]
    return [{(p["question_id"], p["path"]): p["text"] for p in drawn} for drawn in lines]


def test_one_cache_and_one_download(tmp_path, one_block):
    served = hub.Repo({"a" * 40: {"m-F16.gguf": one_block.read_bytes()}})
    with hub.serving({"me/m": served}) as there:
        there.slow = 0.02
        home = {"HF_ENDPOINT": there.url, "HF_HOME": str(tmp_path / "home")}
        first, second = both(tmp_path, "hf:me/m", **home)
    assert first == second and len(first) == 8
    assert len(there.fetched) == 1
