"""Several processes take the steps that one would, and end together, with one voice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
from servers import free_port

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Silent
from lmsi_cli.training import examples, processes
from lmsi_cli.training.adapter import WEIGHTS
from lmsi_cli.training.data import Codec
from lmsi_cli.training.trainer import train

HERE = Path(__file__).parent
LAUNCHERS = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No launcher around the tests themselves."""
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", f"{HERE.parents[1]}{os.pathsep}{HERE}")


def two(case, folder):
    """Run two processes as a launcher does; (exit code, stderr) of each."""
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    errors = [folder / f"{rank}.err" for rank in "01"]
    running = [
        forked.script(
            HERE / "one_of_several.py", case, folder, out=os.devnull, err=err,
            env={**told, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank, err in zip("01", errors, strict=True)
    ]  # fmt: skip
    codes = [forked.ended(process) for process in running]
    return [(code, err.read_text()) for code, err in zip(codes, errors, strict=True)]


def ends(folder):
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def losses(folder):
    text = (folder / "0" / "log.jsonl").read_text()
    return [json.loads(line)["loss"] for line in text.splitlines()]


@pytest.mark.slow
def test_two_processes_go_on_where_they_stopped(tmp_path):
    """With dropout, whose numbers a resumed process must draw again, and each its own."""
    (tmp_path / "a").mkdir()
    assert two("dropout", tmp_path / "a") == [(0, ""), (0, "")]
    (tmp_path / "b").mkdir()
    first, second = two("dropout cut short", tmp_path / "b")
    assert first == (1, "KeyboardInterrupt: \n")
    assert second[0] == 1 and "another of its processes has ended" in second[1]
    assert two("dropout", tmp_path / "b") == [(0, ""), (0, "")]
    assert losses(tmp_path / "b") == losses(tmp_path / "a")
    assert ends(tmp_path / "a") == ends(tmp_path / "b")


@pytest.mark.slow
def test_the_first_process_ends_where_another_fails(tmp_path):
    first, second = two("second fails", tmp_path)
    assert first == (1, "LmsiError: training stopped: another of its processes has ended\n")
    assert second == (1, "LmsiError: the disk is full\n")


def test_what_several_processes_cannot_do_is_refused(monkeypatch):
    processes.check("sample")
    for name, value in zip(LAUNCHERS, "030", strict=False):
        monkeypatch.setenv(name, value)
    processes.check("train")
    with pytest.raises(LmsiError, match="`lmsi sample` is work for one process, not 3"):
        processes.check("sample")


@pytest.mark.slow
@pytest.mark.model
def test_torchrun_starts_the_command_twice(run, gguf, tmp_path):
    """The whole command, proof and all: the adapter is one process's, and the first one speaks."""
    from safetensors.numpy import load_file

    from lmsi_cli.engine.encode import Encoder
    from lmsi_cli.engine.llama import vocabulary

    launch = "-m torch.distributed.run --standalone --nproc-per-node 2"
    settings = (
        "--force --device cpu --set dtype=fp32 --rank 2 --max-steps 2 --batch-size 3 --lr 0.01"
    )
    command = f"{launch} -m lmsi_cli train {run.root} {settings} --json"
    done = subprocess.run(
        [sys.executable, *command.split()], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)  # one JSON, not two
    assert (result["summary"]["processes"], result["summary"]["steps"]) == (2, 2)
    assert result["proof"]["ok"] and run.adapter_gguf.exists()
    assert done.stderr.count("proving the adapter") == 1
    config = TrainConfig(rank=2, max_steps=2, batch_size=3, lr=0.01, device="cpu", dtype="fp32")
    with vocabulary(gguf) as words:
        encoder = Encoder(words)
        codec = Codec(lambda prompt: encoder.prompt(prompt).ids, encoder.completion)
        alone, _ = train(
            examples.read(run, config), gguf, config, tmp_path / "one", codec, Silent()
        )
    assert result["summary"]["final_loss"] == pytest.approx(alone.final_loss, rel=1e-4)
    both, one = (load_file(folder / WEIGHTS) for folder in (run.adapter, tmp_path / "one"))
    assert both.keys() == one.keys()
    # Adam's first steps are as long for a gradient that is nothing but rounding as for any other.
    norm = np.linalg.norm(np.concatenate([weight.ravel() for weight in one.values()]))
    apart = np.linalg.norm(np.concatenate([(both[name] - one[name]).ravel() for name in one]))
    assert apart < 0.01 * norm
