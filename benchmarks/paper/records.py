"""The records of the paper's experiments: a run to do, and its result.

Knows no commands and no tables. A run and (shortened) its result:

    Run(name="all four", seed=0, questions="half", count=120, paths=16)
    Result(name="all four", seed=0, exam="half test", n=300, verdict="train", kept_paths=388,
           examples=912, labels=0.97, lines={"CoT greedy": Line(before=0.527, after=0.70, ...)},
           greedy=("0110...", "1110..."))
"""

from __future__ import annotations

import msgspec

from lmsi_cli.records import Record

GREEDY, DIRECT, ONE = "CoT greedy", "direct", "one sampled path"


class Run(Record, frozen=True, kw_only=True):
    """One training and its measurement; ``sample``, ``vote``, ``train``, ``eval`` are flags.

    ``questions`` and ``exams`` are names in ``sets.py``. If ``drawn`` (questions, paths) is given,
    paths are cut from a sample of that size, which several runs share. If ``train`` is None,
    nothing is trained and the base alone is measured. ``probe`` is the number of questions whose
    right answers a second verdict may use; the training never sees them. ``generated`` lets the
    model write the ``count`` questions itself, from ten of the set. ``student`` names the model
    that is trained and measured instead of ``model``. ``task`` is a file of exemplars for the exam;
    by default the task's own ones.
    """

    name: str
    seed: int = 0
    model: str = "tinymath"
    questions: str = "half"
    count: int = 120
    paths: int = 16
    drawn: tuple[int, int] | None = None
    sample: tuple[str, ...] = ()
    vote: tuple[str, ...] = ()
    train: tuple[str, ...] | None = ()
    exams: tuple[str, ...] = ("half test",)
    limit: int = 0
    eval: tuple[str, ...] = ("--modes", "cot,direct")
    probe: int = 0
    generated: bool = False
    student: str = ""
    task: str = ""


class Line(Record, frozen=True, kw_only=True):
    """One line of an evaluation; fractions of one. Without an adapter ``after`` is None."""

    before: float
    after: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    tokens: tuple[float, float] | None = None

    @property
    def change(self) -> float | None:
        """The difference, where there is one."""
        return None if self.after is None else self.after - self.before


class Point(Record, frozen=True, kw_only=True):
    """What k paths are worth: their vote and the best of them, fractions of one."""

    k: int
    majority: float
    any: float


class Result(Record, frozen=True, kw_only=True):
    """One run on one set.

    ``plain`` and ``checked`` are the shares of all questions whose winner is right: by the paper's
    vote, and by that of the run. The others are shares of right ones: ``labels`` among the winners
    of kept questions, ``winners`` among all winners, ``kept_right`` among kept paths,
    ``paths_right`` among all paths (None if no answers are known). ``greedy`` holds a 0 or 1 per
    question, before and after, so that seeds can be combined by question. ``curves`` are by model.
    ``ballots`` are (share, right) of the questions that were voted on, by the plain vote.
    """

    name: str
    seed: int
    exam: str
    n: int
    verdict: str = ""
    reason: str = ""
    probed: str = ""
    kept_questions: int = 0
    kept_paths: int = 0
    examples: int = 0
    sampled_tokens: int = 0
    lines: dict[str, Line]
    plain: float | None = None
    checked: float | None = None
    labels: float | None = None
    winners: float | None = None
    kept_right: float | None = None
    paths_right: float | None = None
    greedy: tuple[str, str] | None = None
    curves: dict[str, tuple[Point, ...]] = msgspec.field(default_factory=dict)
    shares: dict[str, float] = msgspec.field(default_factory=dict)
    ballots: tuple[tuple[float, bool], ...] = ()
    note: str = ""
