"""What Ray costs: the same paths from one process and from workers, in CPU and wall seconds a path.

Run by hand on a silent machine with two cores; each row is a process of its own, and is watched
from its first path to its last, so that neither loading nor the start of Ray counts:

    python -m benchmarks.ray_overhead                 # into benchmarks/results/ray_overhead.json
    python -m benchmarks.ray_overhead --small --no-write

The rows "without a model" say scripted texts, so that what is left is the messages. CPU by kind of
process; "start" is from the command to the first path, "alike" whether the paths are those of the
first row with such an engine, bit for bit:

    {"how": "2 workers x 1 thread", "paths": 1567, "seconds": 31.2, "start": 9.8, "alike": true,
     "cpu_ms_path": {"driver": 0.21, "daemons": 0.35, "workers": 38.4}}
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "ray_overhead.json"
MODEL = ROOT / "models" / "tinymath" / "tinymath-f16.gguf"
QUESTIONS = ROOT / "models" / "tinymath" / "test.jsonl"
LOOK = 0.05  # seconds between two looks at the processes and the file
WIDTH = 16  # paths side by side in each engine
KINDS = ("driver", "daemons", "workers")
SAID = (
    " She had 17 eggs and bought 3 boxes of 12 each. We compute 12 * 3 = 36. Then 36 + 17 = 53. "
    "The answer is 53."
)


class Size(NamedTuple):
    """Questions and paths of each: with the model, and without one."""

    questions: int
    paths: int
    scripted: int
    scripted_paths: int


FULL, SMALL = Size(100, 16, 2000, 64), Size(8, 4, 100, 64)


class Look(NamedTuple):
    """CPU seconds of each process so far, by (number, kind), and how many paths there are."""

    at: float
    paths: int
    cpu: dict[tuple[int, str], float]


# -- watching a run --------------------------------------------------------------------------


def watched(command: Sequence[str], paths: Path, total: int) -> dict[str, Any]:
    """Run a command until it ends; what happened between its first path and its last."""
    begun = time.monotonic()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    looks = [x for x in _looks(process, paths) if x.paths]
    if process.returncode or not looks or looks[-1].paths != total:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    first, last = looks[0], next(x for x in looks if x.paths == total)
    drawn = last.paths - first.paths
    spent = dict.fromkeys(KINDS, 0.0)
    known: dict[tuple[int, str], float] = {}  # workers may be gone before the last look
    for look in looks:
        known |= look.cpu
    for key, seconds in known.items():
        spent[key[1]] += seconds - first.cpu.get(key, 0.0)
    return {
        "paths": drawn,
        "seconds": round(last.at - first.at, 2),
        "start": round(first.at - begun, 2),
        "cpu_ms_path": {k: round(1000 * spent[k] / max(drawn, 1), 4) for k in KINDS},
    }


def _looks(process: subprocess.Popen[bytes], file: Path) -> Iterator[Look]:
    """One look after another while a process lives; only the first with a number of paths."""
    seen = read = 0
    while process.poll() is None:
        if file.exists():
            with file.open("rb") as lines:
                lines.seek(read)
                new = lines.read()
            read, before = read + len(new), seen
            seen += new.count(b"\n")
            if seen > before:
                yield Look(time.monotonic(), seen, _cpu(process.pid))
        time.sleep(LOOK)


def _cpu(driver: int) -> dict[tuple[int, str], float]:
    found = {}
    for process in [psutil.Process(driver), *psutil.Process(driver).children(recursive=True)]:
        with suppress(psutil.Error):
            worker = process.name().startswith("ray::Drawer")
            kind = "driver" if process.pid == driver else "workers" if worker else "daemons"
            found[process.pid, kind] = sum(process.cpu_times()[:2])
    return found


def content(paths: Path) -> str:
    """A hash of the paths whatever their order."""
    lines = sorted(paths.read_bytes().splitlines())
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


# -- the runs --------------------------------------------------------------------------------


def drawing(size: Size) -> dict[str, list[str]]:
    """Commands that draw the same paths of a model."""
    asked = ["sample", str(QUESTIONS), "-m", str(MODEL), "-q", "--seed", "5", "--kv", "split"]
    asked += ["--flash-attn", "on", "-np", str(WIDTH), "--max-tokens", "128"]
    asked += ["--limit", str(size.questions), "-n", str(size.paths)]
    lmsi = [sys.executable, "-m", "lmsi_cli", *asked]
    local = ["--cluster", "local", "--workers"]
    return {
        "one process x 2 threads": [*lmsi, "--threads", "2"],
        "1 worker x 2 threads": [*lmsi, *local, "1", "--worker-threads", "2"],
        "2 workers x 1 thread": [*lmsi, *local, "2", "--worker-threads", "1"],
    }


def scripted(size: Size) -> dict[str, list[str]]:
    """Commands that only say scripted texts."""
    this = [sys.executable, "-m", "benchmarks.ray_overhead"]
    this += ["--scripted", f"{size.scripted}", f"{size.scripted_paths}"]
    names = ("one process", "1 worker", "2 workers")
    return {f"without a model, {n}": [*this, f"{i}"] for i, n in enumerate(names)}


def measure(size: Size) -> list[dict[str, Any]]:
    """All rows."""
    rows: list[dict[str, Any]] = []
    model, script = size.questions * size.paths, size.scripted * size.scripted_paths
    for commands, total in ((drawing(size), model), (scripted(size), script)):
        first = ""
        for how, command in commands.items():
            with tempfile.TemporaryDirectory() as folder:
                paths = Path(folder) / "paths.jsonl"
                row = watched([*command, "-o", folder], paths, total)
                first = first or content(paths)
                rows.append({"how": how, **row, "alike": content(paths) == first})
            print(told(rows[-1]), flush=True)
    return rows


def told(row: dict[str, Any]) -> str:
    """A row as a line of Markdown."""
    cpu = row["cpu_ms_path"]
    rate = row["paths"] / max(row["seconds"], 1e-9)
    wall = 1000 * row["seconds"] / max(row["paths"], 1)
    cells = [row["how"], f"{rate:,.1f}", f"{wall:.3f}", *(f"{cpu[k]:.3f}" for k in KINDS)]
    return f"| {' | '.join(cells)} | {row['start']:.1f} | {'yes' if row['alike'] else 'no'} |"


# -- without a model -------------------------------------------------------------------------


class Script(dict[str, list[str]]):
    """The same text for every question."""

    def __missing__(self, key: str) -> list[str]:
        return [SAID]


def speaking() -> type[Any]:
    """The class of an actor as ``cluster/actor.py`` makes it, but for the engine."""

    class Drawer:
        def ready(self, job: bytes, _: str) -> bytes:
            import msgspec

            from benchmarks.ray_overhead import Script
            from lmsi_cli.cluster.wire import Job, Ready, sent
            from lmsi_cli.cluster.worker import Worker
            from lmsi_cli.engine.scripted import ScriptedEngine

            settings = msgspec.json.decode(job, type=Job).settings
            self.worker = Worker(ScriptedEngine(Script()), settings)
            return sent(Ready(node=""))

        def start(self, start: bytes) -> None:
            from lmsi_cli.cluster import serving

            serving.start(self.worker, start)

        def trade(self, orders: list[bytes], patience: float, linger: float) -> bytes:
            from lmsi_cli.cluster import serving

            return serving.trade(self.worker, orders, patience, linger)

    return Drawer


def speak(questions: int, paths: int, workers: int, out: Path) -> None:
    """Fill a run folder with scripted paths, in this process if there are no workers."""
    from lmsi_cli.cli.console import watcher
    from lmsi_cli.cluster import crew as crews
    from lmsi_cli.cluster.reaching import Wish, load_ray, reached
    from lmsi_cli.cluster.wire import Job
    from lmsi_cli.config import SampleConfig
    from lmsi_cli.engine.scripted import ScriptedEngine
    from lmsi_cli.records import Question
    from lmsi_cli.rundir import RunDir
    from lmsi_cli.stages import sample as stage
    from lmsi_cli.tasks.loader import load_task

    asked = [Question(id=f"q{i}", question=f"What is {i} + {i}?") for i in range(questions)]
    config, run, task = SampleConfig(paths=paths), RunDir(out), load_task("number")
    stage.bind(run, config, {})
    if not workers:
        stage.sample(asked, ScriptedEngine(Script()), task, config, run, watcher(True))
        return
    crews.actor_class = speaking  # type: ignore[attr-defined]
    wish, job = Wish("local", 1, workers), Job(model="", model_sha256="", settings=config, lmsi="")
    ray = load_ray(local=True)
    with reached(wish) as room, crews.RayCrew(ray, job, room, wish, print) as crew:
        crew.chat()
        stage.spread(asked, crew, task, config, run, watcher(True))


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a try, with few questions")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--scripted", nargs=3, type=int, help=argparse.SUPPRESS)
    parser.add_argument("-o", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.scripted:
        questions, paths, workers = given.scripted
        speak(questions, paths, workers, given.o)
        return
    print("| | paths/s | ms a path | driver, CPU ms | daemons | workers | start, s | alike |")
    print("|---|---|---|---|---|---|---|---|")
    size = SMALL if given.small else FULL
    result = {"size": size._asdict(), "width": WIDTH, "rows": measure(size)}
    if not given.no_write:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
