"""`lmsi sample --cluster`: Ray actors sample batches of questions, the driver writes the results.

Knows Ray, engines and questions; nothing of run folders. A path depends only on the model, the
settings and its key, so Ray can restart a dead worker and draw the paths of its batch again.

    with connected(settings) as (ray, room):
        Pool(ray, setup, room).draw([Lacking(question, paths=(3, 5))], paths=2)
    -> Result("q7", paths=[Path(path=3, ...), Path(path=5, ...)]), ...
"""

from __future__ import annotations

import os
import platform
import signal
import socket
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path as File
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any, NamedTuple

from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.base import Engine, Refusal, Request, Wanted, draw, path_seed, pinned
from lmsi_cli.engine.checks import split_for
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.paths import to_path, to_requests
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.records import Path, Question
from lmsi_cli.run_folder import sha256_file
from lmsi_cli.stopping import Decision, Stop
from lmsi_cli.voting.ballots import BallotWatch

FEWEST, MOST = 16, 256  # paths of a batch, as far as whole questions allow
RETRIES = 2  # times that Ray repeats a batch whose worker died
CHECK = 0.25  # seconds between checks for a signal; Ray itself checks once a second
SHOWN = 32  # questions whose prompts show what all prompts have in common
STORE = 100 * 2**20  # bytes of Ray's object store: results are small and pass through it at once
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# Ray listens on the loopback address alone, and its workers keep their normal priority
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}


class Room(NamedTuple):
    """CPUs per worker, the number of workers, and GPUs per worker (0 or 1)."""

    threads: int
    workers: int
    gpus: int = 0


class WorkerSetup(NamedTuple):
    """What each worker runs with; the files are at the same place on every machine."""

    files: dict[str, str]  # hashes: of the model, and of the adapter if there is one
    settings: SampleConfig
    task: Task
    shown: Sequence[str]  # see ``shown_of``
    lmsi: str = version("lmsi")


class Lacking(NamedTuple):
    """A question, the numbers of the paths it lacks, and what its other paths decide so far."""

    question: Question
    paths: tuple[int, ...]
    decision: Decision | None = None


class Result(NamedTuple):
    """A question's paths, or why there are none. One without an id ends a batch, with counts."""

    question_id: str
    paths: Sequence[Path] = ()
    refused: Refusal | None = None
    cancelled: tuple[int, int] = (0, 0)  # paths, and their tokens
    settled: dict[str, int | str] | None = None


