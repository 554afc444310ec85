"""The folder of a local Ray: gone with its driver, or with the next one's start."""

import os
import signal
import subprocess
import sys
import time

import filelock
import pytest

from lmsi_cli.cluster import scratch as module
from lmsi_cli.cluster.scratch import FORGOTTEN, LOCK, PREFIX, clear, scratch, sweep
from lmsi_cli.errors import LmsiError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_place", lambda: tmp_path)
    return tmp_path


def abandoned(place, name, lock=True):
    folder = place / f"{PREFIX}{name}"
    (folder / "session" / "logs").mkdir(parents=True)
    if lock:
        (folder / LOCK).touch()
    return folder


def test_it_is_there_and_then_gone(place):
    with scratch() as folder:
        (folder / "session").mkdir()
        assert folder.parent == place
    assert not list(place.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, LmsiError("no")])
def test_it_is_gone_after_an_error(place, error):
    with pytest.raises((KeyboardInterrupt, LmsiError)), scratch() as folder:
        (folder / "session").mkdir()
        raise error
    assert not list(place.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
def test_a_killed_drivers_folder_goes_with_the_next_start(place):
    code = f"""
import os, signal
from pathlib import Path
from lmsi_cli.cluster import scratch as module
module._place = lambda: Path({str(place)!r})
with module.scratch() as folder:
    (folder / "session").mkdir()
    os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode < 0
    assert len(list(place.iterdir())) == 1
    with scratch() as folder:
        assert list(place.iterdir()) == [folder]


def test_one_that_is_emptied_in_a_hurry_can_still_be_swept(place):
    """Ray's processes may write there until they end."""
    folder = abandoned(place, "hurry")
    (folder / "latest").symlink_to(folder / "session")
    clear(folder)
    assert [f.name for f in folder.iterdir()] == [LOCK]
    (folder / "session").mkdir()
    sweep(place)
    assert not folder.exists()


def test_one_that_is_held_stays(place):
    with scratch() as folder:
        sweep(place)
        assert (folder / LOCK).exists()
        with scratch() as other:
            assert other != folder
        assert folder.exists()


def test_what_nobody_can_tell_of_stays(place):
    """Without a lock it is just being made, unless it is old; a link may lead anywhere."""
    fresh, old = (abandoned(place, name, lock=False) for name in ("fresh", "old"))
    before = time.time() - FORGOTTEN - 60
    os.utime(old, (before, before))
    other = place / "other"
    other.mkdir()
    (other / LOCK).touch()
    link = place / f"{PREFIX}link"
    link.symlink_to(other)
    file = place / f"{PREFIX}file"
    file.touch()
    sweep(place)
    assert fresh.exists() and link.exists() and file.exists() and (other / LOCK).exists()
    assert not old.exists()


def test_another_users_stays(place, monkeypatch):
    theirs = abandoned(place, "theirs")
    monkeypatch.setattr(module.os, "getuid", lambda: 12345, raising=False)
    sweep(place)
    assert theirs.exists() or sys.platform == "win32"


def test_one_that_is_swept_before_it_is_held_is_made_again(place, monkeypatch):
    """Between making the lock's file and holding it another start may come."""
    real, swept = filelock.FileLock, []

    class Slow(real):
        def acquire(self, *args, **kwargs):
            if not swept:
                swept.append(self.lock_file)
                abandoned_lock = real(self.lock_file)
                with abandoned_lock:
                    pass
                sweep(place)
            return super().acquire(*args, **kwargs)

    monkeypatch.setattr(module.filelock, "FileLock", Slow)
    folder, lock = module._made(place)
    assert swept and folder.exists()
    assert (folder / LOCK).exists()
    lock.release()


def test_a_long_place_is_left_for_a_short_one(monkeypatch):
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: "/var/folders/" + "x" * 40)
    assert str(module._place()) in ("/tmp", "/var/folders/" + "x" * 40)
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: "/short")
    assert str(module._place()) == "/short"


def test_no_room_is_one_line(place, monkeypatch):
    def no(**_):
        raise OSError(28, "No space left on device", str(place))

    monkeypatch.setattr(module.tempfile, "mkdtemp", no)
    told = "no folder for Ray: No space left on device"
    with pytest.raises(LmsiError, match=told) as e, scratch():
        pass
    assert "TMPDIR" in e.value.hint
