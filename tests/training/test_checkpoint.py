"""A checkpoint is whole or the last one: full disks, other threads, other runs."""

import errno
import os

import pytest
from test_trainer import job, losses
from toys import Watcher

from lmsi_cli.errors import LmsiError
from lmsi_cli.training import checkpoint
from lmsi_cli.training.loop import fit

resource = pytest.importorskip("resource")


@pytest.fixture
def small_disk():
    """Files may not grow beyond 20,000 bytes, by the system's own limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(on):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]) if on else before)

    yield limit
    limit(False)


def test_a_full_disk_leaves_the_last_checkpoint_and_the_same_command_goes_on(
    tiny, examples, tmp_path, small_disk
):
    whole = fit(tiny(), job(examples, tmp_path / "a"), Watcher())
    task = job(examples, tmp_path / "b", checkpoint_every=3)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), task, Watcher(until=4))
    kept = (tmp_path / "b" / checkpoint.NAME).read_bytes()
    assert len(kept) > 20_000
    small_disk(True)
    told = r"checkpoint.safetensors: cannot be written: File too large; what was written before"
    with pytest.raises(LmsiError, match=told) as e:
        fit(tiny(), task, Watcher())
    small_disk(False)
    assert e.value.hint.endswith("the same command again: it goes on")
    assert (tmp_path / "b" / checkpoint.NAME).read_bytes() == kept
    assert [p.name for p in (tmp_path / "b").glob("*.tmp")] == []
    watcher = Watcher()
    assert losses(fit(tiny(), task, watcher)) == losses(whole)
    assert watcher.steps[0][0] == 5


def test_what_safetensors_says_of_a_full_disk_is_understood(tmp_path):
    from safetensors import SafetensorError

    text = "Error while serializing: I/O error: No space left on device (os error 28)"
    told = pytest.raises(LmsiError, match="x: cannot be written: No space left on device;")
    with told, checkpoint.writing(tmp_path / "x"):
        raise SafetensorError(text)
    assert checkpoint._os_error(SafetensorError(text)).errno == errno.ENOSPC


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tiny, examples, tmp_path, monkeypatch):
    seen = []
    sync = os.fsync

    def spy(number):
        seen.append((tmp_path / f"{checkpoint.NAME}.tmp").exists())
        sync(number)

    with monkeypatch.context() as m:
        m.setattr(checkpoint.os, "fsync", spy)
        fit(tiny(), job(examples, tmp_path, max_steps=2), Watcher())
    assert True in seen


def test_a_run_goes_on_with_the_threads_that_it_began_with(tiny, examples, tmp_path):
    import torch

    began = torch.get_num_threads()
    task = job(examples, tmp_path)
    try:
        torch.set_num_threads(1)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny(), task, Watcher(until=3))
        torch.set_num_threads(2)
        fit(tiny(), task, Watcher())
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(began)
