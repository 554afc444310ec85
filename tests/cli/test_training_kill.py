"""Training under kill -9: whatever is cut off, the same command ends with the same numbers."""

import json
import shutil
import sys
import time

import forked
import pytest

from lmsi_cli.run_folder import RunDir

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]

SETTINGS = ["--max-steps", "24", "--rank", "4", "--set", "dropout=0.1", "--batch-size", "4",
            "--set", "checkpoint_every=3", "--set", "eval_every=6"]  # fmt: skip
SAMPLE = "sample q.jsonl -m m.gguf -o whole -n 1 --max-tokens 4 --threads 1 -q"


def example(n):
    return {"prompt": f"Q: Tom has {n} pens. Tom gets 4 more. How many pens?\nA:",
            "completion": f" Tom has {n} + 4 = {n + 4}. The answer is {n + 4}.",
            "format": "cot-zero", "question_id": f"q{n}", "path": 0}  # fmt: skip


@pytest.fixture
def runs(folder, lmsi):
    """Two run folders with the same 90 training examples."""
    assert lmsi(*SAMPLE.split()).exit_code == 0
    whole, killed = RunDir(folder / "whole"), RunDir(folder / "killed")
    whole.train.write_text("".join(json.dumps(example(n)) + "\n" for n in range(90)))
    shutil.copytree(whole.root, killed.root)
    return whole, killed


def numbers(file):
    """The lines of a log without what a clock says."""
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def start(run):
    return forked.lmsi("train", run.root, "-q", *SETTINGS, err=said(run))


def said(run):
    return run.root.with_suffix(".err")


def kill_when(run, there):
    """Start training and kill it the moment that something is the case."""
    process = start(run)
    while not there() and process.is_alive():
        time.sleep(0.0005)
    process.kill()
    assert forked.ended(process) == -9, said(run).read_text()  # it had not ended by itself


def finish(run):
    """Train to the end; what was said meanwhile."""
    assert forked.ended(start(run)) == 0, said(run).read_text()
    return said(run).read_text()


def lines(file):
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_a_killed_training_ends_with_the_same_numbers(runs):
    whole, killed = runs
    finish(whole)
    kill_when(killed, lambda: lines(killed.train_log) == 2)  # before any checkpoint of its own
    kill_when(killed, lambda: lines(killed.train_log) >= 5)  # in mid-step
    half = killed.checkpoint.with_name(killed.checkpoint.name + ".tmp")
    kill_when(killed, half.exists)  # in mid-write
    kill_when(killed, lambda: lines(killed.validation_log) >= 4)
    assert "going on after step" in finish(killed)
    assert numbers(killed.train_log) == numbers(whole.train_log)
    assert numbers(killed.validation_log) == numbers(whole.validation_log)
    for name in ("adapter_model.safetensors", "adapter.gguf", "adapter_config.json"):
        assert (killed.adapter / name).read_bytes() == (whole.adapter / name).read_bytes(), name
    assert not killed.checkpoint.exists() and not killed.best_checkpoint.exists()
