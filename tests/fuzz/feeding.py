"""Feeds spoiled files to lmsi in a child process, and holds it to what may come of that.

A child has a bound on its memory, and is watched by the clock; where it may write is looked at with
every file that it opens. What comes of one input:

    Outcome(number=17, code=1, fault="", seconds=0.01, mib=0.2)
"""

import os
import random
import resource
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path
from typing import NamedTuple

import forked

from lmsi_cli.errors import LmsiError

SECONDS = 10  # of CPU time that one input may take
CLOCK = 60  # seconds until one that waits, or a child that does not start, is given up
ROOM = 1 << 30  # bytes of address space above what the child begins with
GROWTH = 256  # MiB that one input may add to the child: the inputs are small
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.truncate")


class Outcome(NamedTuple):
    """What came of an input; ``code`` is the exit code, ``fault`` what is wrong with that."""

    number: int
    code: int | None
    fault: str
    seconds: float
    mib: float


def feed(kind, numbers):
    """Feed the inputs of a kind; yields an ``Outcome`` for each, whatever becomes of the child."""
    numbers = list(numbers)
    while numbers:
        mine, theirs = forked.CONTEXT.Pipe()
        child = forked.CONTEXT.Process(target=_serve, args=(theirs, kind, numbers), daemon=True)
        child.start()
        theirs.close()
        for done in _heard(mine, child, numbers):
            numbers.remove(done.number)
            yield done
        child.join()


def _heard(pipe, child, numbers):
    """Outcomes until the child ends; its death or silence is the outcome of the next number."""
    left, said = list(numbers), False
    while left:
        try:
            if not pipe.poll(CLOCK):
                child.kill()
                yield Outcome(left[0], None, f"hangs for over {CLOCK} s", CLOCK, 0.0)
                return
            done = pipe.recv()
        except EOFError:
            child.join()
            if child.exitcode != 1 or not said:  # else it left as ``_leave`` does
                yield Outcome(left[0], None, f"dies ({child.exitcode})", 0.0, 0.0)
            return
        left.remove(done.number)
        said = True
        yield done


def _serve(pipe, kind, numbers):
    import kinds

    with tempfile.TemporaryDirectory() as place, Path(os.devnull).open("w") as nowhere:
        os.chdir(place)
        os.environ |= {"LMSI_CACHE": f"{place}/cache", "TMPDIR": place}
        tempfile.tempdir = place
        target = kinds.KINDS[kind](Path(place))
        os.dup2(nowhere.fileno(), 2)  # llama.cpp and pyarrow may write there
        bound()
        writes = watched(Path(place))
        leave = os._exit
        for number in numbers:
            os._exit = partial(_leave, pipe, number, leave)
            pipe.send(outcome(target, random.Random(f"{kind}:{number}"), number, writes))


def _leave(pipe, number, leave, code):
    """Where llama.cpp would kill the process, it leaves with a line: engine/llama.py."""
    pipe.send(Outcome(number, code, "", 0.0, 0.0))
    leave(code)


def outcome(target, rng, number, writes):
    """What comes of one input in this process; ``writes`` is a list from ``watched``."""
    writes.clear()
    before, begun = _peak(), time.process_time()
    code, fault = None, ""
    try:
        code, fault = target(rng)
    except BaseException as e:  # noqa: BLE001 - any at all is a fault
        place = traceback.extract_tb(e.__traceback__)
        ours = [f for f in place if "/lmsi_cli/" in f.filename] or place
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        fault = f"{type(e).__name__} at {where}: {str(e)[:120]}"
    seconds, mib = time.process_time() - begun, _peak() - before
    much = [f"takes {seconds:.0f} s"] * (seconds > SECONDS) + [f"takes {mib:.0f} MiB"] * (
        mib > GROWTH
    )
    return Outcome(number, code, fault or "; ".join([*much, *writes]), seconds, mib)


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bound():
    """Bound this process's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, [pages * resource.getpagesize() + ROOM] * 2)


def watched(place):
    """A list that is told of every write outside a folder."""
    found, places = [], (str(place), os.devnull, "/dev/shm", "/proc/self", "/dev/pts")

    def look(event, given):
        if event == "open":
            file, _, flags = given
            written = isinstance(file, str) and (flags or 0) & WRITES
        elif written := event in CHANGES:
            file = given[0]
        if written and not str(Path(os.fsdecode(file)).resolve()).startswith(places):
            found.append(f"writes {file!r}")
        if event == "socket.connect" and given[1][0] != "127.0.0.1":
            found.append(f"connects to {given[1]!r}")

    sys.addaudithook(look)
    return found


def refused(e, *names):
    """The exit code of a refusal, and what is wrong with it: it is one line and names a file."""
    assert isinstance(e, LmsiError)
    named = any(name in str(e) for name in names)
    return 1, "" if named else f"names no file: {str(e)[:200]}"
