"""SIGTERM, kill -9, and a model file cut short in place: nothing is lost or done twice."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import psutil
import pytest
from builders import example
from commands import by_key, call
from commands import whole_lines as lines

import lmsi_cli.__main__
from lmsi_cli.jsonl import write_records
from lmsi_cli.run_folder import RunDir, locked

resource = pytest.importorskip("resource", reason="Windows counts otherwise")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

TINYMATH = Path(__file__).parents[2] / "models" / "tinymath"
SAVED = "what was finished is saved, the same command goes on"
SECONDS = 2.0  # from the signal to the end, of a core's time: other work on the machine is not ours


class CtrlC:
    """A finder of modules to which Ctrl-C comes while it looks for one."""

    @staticmethod
    def find_spec(name, *_):
        if name == "lmsi_cli.cli.main":
            raise KeyboardInterrupt


def test_ctrl_c_while_the_command_loads_is_no_traceback(monkeypatch):
    monkeypatch.delitem(sys.modules, "lmsi_cli.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [CtrlC, *sys.meta_path])
    with pytest.raises(SystemExit) as e:
        lmsi_cli.__main__.main()
    assert e.value.code == 130


def start(*argv, code="from lmsi_cli.cli.main import main; main()"):
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, argv)], **pipe)


QUESTIONS, PATHS = 12, 8


def sampling(root, model, *more):
    return ["sample", TINYMATH / "questions.jsonl", "-m", model, "-o", root, "--limit", QUESTIONS,
            "-n", PATHS, "--prompt", "cot-zero", "--max-tokens", "48", "--threads", "1",
            "--set", "parallel=8", "-q", *more]  # fmt: skip


def said(err):
    """The lines on stderr but for the one about paths that are cut off, which 48 tokens lead to."""
    return [line for line in err.splitlines() if "--max-tokens" not in line]


def finished(command):
    """Run a command to its end, here; its exit code and what it said."""
    done = call(*command)
    return done.exit_code, said(done.stderr)


def wait(process, file, count):
    while len(lines(file)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def children():
    """Seconds of CPU that the ended children of this process have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def ended(process, number=signal.SIGTERM):
    """Send a signal; what the process says, once it is gone in time."""
    here = psutil.Process(process.pid)
    working = [here, *here.children(recursive=True)]  # training works in a process of its own
    used = sum(sum(p.cpu_times()[:2]) for p in working)
    before = children()
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=10 * SECONDS)
    finally:
        process.kill()
    assert children() - before - used < SECONDS
    assert (process.returncode, out) == (128 + number, "")
    return said(err)


@pytest.mark.model
@pytest.mark.slow
def test_sampling_ends_at_once_at_ctrl_c_and_goes_on(tmp_path, one_block):
    run = RunDir(tmp_path / "r")
    process = start(*sampling(run.root, one_block))
    wait(process, run.paths, 5)
    assert ended(process, signal.SIGINT) == [f"interrupted; {SAVED}"]
    with locked(run):  # nobody holds the folder
        kept = lines(run.paths)
    assert 5 <= len(kept) < QUESTIONS * PATHS
    assert finished(sampling(run.root, one_block)) == (0, [])
    assert lines(run.paths)[: len(kept)] == kept
    assert len(by_key(run.root)) == QUESTIONS * PATHS


