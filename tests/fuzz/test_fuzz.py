"""Spoiled files of every kind: a right result, or one line that names the file.

They are fed in a child process that has a bound on its memory and is watched by the clock; it may
write nowhere but in its folder, and connect to nobody. With more inputs of each kind:
``INPUTS=1000 pytest tests/fuzz``.
"""

import os
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

import forked
import kinds
import pytest

# Inputs of each kind where no number is asked for; those of a run folder are whole commands.
FEW = {"questions": 200, "tables": 60, "run": 40, "adapter": 12, "model": 60, "loaded": 30,
       "template": 80, "replies": 30}  # fmt: skip
SECONDS = 10  # of CPU time that one input may take
CLOCK = 60  # seconds until a child is given up
ROOM = 1 << 30  # bytes of address space above what the child begins with
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.truncate")


@pytest.mark.model
@pytest.mark.parametrize("kind", FEW)
def test_rubbish_is_read_rightly_or_refused_in_a_line(kind):
    count = int(os.environ.get("INPUTS", FEW[kind]))
    found = dict(enumerate(fed(kind, count)))
    assert len(found) == count
    assert {number: fault for number, fault in found.items() if fault} == {}


def fed(kind, count):
    """Yield what is wrong with each of so many inputs; a child that dies is replaced.

    Where llama.cpp would abort, lmsi leaves with a line and exit code 1 (engine/llama.py).
    """
    done = 0
    while done < count:
        mine, theirs = forked.CONTEXT.Pipe(False)
        child = forked.CONTEXT.Process(target=_serve, args=(theirs, kind, done, count))
        child.start()
        theirs.close()
        try:
            while done < count:
                fault = mine.recv() if mine.poll(CLOCK) else child.kill() or "hangs"
                done += 1
                yield fault
        except EOFError:
            child.join()
            done += 1
            yield "" if child.exitcode == 1 else f"dies ({child.exitcode})"


def _serve(pipe, kind, first, count):
    with tempfile.TemporaryDirectory() as place, Path(os.devnull).open("w") as nowhere:
        os.chdir(place)
        os.environ |= {"LMSI_CACHE": f"{place}/cache", "TMPDIR": place}
        tempfile.tempdir = place
        target = kinds.KINDS[kind](Path(place))
        os.dup2(nowhere.fileno(), 2)  # llama.cpp and pyarrow may write there
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, [pages * resource.getpagesize() + ROOM] * 2)
        writes = watched(Path(place))
        for number in range(first, count):
            pipe.send(fault_of(target, random.Random(f"{kind}:{number}"), writes))


def fault_of(target, rng, writes):
    """What is wrong with what comes of one input; ``writes`` is a list from ``watched``."""
    writes.clear()
    begun = time.process_time()
    try:
        fault = target(rng)
    except BaseException as e:  # noqa: BLE001 - any at all is a fault
        place = traceback.extract_tb(e.__traceback__)
        ours = [f for f in place if "/lmsi_cli/" in f.filename] or place
        return f"{type(e).__name__} at {ours[-1].filename}:{ours[-1].lineno}: {str(e)[:120]}"
    seconds = time.process_time() - begun
    return fault or "; ".join([f"takes {seconds:.0f} s"] * (seconds > SECONDS) + writes)


def watched(place):
    """A list that is told of every write outside a folder, and of every connection elsewhere."""
    found, places = [], (str(place), os.devnull, "/dev/shm", "/proc/self", "/dev/pts")

    def look(event, given):
        written = event in CHANGES or (
            event == "open" and isinstance(given[0], str) and (given[2] or 0) & WRITES
        )
        if written and not str(Path(os.fsdecode(given[0])).resolve()).startswith(places):
            found.append(f"writes {given[0]!r}")
        if event == "socket.connect" and given[1][0] != "127.0.0.1":
            found.append(f"connects to {given[1]!r}")

    sys.addaudithook(look)
    return found
