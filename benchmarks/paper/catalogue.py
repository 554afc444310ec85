"""The experiments: the runs that each consists of, with all their sizes.

Knows no results. An experiment's runs share samples wherever they can (``drawn``), and every
training starts from the model that was sampled, except that of a student.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from benchmarks.paper.records import Run

QUESTIONS, PATHS = 120, 16
FULL = ("--modes", "cot,direct,sc", "--paths", "5")
QUICK = ("--modes", "cot,direct")
FEW = 60  # questions of a test with many sampled paths
TESTED = 150  # questions of a test with sampled paths; greedy ones take whole files
PLAIN = ("--formats", "cot-zero")  # for variants asked in this format alone: a third of the time
STUDENT = "tinymath-small"
CONFIDENT = ("--min-share", "0.5", "--min-votes", "8")  # as `lmsi questions` keeps them
Seeds = Sequence[int]


class Experiment(NamedTuple):
    """One question of the paper, or one of ours: what is asked, and the runs that answer it."""

    name: str
    title: str
    runs: Callable[[Seeds], list[Run]]


def _main(seeds: Seeds) -> list[Run]:
    own = [_family("half", s, exams=("half test", "unseen test")) for s in seeds]
    names = ("known", "chains", "shopping", "percent")
    own += [_family(name, s, count=60, paths=8, limit=100) for s in seeds for name in names]
    return own


def _hopeless(seeds: Seeds) -> list[Run]:
    sets = ("unseen", "gsm8k", "svamp")
    return [_family(name, s, count=60, paths=8, limit=100) for s in seeds for name in sets]


def _family(name: str, seed: int, **more: object) -> Run:
    """The whole method on one family of questions, every mode before and after."""
    own = Run(name=name, seed=seed, questions=name, count=QUESTIONS, paths=PATHS, probe=40)
    told = {"exams": (f"{name} test",), "limit": TESTED, "eval": FULL, **more}
    return msgspec.structs.replace(own, **told)


def _half(name: str, seed: int, **more: object) -> Run:
    """A variant of the mixture's run, measured greedily on the whole test."""
    return msgspec.structs.replace(Run(name=name, seed=seed, count=QUESTIONS, paths=PATHS), **more)


def _formats(seeds: Seeds) -> list[Run]:
    ways = {
        "all four": (),
        "direct formats only": ("--formats", "direct-few,direct-zero"),
        "few-shot CoT only": ("--formats", "cot-few"),
        "zero-shot CoT only": ("--formats", "cot-zero"),
    }
    return [_half(name, s, vote=vote, eval=QUICK) for s in seeds for name, vote in ways.items()]


def _outside(seeds: Seeds) -> list[Run]:
    exams = ("known test", "unseen test", "svamp test", "aqua test", "strategyqa test")
    return [_half("mixture", s, exams=exams, limit=100) for s in seeds]


def _variant(name: str, seed: int, vote: tuple[str, ...] = (), **more: object) -> Run:
    """As ``_half``, but trained on the one format that it is asked in."""
    return _half(name, seed, vote=(*PLAIN, *vote), eval=("--modes", "cot"), **more)


def _filters(seeds: Seeds) -> list[Run]:
    ways = {
        "checked vote, filtered": (),
        "plain vote, filtered": ("--no-check-equations",),
        "plain vote, every path": ("--preset", "paper"),
    }
    return [_variant(name, s, vote) for s in seeds for name, vote in ways.items()]


def _ranks(seeds: Seeds) -> list[Run]:
    return [
        _variant(f"rank {r}", s, train=("--rank", str(r), "--set", f"alpha={2 * r}"))
        for s in seeds
        for r in (2, 4, 8, 16, 64)
    ]


def _number_of_paths(seeds: Seeds) -> list[Run]:
    counts = (4, 8, 16, 32, 64)
    asked = QUESTIONS // 2
    drawn = (asked, max(counts))
    return [
        _variant(f"{n} paths", s, count=asked, paths=n, drawn=drawn) for s in seeds for n in counts
    ]


def _number_of_questions(seeds: Seeds) -> list[Run]:
    counts = (50, 100, 200, 400, 1000)
    return [
        _variant(f"{n} questions", s, count=n, paths=8, drawn=(max(counts), 8))
        for s in seeds
        for n in counts
    ]


def _temperature(seeds: Seeds) -> list[Run]:
    how = ("--modes", "sc", "--paths", "5", "--temperature", "0.7,1.0,1.2")
    return [_half("half", s, limit=FEW, eval=how) for s in seeds]


def _sample_size(seeds: Seeds) -> list[Run]:
    how = ("--modes", "sc", "--paths", "16")
    return [_half("half", s, limit=FEW, eval=how) for s in seeds]


def _stopping(seeds: Seeds) -> list[Run]:
    ways = {
        "16 paths": (),
        "beta:0.95": ("--stop", "beta:0.95"),
        "window:5": ("--stop", "window:5"),
    }
    return [_variant(name, s, sample=how) for s in seeds for name, how in ways.items()]


def _generated(seeds: Seeds) -> list[Run]:
    ways = {"real questions": {}, "generated, from 10": {"generated": True, "vote": CONFIDENT}}
    return [_variant(name, s, count=100, **how) for s in seeds for name, how in ways.items()]


def _distillation(seeds: Seeds) -> list[Run]:
    ways = {
        "teacher, its own votes": {"eval": FULL, "limit": TESTED},
        "student, the teacher's votes": {"student": STUDENT, "eval": FULL, "limit": TESTED},
        "student, its own votes": {"model": STUDENT, "eval": FULL, "limit": TESTED},
    }
    return [_half(name, s, **how) for s in seeds for name, how in ways.items()]


def _beyond(seeds: Seeds) -> list[Run]:
    ways = {
        "plain": (),
        "ScPO pairs": ("--loss", "scpo"),
        "ScPO pairs, lr 3e-4": ("--loss", "scpo", "--lr", "3e-4"),
    }
    return [_variant(name, s, train=how) for s in seeds for name, how in ways.items()]


EXPERIMENTS = (
    Experiment("main", "Before and after", _main),
    Experiment("generated", "Generated questions against real ones", _generated),
    Experiment("distillation", "A smaller student", _distillation),
    Experiment("beyond", "Beyond imitation", _beyond),
    Experiment("hopeless", "Where the model is hopeless", _hopeless),
    Experiment("formats", "The four formats", _formats),
    Experiment("outside", "Out of domain", _outside),
    Experiment("filters", "Keep all, or filter", _filters),
    Experiment("temperature", "Accuracy against temperature", _temperature),
    Experiment("sample-size", "Accuracy against number of paths", _sample_size),
    Experiment("paths", "Number of training paths", _number_of_paths),
    Experiment("ranks", "LoRA rank", _ranks),
    Experiment("stopping", "Adaptive stopping", _stopping),
    Experiment("questions", "Number of questions", _number_of_questions),
)
