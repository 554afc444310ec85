"""Work in a process of its own: what it says and returns comes back, and it never outlives us."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lmsi_cli import aside
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Silent
from lmsi_cli.training.validation import DestroyedError


@pytest.fixture(autouse=True)
def spawned(monkeypatch):
    """As users have it, and not as the other tests do."""
    monkeypatch.setattr(aside, "multiprocessing", multiprocessing)


def counting(up_to, progress):
    progress.start("counting", up_to)
    progress.advance(up_to, loss=0.5, rate="fast")
    progress.say(f"counted to {up_to}")
    return {"pid": os.getpid(), "torch": "torch" in sys.modules}


def failing(progress):
    raise DestroyedError("it diverged", hint="lower --lr")


def refused(progress):
    raise OSError(errno.EROFS, "Read-only file system", "r/adapter")


def deaf(progress):
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def dying(progress):
    os.kill(os.getpid(), signal.SIGKILL)


def waiting(folder, progress):
    """Until it is ended; leaves word of how it was."""
    (folder / "pid").write_text(str(os.getpid()))
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        (folder / "saved").touch()
        raise


def test_progress_and_the_result_come_back(watcher):
    told = aside.run(counting, 7, progress=watcher, name="counting")
    assert told == {"pid": told["pid"], "torch": False} and told["pid"] != os.getpid()
    assert (watcher.labels, watcher.done, watcher.said) == (
        [("counting", 7)], [7], ["counted to 7"],
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no masks")
def test_ctrl_c_never_meets_the_first_process_either():
    """Only in a fresh interpreter is it the first, which starts multiprocessing's tracker, too."""
    code = "import test_aside as t; print(t.aside.run(t.deaf, progress=t.Silent(), name='deaf'))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("work", "kind", "told"),
    [
        (failing, DestroyedError, "it diverged"),
        (refused, LmsiError, r"r/adapter: Read-only"),
        (dying, LmsiError, r"the process of training died \(signal 9\)"),
    ],
)
def test_an_error_comes_back_as_it_is_and_a_death_is_told(work, kind, told):
    with pytest.raises(kind, match=told) as e:
        aside.run(work, progress=Silent(), name="training")
    assert kind is LmsiError or e.value.hint == "lower --lr"


OUTER = """
import sys
from pathlib import Path
from lmsi_cli import aside
from lmsi_cli.records import Silent
from test_aside import waiting
if __name__ == "__main__":
    aside.run(waiting, Path(sys.argv[1]), progress=Silent(), name="waiting")
"""


def begun(folder):
    """A process whose work has begun aside, and the number of that other one."""
    here = os.pathsep.join([os.getcwd(), str(Path(__file__).parent)])  # noqa: PTH109
    outer = subprocess.Popen(
        [sys.executable, "-c", OUTER, str(folder)],
        env={**os.environ, "PYTHONPATH": here},
        stderr=subprocess.PIPE,
    )
    while not (folder / "pid").exists() or not (folder / "pid").read_text():
        assert outer.poll() is None, outer.communicate()
        time.sleep(0.01)
    return outer, int((folder / "pid").read_text())


def gone(number):
    try:
        psutil.Process(number).wait(30)
    except psutil.NoSuchProcess:
        return True
    return not psutil.pid_exists(number)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "saved"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_it_ends_with_the_process_that_asked(tmp_path, number, saved):
    """At Ctrl-C it meets that as well and may save what it has; after kill -9 it just ends."""
    outer, inner = begun(tmp_path)
    outer.send_signal(number)
    outer.communicate(timeout=60)
    assert gone(inner)
    assert (tmp_path / "saved").exists() is saved