def shown_of(questions: Sequence[Question]) -> list[str]:
    """A sample of the texts with the same common beginning as all of them, and the longest one."""
    texts = sorted({q.question for q in questions})
    return [*texts[:: max(1, len(texts) // SHOWN)], *texts[-1:], max(texts, key=len, default="")]


def open_engine(setup: WorkerSetup) -> Engine:
    """Check this machine and load the model; LmsiError says what is missing on which machine."""
    here = f"on {platform.node()}: "
    if version("lmsi") != setup.lmsi:
        hint = f"on that machine: pip install '.[ray]' in the folder of lmsi {setup.lmsi}"
        raise LmsiError(f"{here}lmsi {version('lmsi')} is installed there, {setup.lmsi} here", hint)
    for file, sha256 in setup.files.items():
        if not File(file).is_file():
            hint = "every machine needs it at the same place: copy it there, or use a shared disk"
            raise LmsiError(f"{here}{file}: no such file", hint)
        if sha256_file(File(file)) != sha256:
            raise LmsiError(f"{here}{file}: another file than the driver's", "copy it anew")
    model, *adapter = setup.files
    engine = LlamaEngine(File(model), setup.settings)
    engine.use_adapter(adapter[0] if adapter else None)
    return engine


class Worker:
    """One engine, in a Ray actor; knows nothing of Ray."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup

    def ready(self) -> None:
        """Load the model; LmsiError as ``open_engine``."""
        assert self._engine

    @cached_property
    def _engine(self) -> Engine:  # not in __init__: Ray reports only a method's errors in full
        return open_engine(self._setup)

    @cached_property
    def _shown(self) -> list[Request]:
        texts = (Question(id="", question=text) for text in self._setup.shown)
        return [r for q in texts for r in self._requests(q, ())]

    def draw(self, batch: Sequence[Lacking]) -> Iterator[Result]:
        """Draw the missing paths; yields one result per question, and one with counts.

        The order is always the same, so that Ray can repeat the call and skip what it already has.
        """
        engine, settings, task = self._engine, self._setup.settings, self._setup.task
        asked = [r for x in batch for r in self._requests(x.question, x.paths)]
        requests, skipped = split_for(engine, [*self._shown, *asked], settings)
        left_out = {s.question_id for s in skipped}
        yield from (Result(s.question_id, refused=s) for s in skipped)
        watch, found = BallotWatch(Stop.parse(settings.stop)), defaultdict[str, list[Path]](list)
        watch.decisions = {x.question.id: x.decision for x in batch if x.decision is not None}
        words = {x.question.id: x.question.question for x in batch}
        due = deque(x for x in batch if x.question.id not in left_out)
        early = watch if watch.stop else None
        for g in draw(engine, requests, settings, task.trigger, early):
            path = to_path(g, task, words[g.question_id])
            found[path.question_id].append(path)
            watch.tell(path)
            while due and len(found[due[0].question.id]) == len(due[0].paths):
                yield Result(due[0].question.id, found[due.popleft().question.id])
        yield from (Result(x.question.id, found[x.question.id]) for x in due)
        engine.pin(pinned(engine.settled))  # keep it for batches of another length
        yield Result("", (), None, (watch.paths, watch.tokens), engine.settled)

    def _requests(self, q: Question, paths: Sequence[int]) -> list[Request]:
        settings, task = self._setup.settings, self._setup.task
        wanted = tuple(Wanted(i, path_seed(settings.seed, q.id, i)) for i in paths)
        return to_requests(self._engine, task, q, task.format, wanted)


class Pool:
    """The workers of one run; Ray ends them when the driver ends, however it ends."""

    def __init__(self, ray: Any, setup: WorkerSetup, room: Room) -> None:  # noqa: ANN401 - a module
        self._ray = ray
        lasting = {"max_restarts": -1, "max_task_retries": RETRIES, "scheduling_strategy": "SPREAD"}
        actor = ray.remote(Worker).options(num_cpus=room.threads, num_gpus=room.gpus, **lasting)
        self._workers = [actor.remote(setup) for _ in range(room.workers)]

    def ready(self) -> None:
        """Wait until a first worker has loaded the model; LmsiError if it cannot."""
        calls = [worker.ready.remote() for worker in self._workers]
        while not (done := self._ray.wait(calls, timeout=CHECK)[0]):
            continue
        self._get(done[0])

    def draw(self, work: Iterable[Lacking], paths: int) -> Iterator[Result]:
        """Let the workers draw all work, ``paths`` paths in all; yields each question once."""
        batches = _batches(iter(work), paths, len(self._workers))
        calls: dict[Any, Any] = {}  # batches under way, and the worker of each
        idle = self._workers
        while idle or calls:
            for worker in idle:
                if batch := next(batches, None):
                    calls[worker.draw.options(num_returns="streaming").remote(batch)] = worker
                else:  # it frees room for workers that wait
                    self._ray.kill(worker)
            idle = []
            for call in self._ray.wait(list(calls), timeout=CHECK)[0] if calls else ():
                if (done := next(call, None)) is not None:
                    yield self._get(done)
                else:
                    idle.append(calls.pop(call))

    def _get(self, call: Any) -> Any:  # noqa: ANN401 - Ray's own
        """The result of a call; an LmsiError in a worker is raised as if it had happened here."""
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayTaskError as e:
            if isinstance(e.cause, LmsiError):
                raise LmsiError(str(e.cause), e.cause.hint) from None
            why = f"{type(e.cause).__name__}: {shorten(str(e.cause), 300)}"
            raise LmsiError(f"a worker failed: {why}") from e
        except self._ray.exceptions.RayError as e:
            hint = "look at its machine's memory; the same command goes on where it stopped"
            raise LmsiError(f"a worker died again and again: {shorten(str(e), 300)}", hint) from e


def _batches(work: Iterator[Lacking], left: int, workers: int) -> Iterator[list[Lacking]]:
    """Batches of whole questions, up to ``MOST`` paths at first and fewer towards the end."""
    for first in work:
        batch, size = [first], min(max(left // (2 * workers), FEWEST), MOST)
        while sum(len(x.paths) for x in batch) < size and (x := next(work, None)):
            batch.append(x)
        left -= sum(len(x.paths) for x in batch)
        yield batch


@contextmanager
def connected(settings: SampleConfig) -> Iterator[tuple[Any, Room]]:
    """Connect to a cluster, or start one that ends with the process; LmsiError: why that fails."""
    local, sigterm = settings.cluster == "local", signal.getsignal(signal.SIGTERM)
    os.environ.update({**QUIET, **LOOPBACK} if local else QUIET)  # Ray reads them on import
    try:
        import ray
    except ImportError as e:
        hint = "pip install '.[ray]' in lmsi's folder"
        raise LmsiError(f"--cluster needs Ray: {e}", hint) from None
    with TemporaryDirectory(prefix="lmsi-ray-", ignore_cleanup_errors=True) as folder:
        own = {"num_cpus": settings.threads * settings.workers or None, "_temp_dir": folder}
        own |= {"object_store_memory": STORE, "include_dashboard": False}
        try:
            _connect(ray, settings.cluster, own if local else {})
            signal.signal(signal.SIGTERM, sigterm)  # Ray replaces lmsi's handler, which saves
            yield ray, room_of(settings, ray.nodes())
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str, own: dict[str, Any]) -> None:  # noqa: ANN401 - a module
    problem, hint = "no Ray cluster answers there", "`ray start --head` prints HOST:PORT"
    if own:
        problem, hint = "Ray does not start", "it needs free memory, and a TMPDIR with a short name"
    host, colon, port = address.rpartition(":")
    try:
        if colon:  # if nobody listens, Ray itself gives up only after minutes
            socket.create_connection((host.strip("[]"), int(port)), 5).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except Exception as e:  # Ray raises nothing more specific
        raise LmsiError(f"--cluster {address}: {problem}: {shorten(str(e), 300)}", hint) from e


def room_of(settings: SampleConfig, nodes: Sequence[dict[str, Any]]) -> Room:
    """Count the workers that fit on the machines of ``ray.nodes()``; LmsiError if none does.

    Without --threads, each gets all CPUs of the smallest machine or its share of this one.
    """
    alive = [n["Resources"] for n in nodes if n["Alive"] and n["Resources"].get("CPU")]
    share = (settings.cluster == "local" and settings.workers) or 1
    least = min((int(r["CPU"]) for r in alive), default=1)
    threads = settings.threads or max(1, least // share)
    gpus = int(settings.gpu_layers not in ("none", 0))
    fit = sum(int(min(r["CPU"] // threads, r.get("GPU", 0) if gpus else r["CPU"])) for r in alive)
    if not fit:
        problem = f"no machine there has {threads} CPUs{' and a GPU' * gpus} for a worker"
        raise LmsiError(f"--cluster {settings.cluster}: {problem}", hint="lower --threads")
    return Room(threads, min(settings.workers or fit, fit), gpus)
