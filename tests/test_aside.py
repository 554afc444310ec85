"""Work in a process of its own: what it says and returns comes back, and it never outlives us."""

import errno
import multiprocessing
import os
import signal
import sys
import time

import forked
import psutil
import pytest

from lmsi_cli import aside
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Silent
from lmsi_cli.training.validation import DestroyedError

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture(autouse=True)
def spawned(monkeypatch):
    """As users have it, and not as the other tests do."""
    monkeypatch.setattr(aside, "multiprocessing", multiprocessing)


def counting(up_to, progress):
    progress.start("counting", up_to)
    progress.advance(up_to, loss=0.5, rate="fast")
    progress.say(f"counted to {up_to}")
    return os.getpid(), "torch" in sys.modules


def failing(error, progress):
    raise error


def dying(progress):
    os.kill(os.getpid(), signal.SIGKILL)


def deaf(progress):
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def waiting(folder, progress):
    """Until it is ended; leaves word of how it was."""
    (folder / "pid").write_text(str(os.getpid()))
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        (folder / "saved").touch()
        raise


def test_progress_and_the_result_come_back(watcher):
    number, torch_is_there = aside.run(counting, 7, progress=watcher, name="counting")
    assert number != os.getpid() and not torch_is_there
    told = watcher.labels, watcher.done, watcher.figures, watcher.said
    figures = {"loss": 0.5, "rate": "fast"}
    assert told == ([("counting", 7)], [7], [figures], ["counted to 7"])


@needs_signals
@pytest.mark.parametrize(
    ("work", "given", "kind", "told"),
    [
        (failing, [DestroyedError("it diverged", "lower --lr")], DestroyedError, "it diverged"),
        (failing, [OSError(errno.EROFS, "Read-only", "r/adapter")], LmsiError, "r/adapter: Read-"),
        (dying, [], LmsiError, r"the process of training died \(signal 9\)"),
    ],
)
def test_an_error_comes_back_as_it_is_and_a_death_is_told(work, given, kind, told):
    with pytest.raises(kind, match=told) as e:
        aside.run(work, *given, progress=Silent(), name="training")
    assert kind is LmsiError or e.value.hint == "lower --lr"


def fresh(work):
    """A fresh interpreter that runs some of the work above aside and prints what comes back."""
    run = f"t.aside.run({work}, progress=t.Silent(), name='work')"
    return forked.python("-c", f"import pathlib, test_aside as t; print({run})")


@needs_signals
def test_ctrl_c_never_meets_the_first_process_either():
    """Only in a fresh interpreter is it the first, which starts multiprocessing's tracker, too."""
    out, err = fresh("t.deaf").communicate()
    assert out == "True\n", err


@needs_signals
@pytest.mark.parametrize(("number", "saved"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_it_ends_with_the_process_that_asked(tmp_path, number, saved):
    """At Ctrl-C it is interrupted as well and may save what it has; after kill -9 it just ends."""
    outer, word = fresh(f"t.waiting, pathlib.Path({str(tmp_path)!r})"), tmp_path / "pid"
    while not word.exists() or not word.read_text():
        assert outer.poll() is None, outer.communicate()
        time.sleep(0.01)
    inner = psutil.Process(int(word.read_text()))
    outer.send_signal(number)
    outer.communicate(timeout=60)
    inner.wait(30)  # raises where it does not end
    assert (tmp_path / "saved").exists() is saved
