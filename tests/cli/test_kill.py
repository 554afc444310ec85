"""Ctrl-C, SIGTERM, kill -9, and a model file cut short in place: nothing is lost or done twice."""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import forked
import psutil
import pytest
from builders import example
from commands import by_key, works
from commands import whole_lines as lines

import lmsi_cli.__main__
from lmsi_cli.jsonl import write_records
from lmsi_cli.run_folder import RunDir

resource = pytest.importorskip("resource", reason="Windows counts otherwise")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

TINYMATH = Path(__file__).parents[2] / "models" / "tinymath"
SAVED = "what was finished is saved, the same command goes on"
ENDS = {  # the exit code, and what is said
    signal.SIGINT: (130, [f"interrupted; {SAVED}"]),
    signal.SIGTERM: (143, [f"terminated; {SAVED}"]),
    signal.SIGKILL: (-9, []),
}
SECONDS = 2.0  # from SIGTERM to the end, of a core's time: other work on the machine is not ours
QUESTIONS, PATHS = 12, 8


def test_ctrl_c_while_the_command_loads_is_no_traceback(monkeypatch):
    def interrupt(name):
        raise KeyboardInterrupt

    loading = ModuleType("lmsi_cli.cli.main")
    loading.__getattr__ = interrupt
    monkeypatch.setitem(sys.modules, "lmsi_cli.cli.main", loading)
    with pytest.raises(SystemExit) as e:
        lmsi_cli.__main__.main()
    assert e.value.code == 130


def start(*argv, code="from lmsi_cli.cli.main import main; main()"):
    return forked.python("-c", code, *argv)


def sampling(root, model, *more):
    return ["sample", TINYMATH / "questions.jsonl", "-m", model, "-o", root, "--limit", QUESTIONS,
            "-n", PATHS, "--prompt", "cot-zero", "--max-tokens", "48", "--threads", "1",
            "--set", "parallel=8", "-q", *more]  # fmt: skip


def wait(process, file, count):
    while len(lines(file)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def ended(process, number=signal.SIGTERM):
    """Send a signal; the exit code and what the process says, once it is gone."""
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=10 * SECONDS)
    finally:
        process.kill()
    assert out == ""
    return process.returncode, err.splitlines()


@pytest.mark.model
@pytest.mark.slow
def test_sampling_that_is_ended_again_and_again(tmp_path, one_block):
    """Every line that was there is kept as it was, and all paths are the same in the end.

    To the last bit of every log-probability: in a split cache what a path is does not depend on
    what shares its batches. Moments are lines, not seconds: a fast machine is not done before one.
    """
    whole, run = RunDir(tmp_path / "whole"), RunDir(tmp_path / "ended")
    command = sampling(run.root, one_block, "--set", "kv=split")
    rng, seen = random.Random(7), []
    for number, told in ENDS.items():
        process = start(*command)
        wait(process, run.paths, len(seen) + rng.randint(1, 20))
        assert ended(process, number) == told
        now = lines(run.paths)
        assert now[: len(seen)] == seen
        seen = now
    works(*command)
    assert run.paths.read_bytes().endswith(b"\n")
    assert lines(run.paths)[: len(seen)] == seen
    works(*sampling(whole.root, one_block, "--set", "kv=split"))
    found = by_key(run.root)
    assert found == by_key(whole.root) and len(found) == QUESTIONS * PATHS


STUCK = """
import hashlib
from lmsi_cli.cli import main
main.obey("ended late")
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)  # minutes in C
"""


