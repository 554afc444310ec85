"""What the simulated cluster is given and what it gives: measured, assumed and counted figures.

Knows no events. Measured path lengths become a pool of invented questions:

    pool(Timings(lengths=((26, 29, 29), (44, 51)), ...), paths=4, seed=0)
    -> ([113.0, 190.0, ...], [29, 51, ...])     # total and longest of four paths, in tokens
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lmsi_cli.records import Record

POOL = 20_000  # invented questions, each with path lengths drawn from one measured question


class Timings(Record, frozen=True, kw_only=True):
    """What was measured: path lengths of each question in tokens, and speeds in tokens a second.

    ``line_bytes`` is the mean line of ``paths.jsonl``; ``driver_s`` what the driver spends on a
    path: decoding it, asking the dispatcher and appending it to the file.
    """

    lengths: tuple[tuple[int, ...], ...]
    tokens_s: float
    line_bytes: float
    driver_s: float


class Fleet(Record, frozen=True, kw_only=True):
    """What is assumed of the machines; all times in seconds.

    Speeds are lognormal with ``spread`` as the standard deviation of the logarithm; ``slow`` of the
    workers have a quarter of theirs. Each dies once in ``life`` on average, at ``node_share`` of
    deaths with the ``node`` neighbours it shares a machine with; at ``cut_off`` it was not dead but
    out of reach, and its paths arrive later. It stands still for ``pause`` once in ``between``. A
    worker draws ``width`` paths at once and goes on with its next block as these end; without one
    it runs empty, at the cost of full steps. A report collects for ``linger``, and ``per_worker``
    for each worker, while there is more to do (``cluster/crew.py``): so much late the driver knows.
    """

    workers: int = 1000
    spread: float = 0.25
    slow: float = 0.01
    life: float = 4 * 3600.0
    node: int = 8
    node_share: float = 0.25
    cut_off: float = 0.2
    pause: float = 60.0
    between: float = 3600.0
    setup: float = 20.0
    notice: float = 10.0
    latency: float = 0.05
    linger: float = 0.2
    per_worker: float = 0.002
    width: int = 32
    seed: int = 0


class Ran(Record, frozen=True, kw_only=True):
    """A simulated run; shares are of the seconds that workers were there, set up and alive.

    ``utilisation`` counts kept paths only; ``ending`` is what running empty costs, ``idle``
    waiting, ``paused`` standing still and ``lost`` work on paths that were lost or there already.
    ``paid`` is the utilisation with set-up and unnoticed deaths in the denominator. ``wait_s`` is
    the longest a worker stood without a block before none was left, ``tail_s`` how long the last
    worker went on after that. ``peak_rate`` is paths a second at the driver over a quarter second,
    ``driver_load`` the share of its time at the mean rate and ``queue`` the most paths waiting.
    ``twice`` counts paths that came when they were there, and were dropped; ``again`` those that
    were kept nevertheless. ``rss_mib`` is the memory of the whole process along the way, with what
    the simulation keeps, ``dispatch_mib`` that of the dispatcher's state by the sizes of its
    objects; ``open_paths`` the most that were open.
    """

    questions: int
    paths: int
    kept: int
    missing: int
    set_apart: int
    twice: int
    again: int
    deaths: int
    blocks: int
    seconds: float
    utilisation: float
    ending: float
    idle: float
    paused: float
    lost: float
    paid: float
    wait_s: float
    tail_s: float
    peak_rate: float
    mean_rate: float
    driver_load: float
    queue: float
    open_paths: int
    rss_mib: tuple[float, ...]
    dispatch_mib: tuple[float, ...]
    dispatch_us: float
    wall_s: float


def pool(timings: Timings, paths: int, seed: int) -> tuple[list[float], list[int]]:
    """Total and longest length of invented questions, in tokens."""
    rng = np.random.default_rng(seed)
    picked = rng.integers(len(timings.lengths), size=POOL)
    drawn = [rng.choice(timings.lengths[i], paths) for i in picked]
    return [float(d.sum()) for d in drawn], [int(d.max()) for d in drawn]


def lengths_of(records: Iterable[tuple[str, int]]) -> tuple[tuple[int, ...], ...]:
    """Path lengths by question."""
    found: dict[str, list[int]] = {}
    for question, tokens in records:
        found.setdefault(question, []).append(tokens)
    return tuple(tuple(v) for v in found.values())
