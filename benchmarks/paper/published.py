"""Experiments on published models (``--model NAME=FILE``), with one sample for all recipes."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.paper.catalogue import Experiment, Seeds
from benchmarks.paper.records import Run

# The flags of vote and train; training uses only the format in which the models are asked.
Recipes = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
OWN = ("--formats", "cot-zero")
ONE = (*OWN, "--set", "max_paths_per_question=1")
RATE = ("--loss", "sft", "--lr", "2e-4")
PAIRS = ("--loss", "scpo", "--lr", "5e-5")
FEW: Recipes = {"lr 2e-4": (ONE, RATE), "lr 1e-3": (ONE, ("--loss", "sft", "--lr", "1e-3"))}
MORE: Recipes = {
    "one path": (ONE, RATE),
    "4 paths": (OWN, RATE),
    "ScPO pairs, lr 5e-5": (OWN, PAIRS),
    "ScPO pairs, lr 2e-4": (OWN, ("--loss", "scpo", "--lr", "2e-4")),
}


HARD: Recipes = {
    "one pair": MORE["ScPO pairs, lr 5e-5"],
    "two pairs, two epochs": ((*OWN, "--set", "pairs=2"), (*PAIRS, "--epochs", "2")),
}
THERE: Recipes = {"SVAMP's pairs on GSM8K": (OWN, PAIRS)}
BACK: Recipes = {"GSM8K's pairs on SVAMP": (OWN, PAIRS)}


def _runs(recipes: Recipes, asked: str, count: int, *exams: str) -> Callable[[Seeds], list[Run]]:
    """Each recipe on the same ``count`` questions x 8 paths; the seeds are those of training."""
    return lambda seeds: [
        Run(name=name, model="qwen-0.5b", questions=asked, count=count, paths=8,
            sample=("--prompt", "boxed", "--max-tokens", "512"), vote=vote,
            train=(*train, "--seed", str(seed)), exams=exams, eval=("--modes", "cot"))
        for seed in seeds
        for name, (vote, train) in recipes.items()
    ]  # fmt: skip


PUBLISHED = (
    Experiment("real-svamp", "Recipes for a published model",
               _runs(FEW, "svamp", 120, "svamp test")),
    Experiment("real-svamp-large", "The same on twice the questions",
               _runs(MORE, "svamp train", 240, "svamp exam")),
    Experiment("real-gsm8k", "Pairs on harder questions",
               _runs(HARD, "gsm8k train", 240, "gsm8k exam")),
    Experiment("real-gsm8k-large", "The same on twice the questions",
               _runs(HARD, "gsm8k train", 500, "gsm8k exam")),
    Experiment("real-there", "What SVAMP taught, asked GSM8K",
               _runs(THERE, "svamp train", 240, "gsm8k exam")),
    Experiment("real-back", "What GSM8K taught, asked SVAMP",
               _runs(BACK, "gsm8k train", 500, "svamp exam")),
)  # fmt: skip