def test_a_call_into_c_that_does_not_return_is_ended_in_time():
    """As a long decode or a training step would be: Python's own handler never gets its turn."""
    process = start(code=STUCK)
    assert process.stdout.readline() == "ready\n"
    used = psutil.Process(process.pid).cpu_times
    loaded = used().user
    while used().user < loaded + 0.2:  # until it is inside
        time.sleep(0.01)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert ended(process) == (143, ["ended late"])
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert spent < loaded + 0.2 + SECONDS


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a mapped file may not be cut")
def test_a_model_cut_short_in_place_costs_no_finished_path(tmp_path, one_block):
    """llama.cpp reads from the mapping, so the kernel ends the process with SIGBUS."""
    run = RunDir(tmp_path / "r")
    model = Path(shutil.copy(one_block, tmp_path / "m.gguf"))
    process = start(*sampling(run.root, model))
    wait(process, run.paths, 5)
    before = lines(run.paths)
    os.truncate(model, 100_000)
    err = process.communicate()[1]
    assert process.returncode in (-signal.SIGBUS, 1)
    # cut between two decodes, it may be seen before it is read
    assert process.returncode != 1 or f"error: {model}: the model file has changed" in err
    kept = lines(run.paths)
    assert kept[: len(before)] == before and len(kept) < QUESTIONS * PATHS
    shutil.copy(one_block, model)
    works(*sampling(run.root, model))
    assert lines(run.paths)[: len(kept)] == kept
    assert len(by_key(run.root)) == QUESTIONS * PATHS


@pytest.mark.parametrize(("several", "told"), [(True, "said "), (False, "said closed\n")])
def test_only_a_failed_process_of_several_ends_without_closing_down(several, told):
    script = f"""
import atexit, sys
from lmsi_cli.cli import main
atexit.register(lambda: print("closed"))
with main.at_once({several}):
    print("said", end=" ")
    sys.exit(1)
"""
    process = start(code=script)
    assert process.communicate()[0] == told
    assert process.returncode == 1


def numbers(file):
    """The lines of a log without what a clock says."""
    found = [json.loads(line) for line in lines(file)]
    assert found
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


@pytest.mark.model
@pytest.mark.slow
def test_training_that_is_ended_again_and_again_ends_with_the_same_numbers(sampled):
    """Of two run folders with the same 90 examples, the training of one is ended three times."""
    from safetensors import safe_open

    asks, says = "Q: Tom has {0} pens and gets 4.\nA:", " {0} + 4 = {1}. The answer is {1}."
    pairs = (example(f"q{n}", asks.format(n), says.format(n, n + 4)) for n in range(90))
    write_records(RunDir("r").train, pairs)
    whole, run = (RunDir(shutil.copytree("r", sampled / name)) for name in ("whole", "ended"))
    half, err = run.checkpoint.with_name(f"{run.checkpoint.name}.tmp"), sampled / "err"

    def train(folder):
        settings = ["--max-steps", 20, "--rank", 4, "--set", "dropout=0.1", "--batch-size", 4,
                    "--set", "checkpoint_every=3", "--set", "eval_every=6"]  # fmt: skip
        return forked.lmsi("train", folder.root, "-q", *settings, err=err)

    def end_when(there, number=signal.SIGKILL):
        process = train(run)
        while not there() and process.is_alive():
            time.sleep(0.0005)
        os.kill(process.pid, number)
        assert forked.ended(process) == ENDS[number][0], err.read_text()

    end_when(lambda: len(lines(run.train_log)) >= 2)  # before any checkpoint of its own
    end_when(lambda: len(lines(run.train_log)) >= 5, signal.SIGTERM)  # in mid-step
    assert err.read_text().endswith(f"terminated; {SAVED}\n")
    steps = [line["step"] for line in numbers(run.train_log)]
    assert steps == list(range(1, len(steps) + 1))
    with safe_open(run.checkpoint, framework="numpy") as file:
        assert json.loads(file.metadata()["header"])["step"] in (len(steps), len(steps) - 1)
    end_when(half.exists)  # in mid-write
    for folder in (run, whole):
        assert forked.ended(train(folder)) == 0, err.read_text()
        assert ("going on after step" in err.read_text()) == (folder is run)
    assert numbers(run.train_log) == numbers(whole.train_log)
    assert numbers(run.validation_log) == numbers(whole.validation_log)
    for name in ("adapter_model.safetensors", "adapter.gguf", "adapter_config.json"):
        assert (run.adapter / name).read_bytes() == (whole.adapter / name).read_bytes(), name
    assert not run.checkpoint.exists()