@pytest.mark.model
@pytest.mark.slow
def test_evaluation_ends_at_once_at_sigterm_and_goes_on(sampled):
    run = RunDir(sampled / "r")
    command = ["eval", run.root, "--data", TINYMATH / "test.jsonl", "--task", "number", "-q",
               "--limit", "4", "--modes", "sc", "-n", "6", "--threads", "1",
               "--set", "parallel=4"]  # fmt: skip
    process = start(*command)
    while not (files := list(run.eval_dir.glob("*.answers.jsonl"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    wait(process, files[0], 3)
    assert ended(process) == [f"terminated; {SAVED}"]
    assert not list(run.eval_dir.glob("*.result.json"))
    kept = lines(files[0])
    assert 3 <= len(kept) < 4 * 6
    assert finished(command)[0] == 0
    assert lines(files[0])[: len(kept)] == kept
    keys = [(a["question_id"], a["path"]) for a in map(json.loads, lines(files[0]))]
    assert len(keys) == len(set(keys)) == 4 * 6
    assert len(list(run.eval_dir.glob("*.result.json"))) == 1


STUCK = """
import hashlib
from lmsi_cli.cli import main
main.obey("ended late")
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)  # minutes in C
"""


def test_a_call_into_c_that_does_not_return_is_ended_too():
    """As a long decode or a training step would be: Python's own handler never gets its turn."""
    process = start(code=STUCK)
    assert process.stdout.readline() == "ready\n"
    here = psutil.Process(process.pid)
    loaded = here.cpu_times().user
    while here.cpu_times().user < loaded + 0.2:  # until it is inside
        time.sleep(0.01)
    assert ended(process) == ["ended late"]


@pytest.mark.model
@pytest.mark.slow
def test_training_ends_at_once_with_a_checkpoint(sampled):
    from safetensors import safe_open

    run = RunDir(sampled / "r")
    write_records(run.train, [example("a", "Q: 1 + 1?\nA:", " The answer is 2.")] * 8)
    process = start("train", run.root, "-q", "--max-steps", "3000")
    wait(process, run.train_log, 3)
    assert ended(process)[-1:] == [
        f"terminated; {SAVED}"
    ]  # above it stands what the memory will be
    steps = [json.loads(line)["step"] for line in lines(run.train_log)]
    assert steps == list(range(1, len(steps) + 1))
    with safe_open(run.checkpoint, framework="numpy") as file:
        assert json.loads(file.metadata()["header"])["step"] in (len(steps), len(steps) - 1)
    assert not run.adapter_gguf.exists()


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
    code, err = finished(sampling(run.root, model))
    assert code == 1 and "is cut short or damaged" in " ".join(err)
    shutil.copy(one_block, model)
    assert finished(sampling(run.root, model)) == (0, [])
    assert lines(run.paths)[: len(kept)] == kept
    assert len(by_key(run.root)) == QUESTIONS * PATHS


@pytest.mark.parametrize(("code", "several", "closes"), [(1, True, False), (1, False, True)])
def test_only_a_failed_process_of_several_ends_without_closing_down(code, several, closes):
    script = f"""
import atexit, sys
from lmsi_cli.cli import main
atexit.register(lambda: print("closed"))
with main.at_once({several}):
    print("said", end=" ")
    sys.exit({code})
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert done.stdout == ("said closed\n" if closes else "said ")


# -- kill -9 --------------------------------------------------------------------------------------


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


@pytest.mark.model
@pytest.mark.slow
def test_sampling_that_is_killed_again_and_again(tmp_path, one_block):
    """Every line that was there at a kill is kept as it was, and all paths are the same in the end.

    To the last bit of every log-probability: in a split cache what a path is does not depend on
    what shares its batches. Kills are counted in lines and not in seconds, so that a fast machine
    is not done before the last one.
    """
    whole, killed = (
        Command(root, *sampling(root, one_block, "--set", "kv=split"))
        for root in (tmp_path / "whole", tmp_path / "killed")
    )
    rng, seen = random.Random(7), []
    for _ in range(4):
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


def numbers(file):
    """The lines of a log without what a clock says."""
    found = [json.loads(line) for line in lines(file)]
    assert found
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


@pytest.mark.model
@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_numbers(sampled):
    """Of two run folders with the same 90 examples, the training of one is killed three times."""
    asks, says = "Q: Tom has {0} pens and gets 4.\nA:", " {0} + 4 = {1}. The answer is {1}."
    pairs = (example(f"q{n}", asks.format(n), says.format(n, n + 4)) for n in range(90))
    write_records(RunDir("r").train, pairs)
    settings = ["--max-steps", "20", "--rank", "4", "--set", "dropout=0.1", "--batch-size", "4",
                "--set", "checkpoint_every=3", "--set", "eval_every=6"]  # fmt: skip
    whole, killed = (
        Command(shutil.copytree("r", sampled / name), "train", name, "-q", *settings)
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
