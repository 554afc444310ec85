"""What may happen to a command at any moment, and how it may end then.

Disks and read-only folders are mounted, so they need Linux and root; a clock that jumps needs
``faketime``. A blow falls like this:

    with blow.around(folder, size):
        process = job.start(folder, blow.wrapper(folder))
        ...
        blow.fall(process, folder)
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import ClassVar

JUMPS = ("-1d", "+3600d")  # of the clock, from what it says


class Blow:
    """A signal to the process, or to all that it has started; ``codes`` are how it may end.

    Before Python runs our own lines a signal ends it as it ends any program.
    """

    codes: ClassVar = set()

    def __init__(self, name, number=None, code=None, group=False):
        self.name, self.number, self.group = name, number, group
        self.codes = {code, -number if number else code}

    def possible(self):
        """Whether this machine can do it."""
        return sys.platform != "win32"

    @contextmanager
    def around(self, folder, size):
        """Whatever has to be there before the command starts; ``size``: the run's at its end."""
        yield

    def wrapper(self, folder):
        """Words before the command."""
        return ()

    def fall(self, process, folder):
        """Now."""
        (os.killpg if self.group else os.kill)(process.pid, self.number)


class Stopped(Blow):
    """SIGSTOP to all, and a while later SIGCONT: it goes on as if nothing had been."""

    def fall(self, process, folder):
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGCONT)


class Mounted(Blow):
    """What root can do to the run folder."""

    def possible(self):
        return sys.platform == "linux" and os.geteuid() == 0 and _mounts()


class Full(Mounted):
    """A disk that has room for a part of what the command writes; how much, ``share`` says."""

    share = 0.5  # of what is written from the beginning to the end

    @contextmanager
    def around(self, folder, size):
        run = folder / "r"
        run.mkdir(exist_ok=True)
        begun = _size(run)
        kept = shutil.move(run, folder / "begun")
        run.mkdir()
        room = begun + int(self.share * max(size - begun, 0)) + 4096 * (_files(kept) + 3)
        _run("mount", "-t", "tmpfs", "-o", f"size={room}", "lmsi-soak", run)
        try:
            shutil.copytree(kept, run, dirs_exist_ok=True)
            yield
        finally:
            _settle(run, folder)

    def fall(self, process, folder):
        """It falls by itself."""


class ReadOnly(Mounted):
    """Files that are open go on being written, none can be made or renamed."""

    @contextmanager
    def around(self, folder, size):
        (folder / "r").mkdir(exist_ok=True)
        yield
        subprocess.run(["umount", "--lazy", folder / "r"], capture_output=True, check=False)

    def fall(self, process, folder):
        _run("mount", "--bind", folder / "r", folder / "r")
        _run("mount", "-o", "remount,bind,ro", folder / "r")


class Clock(Blow):
    """The wall clock jumps to yesterday or ten years ahead, by turns."""

    turn = 0

    def possible(self):
        return shutil.which("faketime") is not None

    def wrapper(self, folder):
        (folder / "clock").write_text("+0\n")
        now = {"FAKETIME_TIMESTAMP_FILE": folder / "clock", "FAKETIME_NO_CACHE": 1,
               "FAKETIME_DONT_FAKE_MONOTONIC": 1, "LD_PRELOAD": _faketime()}  # fmt: skip
        return ("env", *(f"{name}={value}" for name, value in now.items()))

    def fall(self, process, folder):
        self.turn += 1
        (folder / "clock").write_text(JUMPS[self.turn % 2] + "\n")


BLOWS = [
    Blow("kill -9", signal.SIGKILL, -9),
    Blow("kill -9, all its processes", signal.SIGKILL, -9, group=True),
    Blow("SIGTERM", signal.SIGTERM, 143),
    Blow("Ctrl-C", signal.SIGINT, 130, group=True),
    Stopped("SIGSTOP, SIGCONT", code=0),
    Full("full disk", code=1),
    ReadOnly("read-only folder", code=1),
    Clock("clock jumps", code=0),
]


def _settle(run, folder):
    """Bring what a mounted folder holds to the disk below it."""
    held = shutil.copytree(run, folder / "held")
    _run("umount", "--lazy", run)
    run.rmdir()
    shutil.move(held, run)
    shutil.rmtree(folder / "begun")


def _mounts():
    """Whether this root may mount: one in a container mostly may not."""
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return done.returncode == 0


def _faketime():
    """The library behind the command."""
    words = ["faketime", "-m", "-f", "+0d", "sh", "-c", "echo $LD_PRELOAD"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def _size(folder):
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _files(folder):
    from pathlib import Path

    return sum(1 for _ in Path(folder).rglob("*"))


def _run(*words):
    subprocess.run([*map(str, words)], check=True, capture_output=True)
