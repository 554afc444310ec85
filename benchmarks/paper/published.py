"""The experiments on published models, whose files are the user's: ``--model NAME=FILE``.

All recipes of a model and a set share one sample. A seed is one of training.
"""

from __future__ import annotations

from benchmarks.paper.catalogue import Experiment, Seeds
from benchmarks.paper.records import Run

ONE = ("--formats", "cot-zero", "--set", "max_paths_per_question=1")
# What is trained on, as the flags of vote and train: the format that models are asked in, alone.
RECIPES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "lr 2e-4": (ONE, ("--lr", "2e-4")),
    "lr 1e-3": (ONE, ("--lr", "1e-3")),
    "lr 5e-5": (ONE, ("--lr", "5e-5")),
    "lr 2e-4, 4 paths": (ONE[:2], ("--lr", "2e-4")),
    "lr 2e-4, share 0.6": ((*ONE, "--min-share", "0.6"), ("--lr", "2e-4")),
}


def _svamp(seeds: Seeds) -> list[Run]:
    """120 questions x 8 paths, measured on 200 others."""
    sampled = ("--prompt", "boxed", "--max-tokens", "512")
    return [
        Run(name=name, model="qwen-0.5b", questions="svamp", count=120, paths=8, sample=sampled,
            vote=vote, train=(*train, "--seed", str(seed)), exams=("svamp test",),
            eval=("--modes", "cot"))
        for seed in seeds
        for name, (vote, train) in RECIPES.items()
    ]  # fmt: skip


def _svamp_large(seeds: Seeds) -> list[Run]:
    """240 questions x 8 paths, measured on 400 others."""
    sampled = ("--prompt", "boxed", "--max-tokens", "512")
    rate = ("--lr", "2e-4")
    recipes = {
        "one path": (ONE, rate),
        "share 0.6": ((*ONE, "--min-share", "0.6"), rate),
        "4 paths": (ONE[:2], rate),
        "weighted by share": (ONE, (*rate, "--set", "example_weight=share")),
        "ScPO pairs, lr 5e-5": (ONE[:2], ("--loss", "scpo", "--lr", "5e-5")),
    }
    return [
        Run(name=name, model="qwen-0.5b", questions="svamp train", count=240, paths=8,
            sample=sampled, vote=vote, train=(*train, "--seed", str(seed)), exams=("svamp exam",),
            eval=("--modes", "cot"))
        for seed in seeds
        for name, (vote, train) in recipes.items()
    ]  # fmt: skip


PUBLISHED = (
    Experiment("real-svamp", "Recipes for a published model", _svamp),
    Experiment("real-svamp-large", "A published model on more questions", _svamp_large),
)
