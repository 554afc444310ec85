"""Sampling and training under kill -9: nothing is lost or done twice, and the numbers agree."""

import json
import random
import shutil
import signal
import sys
import time

import forked
import pytest
from commands import by_key
from commands import whole_lines as lines

from lmsi_cli.catalog import cards
from lmsi_cli.run_folder import RunDir

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]


class Command:
    """One command on one run folder, to be killed and given again."""

    def __init__(self, root, *argv):
        self.run, self.argv, self.err = RunDir(root), argv, root.with_suffix(".err")

    def start(self):
        return forked.lmsi(*self.argv, err=self.err)

    def finish(self):
        """Work to the end; what was said meanwhile."""
        assert forked.ended(self.start()) == 0, self.err.read_text()
        return self.err.read_text()

    def kill_when(self, there, pause=0.0):
        """Start it, and kill it ``pause`` seconds after something is the case."""
        process = self.start()
        while not there() and process.is_alive():
            time.sleep(0.0005)
        time.sleep(pause)
        process.kill()
        ended = forked.ended(process)
        assert ended == -signal.SIGKILL, self.err.read_text()  # it had not ended by itself


KILLS, QUESTIONS, PATHS = 4, 12, 6


def sampling(folder, model):
    asked = cards()["tinymath"].parent / "questions.jsonl"
    size = ["--limit", QUESTIONS, "-n", PATHS, "--max-tokens", 48, "--threads", 1, "-q"]
    how = ["--prompt", "cot-zero", "--set", "parallel=8", "--set", "kv=split"]
    return Command(folder, "sample", asked, "-m", model, "-o", folder, *size, *how)


def test_sampling_that_is_killed_again_and_again(tmp_path, one_block):
    """Every line that was there at a kill is kept as it was, and all paths are the same in the end.

    To the last bit of every log-probability: in a split cache what a path is does not depend on
    what shares its batches. Kills are counted in lines and not in seconds, so that a fast machine
    is not done before the last one.
    """
    whole, killed = (sampling(tmp_path / name, one_block) for name in ("whole", "killed"))
    rng, seen = random.Random(7), []
    for _ in range(KILLS):
        goal = len(seen) + rng.randint(1, 14)
        killed.kill_when(lambda goal=goal: len(lines(killed.run.paths)) >= goal, rng.random() / 10)
        now = lines(killed.run.paths)
        assert now[: len(seen)] == seen
        seen = now
    killed.finish()
    assert killed.run.paths.read_bytes().endswith(b"\n")
    assert lines(killed.run.paths)[: len(seen)] == seen
    whole.finish()
    found = by_key(killed.run.root)
    assert found == by_key(whole.run.root) and len(found) == QUESTIONS * PATHS


SETTINGS = ["--max-steps", "20", "--rank", "4", "--set", "dropout=0.1", "--batch-size", "4",
            "--set", "checkpoint_every=3", "--set", "eval_every=6"]  # fmt: skip


def example(n):
    return {"prompt": f"Q: Tom has {n} pens. Tom gets 4 more. How many pens?\nA:",
            "completion": f" Tom has {n} + 4 = {n + 4}. The answer is {n + 4}.",
            "format": "cot-zero", "question_id": f"q{n}", "path": 0}  # fmt: skip


def numbers(file):
    """The lines of a log without what a clock says."""
    found = [json.loads(line) for line in lines(file)]
    assert found
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def test_a_killed_training_ends_with_the_same_numbers(sampled):
    """Of two run folders with the same 90 examples, the training of one is killed three times."""
    RunDir("r").train.write_text("".join(json.dumps(example(n)) + "\n" for n in range(90)))
    whole, killed = (
        Command(shutil.copytree("r", sampled / name), "train", name, "-q", *SETTINGS)
        for name in ("whole", "killed")
    )
    whole.finish()
    run, half = killed.run, killed.run.checkpoint.with_name(f"{killed.run.checkpoint.name}.tmp")
    killed.kill_when(lambda: len(lines(run.train_log)) == 2)  # before any checkpoint of its own
    killed.kill_when(lambda: len(lines(run.train_log)) >= 5)  # in mid-step
    killed.kill_when(half.exists)  # in mid-write
    assert "going on after step" in killed.finish()
    assert numbers(run.train_log) == numbers(whole.run.train_log)
    assert numbers(run.validation_log) == numbers(whole.run.validation_log)
    for name in ("adapter_model.safetensors", "adapter.gguf", "adapter_config.json"):
        assert (run.adapter / name).read_bytes() == (whole.run.adapter / name).read_bytes(), name
    assert not run.checkpoint.exists()
