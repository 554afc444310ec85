"""What a run folder gives to train on: examples of their weight, or preference pairs.

Knows the run's files and the settings; nothing of tokens or models. With ``loss`` sft these are the
lines of ``train.jsonl``, where wished with a weight looked up in ``votes.jsonl``; with scpo those
of ``pairs.jsonl``. Weights are relative: training scales them to a mean of 1.

    weighted(RunDir("runs/first"), TrainConfig(example_weight="share"))
    -> [TrainExample(question_id="q7", weight=0.75, ...), ...]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Preference, TrainExample, Vote
from lmsi_cli.run_folder import RunDir, sha256_file

Lesson = TrainExample | Preference


def check(run: RunDir, config: TrainConfig) -> None:
    """See that what a training needs is there, before any work; reads nothing.

    Args:
        run: A run folder.
        config: Loss and weighting.

    Raises:
        LmsiError: A file is missing, or the settings contradict each other; says what to type.
    """
    again = f"run `lmsi vote {run.root}` (again, if an older version did)"
    if config.loss == "scpo" and not run.pairs.exists():
        raise LmsiError(
            f"{run.pairs}: no such file, and --loss scpo trains on its pairs", hint=again
        )
    if config.loss == "sft" and not run.train.exists():
        raise LmsiError(f"{run.train}: no such file", hint="run `lmsi vote` first")
    weighting = f"--example-weight {config.example_weight}"
    if config.example_weight == "none":
        return
    if config.loss == "scpo":
        raise LmsiError(
            f"{weighting}: --loss scpo weighs pairs by its own rule",
            hint="leave one of the two out",
        )
    if not run.votes.exists():
        raise LmsiError(f"{run.votes}: no such file, and {weighting} needs it", hint=again)


def read(run: RunDir, loss: str) -> Sequence[Lesson]:
    """What the vote has written for a loss.

    Args:
        run: A voted run folder.
        loss: sft or scpo.

    Raises:
        LmsiError: There is no pair that counts; says what to type.
    """
    if loss == "sft":
        return list(read_records(run.train, TrainExample))
    pairs = list(read_records(run.pairs, Preference))
    if not any(pair.weight for pair in pairs):
        raise _no_pairs(run, len(pairs))
    return pairs


def _no_pairs(run: RunDir, count: int) -> LmsiError:
    if count:
        return LmsiError(
            f"{run.pairs}: nothing to train on: every pair has the weight 0",
            hint=f"run `lmsi vote {run.root}` again: it writes no such pairs",
        )
    settings = run.load_settings().get("vote", {})
    if settings.get("pairs") == 0:
        return LmsiError(
            f"{run.pairs}: no pairs to train on: the vote was asked for none",
            hint=f"`lmsi vote {run.root} --pairs 1`",
        )
    asked = settings.get("pair_share", 0.0)
    return LmsiError(
        f"{run.pairs}: no pairs to train on: no question has a winner with {asked:.0%} of the "
        "ballots and a path of another answer",
        hint=f"`lmsi vote {run.root} --pair-share {asked / 2:g}`, more paths, or --loss sft",
    )


def weighted(run: RunDir, config: TrainConfig) -> Sequence[Lesson]:
    """What to train on by these settings, examples with the weight of their vote where wished.

    Args:
        run: A voted run folder.
        config: Loss and weighting, as ``check`` passes them.

    Raises:
        LmsiError: As ``read``, or a question has no vote.
    """
    if config.example_weight == "none":
        return read(run, config.loss)
    votes = _weights(run, config.example_weight)
    return [
        msgspec.structs.replace(e, weight=_weight(run, e, votes))
        for e in read_records(run.train, TrainExample)
    ]


def _weights(run: RunDir, kind: str) -> dict[str, float]:
    """Share or margin by question; where weighted ballots overruled the count, a margin is 0."""
    return {v.question_id: max(0.0, getattr(v, kind)) for v in read_records(run.votes, Vote)}


def _weight(run: RunDir, example: TrainExample, votes: dict[str, float]) -> float:
    if example.question_id not in votes:
        raise LmsiError(
            f"{run.votes}: no vote on question {example.question_id!r} of {run.train.name}",
            hint=f"run `lmsi vote {run.root}` again, or leave --example-weight out",
        )
    return votes[example.question_id]


def origin(run: RunDir, config: TrainConfig) -> dict[str, Any]:
    """Hashes of the files that decide what is trained on, as ``lmsi.json`` keeps them."""
    if config.loss == "scpo":
        return {"pairs_sha256": sha256_file(run.pairs)}
    found = {"train_sha256": sha256_file(run.train)}
    return found if config.example_weight == "none" else found | _of_votes(run)


def _of_votes(run: RunDir) -> dict[str, Any]:
    return {"votes_sha256": sha256_file(run.votes)}
