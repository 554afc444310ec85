"""Blocks of requests: what shares a long prefix is drawn together, one block after another.

Knows requests and how many paths are wanted; nothing of files or answers. The sampler holds one
prefix for all prompts of a call. Where the paths of a question are shown different exemplars there
is no such prefix, but each template's prompts have one; so they are drawn template by template:

    blocks([r(q1, block=0), r(q1, block=1), r(q2, block=0), r(q2, block=1)])
    -> [[r(q1, block=0), r(q2, block=0)], [r(q1, block=1), r(q2, block=1)]]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Engine, Generated, Request, Watch


def blocks(requests: Sequence[Request], in_turn: bool = False) -> list[list[Request]]:
    """Part requests into calls of the engine; those without a wanted path stay for their prefix.

    Args:
        requests: In any order.
        in_turn: Path 0 of all questions first, then path 1, and so on: a question that may be left
            early is decided in the order of its paths.
    """
    numbers = sorted({r.block for r in requests})
    found = [[r for r in requests if r.block == number] for number in numbers]
    if len(numbers) < 2 or not in_turn:
        return found
    paths = sorted({w.path for r in requests for w in r.wanted})
    turns = ([_only(r, path) for r in block] for path in paths for block in found)
    return [turn for turn in turns if any(r.wanted for r in turn)]


def _only(request: Request, path: int) -> Request:
    return request._replace(wanted=tuple(w for w in request.wanted if w.path == path))


def draw(
    engine: Engine,
    requests: Sequence[Request],
    sampling: SamplingConfig,
    trigger: str,
    watch: Watch | None = None,
    in_turn: bool = False,
) -> Iterator[Generated]:
    """Draw every wanted path, block after block; as ``Engine.generate`` otherwise."""
    watched = {} if watch is None else {"watch": watch}
    for block in blocks(requests, in_turn):
        left = [_undecided(r, watch) for r in block]
        yield from engine.generate(left, sampling, trigger, **watched)


def _undecided(request: Request, watch: Watch | None) -> Request:
    done = watch is not None and watch.decided(request.question_id)
    return request._replace(wanted=()) if done else request
