"""The experiments: which runs each is made of. The sizes of all of them stand here.

Knows no results. An experiment's runs share samples wherever they can (``drawn``), and every
training starts from the model that was sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from benchmarks.paper.records import Run

QUESTIONS, PATHS = 120, 16
FULL = ("--modes", "cot,direct,sc", "--paths", "8")
QUICK = ("--modes", "cot,direct")
TESTED = 200  # questions of a test with sampled paths; greedy ones take whole files
EVERY = "near-miss,systematic,rival,other"
Seeds = Sequence[int]


class Experiment(NamedTuple):
    """One question of the paper, or one of ours: what is asked, and the runs that answer it."""

    name: str
    title: str
    runs: Callable[[Seeds], list[Run]]
    ours: bool = False


def _main(seeds: Seeds) -> list[Run]:
    own = [_family("half", s, exams=("half test", "unseen test")) for s in seeds]
    own += [_family(name, s) for name in ("known", "chains", "shopping", "percent") for s in seeds]
    return own


def _hopeless(seeds: Seeds) -> list[Run]:
    sets = ("unseen", "gsm8k", "svamp")
    return [
        msgspec.structs.replace(_family(name, s, count=60), paths=8, limit=100)
        for name in sets
        for s in seeds
    ]


def _family(name: str, seed: int, count: int = QUESTIONS, exams: tuple[str, ...] = ()) -> Run:
    return Run(
        name=name,
        seed=seed,
        questions=name,
        count=count,
        paths=PATHS,
        exams=exams or (f"{name} test",),
        limit=TESTED,
        eval=FULL,
        probe=40,
    )


def _half(name: str, seed: int, **more: object) -> Run:
    """A variant of the main run of the mixture, measured greedily on the whole test."""
    return msgspec.structs.replace(Run(name=name, seed=seed, count=QUESTIONS, paths=PATHS), **more)


def _formats(seeds: Seeds) -> list[Run]:
    ways = {
        "all four": (),
        "direct formats only": ("--formats", "direct-few,direct-zero"),
        "few-shot CoT only": ("--formats", "cot-few"),
        "zero-shot CoT only": ("--formats", "cot-zero"),
    }
    few = ("--modes", "cot,direct", "--prompt", "cot-few")
    return [
        _half(name, s, vote=vote, eval=how)
        for name, vote in ways.items()
        for s in seeds
        for how in (QUICK, few)
    ]


def _outside(seeds: Seeds) -> list[Run]:
    exams = ("known test", "unseen test", "svamp test", "aqua test", "strategyqa test")
    return [_half("mixture", s, exams=exams, limit=100) for s in seeds]


def _filters(seeds: Seeds) -> list[Run]:
    ways = {
        "checked vote, filtered": (),
        "plain vote, filtered": ("--no-check-equations",),
        "plain vote, every path": ("--preset", "paper"),
        "every path there is": ("--preset", "paper", "--keep", EVERY),
    }
    return [_half(name, s, vote=vote) for name, vote in ways.items() for s in seeds]


def _ranks(seeds: Seeds) -> list[Run]:
    return [
        _half(f"rank {r}", s, train=("--rank", str(r), "--alpha", str(2 * r)))
        for r in (2, 4, 8, 16, 64)
        for s in seeds
    ]


def _number_of_paths(seeds: Seeds) -> list[Run]:
    counts = (4, 8, 16, 32, 64)
    drawn = (QUESTIONS, max(counts))
    return [_half(f"{n} paths", s, paths=n, drawn=drawn) for n in counts for s in seeds]


def _number_of_questions(seeds: Seeds) -> list[Run]:
    return [
        _half(f"{n} questions", s, count=n, paths=8, drawn=(1000, 8))
        for n in (50, 100, 200, 400, 1000)
        for s in seeds
    ]


def _temperature(seeds: Seeds) -> list[Run]:
    how = ("--modes", "sc", "--paths", "8", "--temperature", "0.4,0.7,1.0,1.2,1.5")
    return [_half("all four", s, limit=100, eval=how) for s in seeds]


def _sample_size(seeds: Seeds) -> list[Run]:
    how = ("--modes", "sc", "--paths", "32")
    return [_half("all four", s, limit=100, eval=how) for s in seeds]


def _stopping(seeds: Seeds) -> list[Run]:
    ways = {
        "16 paths": (),
        "beta:0.95": ("--stop", "beta:0.95"),
        "window:5": ("--stop", "window:5"),
    }
    return [_half(name, s, sample=how) for name, how in ways.items() for s in seeds]


EXPERIMENTS = (
    Experiment("main", "Before and after", _main),
    Experiment("hopeless", "Where the model is hopeless", _hopeless),
    Experiment("formats", "The four formats", _formats),
    Experiment("outside", "Out of domain", _outside),
    Experiment("filters", "Keep all, or filter", _filters, ours=True),
    Experiment("temperature", "Accuracy against temperature", _temperature),
    Experiment("sample-size", "Accuracy against number of paths", _sample_size),
    Experiment("paths", "Number of training paths", _number_of_paths, ours=True),
    Experiment("ranks", "LoRA rank", _ranks, ours=True),
    Experiment("stopping", "Adaptive stopping", _stopping, ours=True),
    Experiment("questions", "Number of questions", _number_of_questions, ours=True),
)
