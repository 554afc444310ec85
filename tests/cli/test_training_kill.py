"""Training under kill -9: whatever is cut off, the same command ends with the same numbers."""

import json
import signal
import subprocess
import sys
import time

import pytest

from lmsi_cli.rundir import RunDir

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]

SETTINGS = ["--max-steps", "24", "--rank", "4", "--dropout", "0.1", "--checkpoint-every", "3",
            "--eval-every", "6"]  # fmt: skip
CODE = "from lmsi_cli.cli.main import main; main()"


def lmsi(*argv):
    return [sys.executable, "-c", CODE, *map(str, argv)]


def example(n):
    return {"prompt": f"Q: Tom has {n} pens. Tom gets 4 more. How many pens?\nA:",
            "completion": f" Tom has {n} + 4 = {n + 4}. The answer is {n + 4}.",
            "format": "cot-zero", "question_id": f"q{n}", "path": 0}  # fmt: skip


@pytest.fixture
def runs(tmp_path, one_block):
    """Two run folders with the same 90 training examples."""
    made = []
    for name in ("whole", "killed"):
        run = RunDir(tmp_path / name)
        questions = tmp_path / "q.txt"
        questions.write_text("Tom has 3 pens. How many?\n")
        subprocess.run(
            lmsi("sample", questions, "-m", one_block, "-o", run.root, "-n", 1, "--max-tokens", 4,
                 "--threads", 1, "-q"),
            check=True, capture_output=True,
        )  # fmt: skip
        run.train.write_text("".join(json.dumps(example(n)) + "\n" for n in range(90)))
        made.append(run)
    return made


def numbers(file):
    """The lines of a log without what a clock says."""
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def kill_when(run, there):
    """Start training and kill it the moment that something is the case."""
    process = subprocess.Popen(
        lmsi("train", run.root, "-q", *SETTINGS), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while not there() and process.poll() is None:
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    err = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, err  # it had not ended by itself


def lines(file):
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_a_killed_training_ends_with_the_same_numbers(runs):
    whole, killed = runs
    subprocess.run(lmsi("train", whole.root, "-q", *SETTINGS), check=True, capture_output=True)
    kill_when(killed, lambda: lines(killed.train_log) == 2)  # before any checkpoint of its own
    kill_when(killed, lambda: lines(killed.train_log) >= 5)  # in mid-step
    half = killed.checkpoint.with_name(killed.checkpoint.name + ".tmp")
    kill_when(killed, half.exists)  # in mid-write
    kill_when(killed, lambda: lines(killed.validation_log) >= 4)
    done = subprocess.run(
        lmsi("train", killed.root, "-q", *SETTINGS), check=True, capture_output=True, text=True
    )
    assert "going on after step" in done.stderr
    assert numbers(killed.train_log) == numbers(whole.train_log)
    assert numbers(killed.validation_log) == numbers(whole.validation_log)
    for name in ("adapter_model.safetensors", "adapter.gguf", "adapter_config.json"):
        assert (killed.adapter / name).read_bytes() == (whole.adapter / name).read_bytes(), name
    assert killed.loss_curve.exists()
    assert not killed.checkpoint.exists() and not killed.best_checkpoint.exists()
