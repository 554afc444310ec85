"""How much more memory this process may take: the machine's, its control group's, its own limit.

Knows Linux's control groups of both versions and POSIX limits; elsewhere the machine's free memory
is all there is to know. Reads files, changes nothing.

    free_bytes() == 5_368_709_120
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")
STATUS = Path("/proc/self/status")


def free_bytes() -> int:
    """The least of what the machine has free, and what the limits on this process leave."""
    import psutil

    return max(0, min([int(psutil.virtual_memory().available), *_groups(), *_own_limits()]))


def _groups() -> Iterator[int]:
    """What each control group around this process has left; those without a limit say nothing."""
    try:
        lines = OWN_GROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds in ("", "memory"):
            root = GROUPS / kinds
            names = (
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                if kinds
                else ("memory.max", "memory.current", "inactive_file")
            )
            inner = root / path.lstrip("/")
            for folder in (inner, *inner.parents):
                if folder == root.parent or not folder.is_relative_to(root):
                    break
                yield from _left(folder, *names)


def _left(folder: Path, limit: str, used: str, cached: str) -> Iterator[int]:
    """Bytes left in one group; pages of files that nobody reads any more can go at once."""
    try:
        most = (folder / limit).read_text().strip()
        now = int((folder / used).read_text())
        told = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return
    if most != "max":
        yield int(most) - now + int(told.get(cached, 0))


def _own_limits() -> Iterator[int]:
    """What ``ulimit -v`` and ``ulimit -d`` leave."""
    try:
        import resource

        told = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    except (ImportError, OSError, ValueError):
        return
    for limit, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            yield most - 1024 * int(told[used].split()[0])
