"""The rounds of a run: their settings, what is kept of them, and which one stands for the run.

Knows nothing of how they came about. ``rounds.json``, shortened, with one round:

    {"asked": 3, "by": "probe", "questions": 40, "base": {...}, "best": {"number": 1, ...},
     "ended": "round 2: the verdict is not to train: ...", "rounds": [{"number": 1,
     "folder": ".", "temperature": 0.7, "drawn_by": 0, "verdict": "train", "gates": [...], ...}]}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from lmsi_cli.config import RunConfig, SampleConfig, TrainConfig, VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object
from lmsi_cli.records import Paired, Record
from lmsi_cli.run_folder import RunDir

# What a check-up's answers are held against: right answers of a probe, or the first vote's winners.
By = Literal["probe", "agreement", "nothing"]
SEED_BITS = 31  # a number that every library takes as a seed, and a person can type


class Figures(Record, frozen=True, kw_only=True):
    """One model's check-up; tuples have a fraction of one per question.

    ``scores``: answers that are as wanted. ``parsed``: answers that could be read. Over all
    questions, of the greedy answers: the share of the ``commonest`` one, and their ``evenness``, 1
    if all differ.
    """

    model: str
    questions: tuple[str, ...]
    scores: tuple[float, ...]
    parsed: tuple[float, ...]
    commonest: float
    evenness: float


class Gate(Record, frozen=True, kw_only=True):
    """One reason to end the rounds, or a remark that does not."""

    name: Literal["verdict", "alarm", "check-up"]
    ends: bool
    text: str


class Round(Record, frozen=True, kw_only=True):
    """One round.

    ``drawn_by`` and ``started_from`` are numbers of rounds, 0 being the base: whose adapter drew
    the paths, and whose weights training began with. ``figures`` are its check-up's, None without
    one.
    """

    number: int
    folder: str
    temperature: float
    seed: int
    drawn_by: int
    started_from: int
    verdict: str
    questions: int
    kept_questions: int
    kept_paths: int
    mean_share: float
    trained: bool
    first_loss: float | None = None
    final_loss: float | None = None
    stopped: str = ""
    gates: tuple[Gate, ...] = ()
    figures: Figures | None = None

    @property
    def sound(self) -> bool:
        """Whether its adapter may draw the next paths: it is there, and nothing speaks against."""
        return self.trained and not any(g.ends and g.name != "verdict" for g in self.gates)


class Best(Record, frozen=True, kw_only=True):
    """Which round is kept, by what, and why; ``change`` is its check-up against the first one's."""

    number: int
    by: By
    why: str
    change: Paired | None = None


class Rounds(Record, frozen=True, kw_only=True):
    """All rounds of a run folder so far.

    ``asked`` is how many were asked for, ``ended`` why there are fewer. ``by`` says what the
    ``questions`` of the check-ups are held against; ``base`` is the base model's check-up.
    """

    asked: int
    rounds: tuple[Round, ...]
    by: By = "nothing"
    questions: int = 0
    base: Figures | None = None
    best: Best | None = None
    ended: str = ""


def last_good(rounds: tuple[Round, ...]) -> int:
    """Number of the last round whose adapter may draw paths; 0: only the base may."""
    return max((r.number for r in rounds if r.sound), default=0)


def read_rounds(run: RunDir) -> Rounds | None:
    """What is told of a run's rounds; None if it had only one.

    Raises:
        LmsiError: The file is of another version.
    """
    if not run.rounds.exists():
        return None
    try:
        return msgspec.convert(read_object(run.rounds), Rounds)
    except msgspec.ValidationError as e:
        raise LmsiError(f"{run.rounds}: {e}", hint="run `lmsi run` again") from None


def kept_round(run: RunDir) -> RunDir:
    """The folder whose adapter stands for a run: of several rounds, the one that is kept."""
    rounds = read_rounds(run)
    return run.round(rounds.best.number) if rounds and rounds.best else run


def adapters_of(run: RunDir, rounds: Iterable[RunDir] | None = None) -> dict[str, Path]:
    """A run's own adapters by name: ``adapter`` in the run folder itself, else ``round-2``.

    Args:
        run: The run folder.
        rounds: Folders of its rounds; not given: of several, the one that is kept.
    """
    return {
        "adapter" if r.root == run.root else r.root.name: r.adapter_gguf
        for r in ([kept_round(run)] if rounds is None else rounds)
        if r.adapter_gguf.exists()
    }


class Settings(NamedTuple):
    """What a round samples, votes and trains with."""

    sample: SampleConfig
    vote: VoteConfig
    train: TrainConfig


def of_round(settings: Settings, config: RunConfig, number: int, init: str = "") -> Settings:
    """The settings of a round; the first round's are those that are given.

    So the first round is the run that the single commands make. A later one has seeds of its own.

    Args:
        settings: As given, for the whole run.
        config: Temperatures by round; the last one goes on.
        number: 1 for the first.
        init: The adapter folder that its training starts from; empty: as ``settings`` say.
    """
    sample, vote, train = settings
    given = config.round_temperature
    temperature = given[min(number, len(given)) - 1] if given else sample.temperature
    replace = msgspec.structs.replace
    return Settings(
        replace(sample, temperature=temperature, seed=seed_of(sample.seed, number)),
        replace(vote, seed=seed_of(vote.seed, number)),
        replace(train, seed=seed_of(train.seed, number), init=init or train.init),
    )


def seed_of(seed: int, number: int) -> int:
    """A round's seed: the given one in the first round, below 2**31 in later ones.

    A hash, since added numbers would give the second round of seed 0 the streams of the first
    round of seed 1.
    """
    if number == 1:
        return seed
    digest = hashlib.blake2b(f"{seed}\x1fround {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - SEED_BITS)
