"""Several processes take the steps that one would, and end together, with one voice."""

import json
import shutil
import subprocess
import sys

import forked
import pytest
from commands import whole_lines, works
from servers import free_port

from lmsi_cli.errors import LmsiError
from lmsi_cli.run_folder import RunDir
from lmsi_cli.training import processes

QUICK = "--force --device cpu --set dtype=fp32 --rank 2 --batch-size 3 --lr 0.01"
# Thirteen steps for six examples, with one example in the last: none for the second process.
SETTINGS = f"{QUICK} --set epochs=6.2 --set dropout=0.3 --set checkpoint_every=1 -q"


def two(run):
    """Start the command in two processes, as a launcher does."""
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        forked.lmsi(
            "train", run.root, *SETTINGS.split(), err=run.root / f"{rank}.err",
            env={**told, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]  # fmt: skip


def figures(run, name):
    return [json.loads(line)[name] for line in run.train_log.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.model
def test_two_processes_end_together_and_go_on_where_they_stopped(run, tmp_path):
    """With dropout, whose numbers a resumed process must draw again, and each its own."""
    whole = RunDir(shutil.copytree(run.root, tmp_path / "whole"))
    assert [forked.ended(process) for process in two(whole)] == [0, 0]
    for gone, left in ((0, 1), (1, 0)):
        begun, both = len(whole_lines(run.train_log)), two(run)
        while len(whole_lines(run.train_log)) < begun + 2:
            both[gone].join(0.01)
            assert both[gone].exitcode is None
        both[gone].kill()
        assert (forked.ended(both[gone]), forked.ended(both[left])) == (-9, 1)
        assert "another of its processes has ended" in (run.root / f"{left}.err").read_text()
    assert [forked.ended(process) for process in two(run)] == [0, 0]
    assert figures(run, "loss") == figures(whole, "loss")
    assert figures(run, "step") == [*range(1, 14)]
    assert run.adapter_gguf.read_bytes() == whole.adapter_gguf.read_bytes()


def test_what_several_processes_cannot_do_is_refused(monkeypatch):
    processes.check("sample")
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    processes.check("train")
    with pytest.raises(LmsiError, match="`lmsi sample` is work for one process, not 3"):
        processes.check("sample")


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.usefixtures("aside_here")
def test_torchrun_starts_the_command_twice(run, tmp_path):
    """The whole command, proof and all: the adapter is one process's, and the first one speaks."""
    alone = RunDir(shutil.copytree(run.root, tmp_path / "alone"))
    settings = [*QUICK.split(), "--max-steps", "2", "--json"]
    launch = "-m torch.distributed.run --standalone --nproc-per-node 2 -m lmsi_cli train"
    command = [sys.executable, *launch.split(), run.root, *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)  # one JSON, not two
    assert (result["summary"]["processes"], result["summary"]["steps"]) == (2, 2)
    assert result["proof"]["ok"] and run.adapter_gguf.exists()
    assert done.stderr.count("proving the adapter") == 1
    works("train", alone.root, *settings)
    for name in ("loss", "grad_norm"):
        assert figures(run, name) == pytest.approx(figures(alone, name), rel=1e-4)
