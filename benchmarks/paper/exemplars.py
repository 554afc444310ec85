"""Exemplars that the model wrote itself, against hand-written ones and none, by number of paths.

Knows `lmsi exemplars`; nothing is trained here. One result per way of asking and seed; its curve
``base`` is the vote over 1 to 16 paths.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.commands import lmsi
from benchmarks.paper.records import Result, Run
from benchmarks.paper.steps import Steps

SEEDS, SHOTS, TEMPLATES = 60, 4, (1, 5)
PATHS, TESTED = 16, 100


def exemplars(steps: Steps, seed: int) -> list[Result]:
    """Ask the same questions in every way."""
    own = {f"own, {n} x {SHOTS}": ("cot-few", _made(steps, seed, n)) for n in TEMPLATES}
    ways = {"none": ("cot-zero", ""),
            "written, 1 x 4": ("cot-few", ""), **own}  # fmt: skip
    return [r for name, (prompt, task) in ways.items()
            for r in steps.results(_run(name, seed, prompt, task))]  # fmt: skip


def _run(name: str, seed: int, prompt: str, task: str) -> Run:
    how = ("--modes", "sc", "--paths", str(PATHS), "--prompt", prompt)
    return Run(name=name, seed=seed, train=None, task=task, limit=TESTED, eval=how)


def _made(steps: Steps, seed: int, templates: int) -> str:
    """The file with so many templates, made from questions that are trained on, never tested."""
    file: Path = steps.work / "exemplars" / f"s{seed}-{templates}x{SHOTS}.toml"
    if steps.missing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        how = ["--shots", SHOTS, "--templates", templates, "--limit", SEEDS, "--seed", seed]
        lmsi("exemplars", steps.sets.bare("half"), "-m", "tinymath", "-o", file, *how, "-q")
    return str(file)
