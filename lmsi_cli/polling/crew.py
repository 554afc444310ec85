r"""All questions of a run voted on, by this process or by several; the order is the same.

Knows pieces of a run and processes; nothing of what a vote is. Each piece holds whole questions. A
worker writes a piece's lines into files of a temporary folder (``TMPDIR``) and sends the sums; this
process takes the pieces in their order, so that the result is that of one process, to the byte. A
worker ends with its pipe: when the command is done, is interrupted, or dies. What goes through a
pipe, in the two directions:

    (7, <piece>, {"q1": 0, "q2": 180}, <observer>)      number, paths, where each question's line is
    (7, <tally>, <observer>)                            or (7, LmsiError("..."), None)
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path as File
from typing import Any, NamedTuple

from lmsi_cli.aside import undisturbed
from lmsi_cli.drafts import Draft, Shuffled
from lmsi_cli.errors import LmsiError
from lmsi_cli.indexed import Indexed, Placed
from lmsi_cli.lines import write_error
from lmsi_cli.polling.holding import hold
from lmsi_cli.polling.polls import Polls
from lmsi_cli.records import Path, Question
from lmsi_cli.store import Grouped, Piece
from lmsi_cli.verdict.observer import Observer
from lmsi_cli.voting import Tally

AHEAD = 2  # pieces a worker may be ahead of the one that is due, in files


class Sinks(NamedTuple):
    """Where the lines go."""

    votes: Draft
    train: Shuffled
    pairs: Shuffled

    def add(self, votes: Iterable[bytes], train: Iterable[bytes], pairs: Iterable[bytes]) -> None:
        """Add lines to each."""
        self.votes.add(votes)
        self.train.add(train)
        self.pairs.add(pairs)


def hold_all(
    paths: Grouped[Path],
    questions: Indexed[Question],
    polls: Polls,
    sinks: Sinks,
    watch: Observer | None,
    told: Callable[[Tally], None],
) -> Tally:
    """Vote on every question.

    Args:
        paths: By question.
        questions: By id.
        polls: How; its ``config.workers`` are the processes, one of them being none.
        sinks: Take the lines, in the order of ids.
        watch: Is told every question.
        told: Is given the sums now and then.

    Raises:
        LmsiError: As ``Polls.hold``; a question is missing; or a worker died.
    """
    tally = Tally()
    run = _alone if polls.config.workers == 1 else _together
    with closing(run(paths, questions, polls, sinks, watch)) as parts:
        for part in parts:
            tally.merge(part)
            told(tally)
    return tally


def _alone(
    paths: Grouped[Path],
    questions: Indexed[Question],
    polls: Polls,
    sinks: Sinks,
    watch: Observer | None,
) -> Generator[Tally, None, None]:
    def question_of(key: str) -> Question:
        found = questions.get(key)
        return found[0] if found else _missing(questions.path, key)

    for held in hold(paths, question_of, polls, watch):
        sinks.add(held.votes, held.train, held.pairs)
        yield held.tally


def _together(
    paths: Grouped[Path],
    questions: Indexed[Question],
    polls: Polls,
    sinks: Sinks,
    watch: Observer | None,
) -> Generator[Tally, None, None]:
    with (
        tempfile.TemporaryDirectory(prefix="lmsi-vote-") as temp,
        _workers(polls, questions.path, File(temp)) as crew,
    ):
        for number, tally, seen in crew.work(_tasks(paths, questions, watch)):
            if watch is not None and seen is not None:
                watch.merge(seen)
            with ExitStack() as stack:
                files = _files(File(temp), number)
                sinks.add(*(stack.enter_context(file.open("rb")) for file in files))
            for file in files:
                file.unlink()
            yield tally


Task = tuple[int, Piece[Path], dict[str, int], Observer | None]


def _tasks(
    paths: Grouped[Path], questions: Indexed[Question], watch: Observer | None
) -> Iterator[Task]:
    for number, piece in enumerate(paths.pieces()):
        places: dict[str, int] = {}
        for key in piece.names():
            found = questions.starts(key)
            places[key] = found[0] if found else _missing(questions.path, key)
        yield number, piece, places, watch.fresh() if watch is not None else None


def _missing(file: File, key: str) -> Any:  # noqa: ANN401 - never returns
    raise LmsiError(f"{file}: question {key!r} is not there", hint="add it, or delete its paths")


def _files(temp: File, number: int) -> tuple[File, File, File]:
    votes, train, pairs = (temp / f"{number}.{name}" for name in ("votes", "train", "pairs"))
    return votes, train, pairs


class _Worker(NamedTuple):
    process: Any
    pipe: Connection[Any, Any]


class _Crew:
    """The processes, and what they are at."""

    def __init__(self, workers: list[_Worker]) -> None:
        self._workers = {w.pipe: w for w in workers}
        self._idle = [w.pipe for w in workers]
        self._done: dict[int, tuple[Any, Any]] = {}

    def work(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Tally, Any]]:
        """Hand the tasks out, and give the results in their order."""
        waiting, given, due = iter(tasks), 0, 0
        most = AHEAD * len(self._workers)
        task = next(waiting, None)
        while task is not None or due < given:
            while task is not None and self._idle and given < due + most:
                self._send(self._idle.pop(), task)
                given, task = given + 1, next(waiting, None)
            self._receive()
            while due in self._done:
                told, seen = self._done.pop(due)
                if isinstance(told, LmsiError):
                    raise told
                yield due, told, seen
                due += 1

    def _send(self, pipe: Connection[Any, Any], task: Task) -> None:
        try:
            pipe.send(task)
        except OSError:
            self._died(pipe)

    def _receive(self) -> None:
        """Wait for any results."""
        busy = [pipe for pipe in self._workers if pipe not in self._idle]
        for pipe in wait(busy):
            assert isinstance(pipe, Connection)
            try:
                number, told, seen = pipe.recv()
            except (EOFError, OSError):
                self._died(pipe)
            self._done[number] = told, seen
            self._idle.append(pipe)

    def _died(self, pipe: Connection[Any, Any]) -> None:
        process = self._workers[pipe].process
        process.join(1)
        code = process.exitcode
        how = f"signal {-code}" if code and code < 0 else f"exit code {code}"
        raise LmsiError(
            f"a worker of the vote died ({how}); nothing was written",
            hint="each worker needs some 400 MiB: give fewer --workers, or 1 to see an error",
        )


@contextmanager
def _workers(polls: Polls, questions: File, temp: File) -> Iterator[_Crew]:
    """Start the processes; none is left behind."""
    spawn = multiprocessing.get_context("spawn")  # pyarrow's threads do not live through a fork
    started: list[_Worker] = []
    try:
        with undisturbed():
            for _ in range(polls.config.workers):
                mine, theirs = spawn.Pipe()
                process = spawn.Process(target=_serve, args=(theirs, polls, questions, temp))
                process.daemon = True
                process.start()
                theirs.close()
                started.append(_Worker(process, mine))
        yield _Crew(started)
    finally:
        for worker in started:
            worker.process.kill()
        for worker in started:
            worker.process.join()
            worker.pipe.close()


def _serve(pipe: Connection[Any, Any], polls: Polls, questions: File, temp: File) -> None:
    """The life of a worker: pieces in, sums out, until the pipe ends."""
    os.environ["OMP_NUM_THREADS"] = "1"  # pyarrow's pool: the processes are the parallel part
    with suppress(EOFError, OSError), closing(Placed(questions, Question)) as lines:
        while True:
            number, piece, places, watch = pipe.recv()
            try:
                tally = _write(_files(temp, number), piece, places, lines, polls, watch)
            except LmsiError as e:
                pipe.send((number, LmsiError(str(e), e.hint), None))
            except OSError as e:
                pipe.send((number, write_error(temp, e), None))
            else:
                pipe.send((number, tally, watch))


def _write(
    files: tuple[File, File, File],
    piece: Piece[Path],
    places: dict[str, int],
    lines: Placed[Question],
    polls: Polls,
    watch: Observer | None,
) -> Tally:
    tally = Tally()
    with ExitStack() as stack:
        votes, train, pairs = (stack.enter_context(file.open("wb")) for file in files)
        for held in hold(piece, lambda key: lines.read(places[key]), polls, watch):
            votes.writelines(held.votes)
            train.writelines(held.train)
            pairs.writelines(held.pairs)
            tally.merge(held.tally)
            tally.each.extend(held.tally.each)
    return tally
