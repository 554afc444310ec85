"""SIGTERM, and a model file cut short in place: the process ends, and nothing finished is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from commands import by_key, call
from commands import whole_lines as lines

import lmsi_cli.__main__
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


def start(*argv):
    code = "from lmsi_cli.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sampling(run, model, *more):
    return ["sample", TINYMATH / "questions.jsonl", "-m", model, "-o", run.root, "--limit", "12",
            "-n", "8", "--prompt", "cot-zero", "--max-tokens", "64", "--threads", "1",
            "--set", "parallel=16", "-q", *more]  # fmt: skip


def said(err):
    """The lines on stderr but for the one about paths that are cut off, which 64 tokens lead to."""
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


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path / "r")


@pytest.mark.model
@pytest.mark.slow
def test_sampling_ends_at_once_at_ctrl_c_and_goes_on(run, one_block):
    process = start(*sampling(run, one_block))
    wait(process, run.paths, 5)
    assert ended(process, signal.SIGINT) == [f"interrupted; {SAVED}"]
    with locked(run):  # nobody holds the folder
        kept = lines(run.paths)
    assert 5 <= len(kept) < 12 * 8
    assert finished(sampling(run, one_block)) == (0, [])
    assert lines(run.paths)[: len(kept)] == kept
    assert len(by_key(run.root)) == 12 * 8


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
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", STUCK], **pipe)
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
    example = {"prompt": "Q: 1 + 1?\nA:", "completion": " The answer is 2.",
               "format": "direct-zero", "question_id": "a", "path": None}  # fmt: skip
    run.train.write_text((json.dumps(example) + "\n") * 8)
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
def test_a_model_cut_short_in_place_costs_no_finished_path(run, one_block, tmp_path):
    """llama.cpp reads from the mapping, so the kernel ends the process with SIGBUS."""
    model = Path(shutil.copy(one_block, tmp_path / "m.gguf"))
    process = start(*sampling(run, model))
    wait(process, run.paths, 5)
    before = lines(run.paths)
    os.truncate(model, 100_000)
    err = process.communicate()[1]
    assert process.returncode in (-signal.SIGBUS, 1)
    # cut between two decodes, it may be seen before it is read
    assert process.returncode != 1 or f"error: {model}: the model file has changed" in err
    kept = lines(run.paths)
    assert kept[: len(before)] == before and len(kept) < 12 * 8
    code, err = finished(sampling(run, model))
    assert code == 1 and "is cut short or damaged" in " ".join(err)
    shutil.copy(one_block, model)
    assert finished(sampling(run, model)) == (0, [])
    assert lines(run.paths)[: len(kept)] == kept
    assert len(by_key(run.root)) == 12 * 8


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
