"""The driver's loop: blocks out to workers, reports back, each path once.

Knows the dispatcher and what a crew promises; nothing of Ray or files, so that a crew of threads
can test it. A crew tells what happened, in any order:

    Joined("a")   Told("a", Report(paths=(...), ended=(3,)))   Died("b", "its node is gone")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from lmsi_cli.cluster.dispatch import Block, Dispatcher
from lmsi_cli.cluster.wire import Asked, Order, Report, Start
from lmsi_cli.errors import LmsiError

WAIT = 1.0  # seconds for the next event; then the loop looks around


class Joined(NamedTuple):
    """A worker is ready for orders."""

    worker: str


class Told(NamedTuple):
    """A worker has reported."""

    worker: str
    report: Report


class Died(NamedTuple):
    """A worker is gone, and why, as far as is known."""

    worker: str
    why: str


Event = Joined | Told | Died


class Crew(Protocol):
    """Workers somewhere; a dead one is replaced as soon as there is room."""

    def begin(self, start: Start) -> None:
        """Tell how questions are asked, now and to all that come later."""

    def part_of(self, paths: int) -> int:
        """About how many of so many paths one worker will draw."""

    def events(self, seconds: float) -> Sequence[Event]:
        """What has happened, waiting so long at most for the first event."""

    def trade(self, worker: str, orders: Sequence[Order]) -> None:
        """Send orders to a worker that has joined or reported, and ask for its next report."""


def drive(
    crew: Crew,
    dispatch: Dispatcher,
    asked: Callable[[str, tuple[int, ...]], Asked],
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Report]:
    """Let a crew draw all that a dispatcher has; yields reports, of which every path is new.

    It is over when nothing is open, though some workers may still draw what others have drawn.

    Args:
        crew: Its workers may come and go.
        dispatch: With nothing given yet.
        asked: A question with the paths that it lacks, as a worker is asked.
        say: Is told of deaths.
        clock: Seconds.

    Raises:
        LmsiError: Drawing failed at a worker, or workers die one after another without a path.
    """
    idle: set[str] = set()
    while not dispatch.done:
        for event in crew.events(WAIT):
            if isinstance(event, Joined):
                dispatch.join(event.worker, clock())
            elif isinstance(event, Died):
                idle.discard(event.worker)
                _bury(event, dispatch, say, clock())
                continue
            else:
                yield _take(event, dispatch, clock())
            idle.add(event.worker)
        for worker in sorted(idle):
            orders = [_order(b, asked) for b in _blocks(dispatch, worker, clock())]
            if orders or dispatch.holds(worker):
                crew.trade(worker, orders)
                idle.discard(worker)


def _blocks(dispatch: Dispatcher, worker: str, now: float) -> Iterator[Block]:
    while (block := dispatch.give(worker, now)) is not None:
        yield block


def _order(block: Block, asked: Callable[[str, tuple[int, ...]], Asked]) -> Order:
    questions = tuple(asked(item.question_id, item.paths) for item in block.items)
    return Order(number=block.number, questions=questions)


def _take(told: Told, dispatch: Dispatcher, now: float) -> Report:
    """Enter a report; what of it is a duplicate is left out, also of what ``stopped`` counts."""
    report = told.report
    if report.error:
        raise LmsiError(f"worker {told.worker}: {report.error}", hint=report.hint)
    new = tuple(p for p in report.paths if dispatch.result(told.worker, p.question_id, p.path))
    refused = tuple(r for r in report.refused if dispatch.refused(r.question_id))
    stopped = sum(dispatch.ended(told.worker, number, now) for number in report.ended)
    return msgspec.structs.replace(report, paths=new, refused=refused, stopped=stopped)


def _bury(died: Died, dispatch: Dispatcher, say: Callable[[str], None], now: float) -> None:
    held = dispatch.holds(died.worker)
    dispatch.died(died.worker, now)
    again = "; what it had is done again" if held else ""
    say(f"worker {died.worker} is gone: {died.why}{again}")
    if dispatch.hopeless:
        raise LmsiError(
            f"workers die one after another and no path comes; the last one: {died.why}",
            hint="look at that machine's memory; the same command goes on where it stopped",
        )
