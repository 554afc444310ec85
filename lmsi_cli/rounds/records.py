"""What is kept of the rounds of a run: ``rounds.json`` in its folder.

Knows nothing of how they came about. Shortened, with one round:

    {"asked": 3, "by": "probe", "questions": 40, "base": {...}, "best": {"number": 1, ...},
     "ended": "round 2: the verdict is not to train: ...", "rounds": [{"number": 1,
     "folder": ".", "temperature": 0.7, "drawn_by": 0, "verdict": "train", "gates": [...], ...}]}
"""

from __future__ import annotations

from typing import Literal

from lmsi_cli.records import Paired, Record

# What a check-up's answers are held against: right answers of a probe, or the first vote's winners.
By = Literal["probe", "agreement", "nothing"]


class Figures(Record, frozen=True, kw_only=True):
    """One model's check-up; tuples have a fraction of one per question.

    ``scores``: answers that are as wanted. ``parsed``: answers that could be read. Of the sampled
    answers alone: ``distinct`` answers and ``routes`` (solutions that differ in their equations)
    per path, and the ``entropy`` of the answers as a share of its most. Over all questions, of the
    greedy answers: the share of the ``commonest`` one, and their ``evenness``, 1 if all differ.
    """

    model: str
    questions: tuple[str, ...]
    scores: tuple[float, ...]
    parsed: tuple[float, ...]
    distinct: tuple[float, ...]
    routes: tuple[float, ...]
    entropy: tuple[float, ...]
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
