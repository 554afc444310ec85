"""What differs from round to round: temperature, seeds, and what training starts from.

The first round has the settings as they are given, so it is the run that the single commands make.
A later one has seeds of its own, drawn from (seed, round) by a hash: added numbers would give the
second round of seed 0 the streams of the first round of seed 1. Knows settings only.

    of_round(Settings(SampleConfig(), VoteConfig(), TrainConfig()), RunConfig(), 2)
    -> Settings(SampleConfig(seed=1735239446), VoteConfig(seed=...), TrainConfig(seed=...))
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from lmsi_cli.config import RunConfig, SampleConfig, TrainConfig, VoteConfig
from lmsi_cli.errors import LmsiError

SEED_BITS = 31  # a number that every library takes as a seed, and a person can type


class Settings(NamedTuple):
    """What a round samples, votes and trains with."""

    sample: SampleConfig
    vote: VoteConfig
    train: TrainConfig


def check(config: RunConfig) -> None:
    """Refuse more temperatures than rounds.

    Raises:
        LmsiError: Some would never be used.
    """
    given = len(config.round_temperature)
    if given > config.rounds:
        raise LmsiError(
            f"--set round_temperature: {given} temperatures for {config.rounds} "
            f"round{'s' if config.rounds > 1 else ''}",
            hint="give one per round at most; the last one goes on",
        )


def of_round(settings: Settings, config: RunConfig, number: int, init: str = "") -> Settings:
    """The settings of a round.

    Args:
        settings: As given, for the whole run.
        config: Temperatures by round.
        number: 1 for the first.
        init: The adapter folder that its training starts from; empty: as ``settings`` say.
    """
    sample, vote, train = settings
    told = config.round_temperature
    temperature = told[min(number, len(told)) - 1] if told else sample.temperature
    start = {"init": init} if init else {}
    replace = msgspec.structs.replace
    return Settings(
        replace(sample, temperature=temperature, seed=seed_of(sample.seed, number)),
        replace(vote, seed=seed_of(vote.seed, number)),
        replace(train, seed=seed_of(train.seed, number), **start),
    )


def seed_of(seed: int, number: int) -> int:
    """A round's seed: the given one in the first round, below 2**31 in later ones."""
    if number == 1:
        return seed
    digest = hashlib.blake2b(f"{seed}\x1fround {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - SEED_BITS)


def with_seeds_of(settings: Settings, plain: Settings) -> Settings:
    """The same with other seeds; older versions gave every round those of the first."""
    replace = msgspec.structs.replace
    return Settings(
        replace(settings.sample, seed=plain.sample.seed),
        replace(settings.vote, seed=plain.vote.seed),
        replace(settings.train, seed=plain.train.seed),
    )
