"""What an evaluation would ask, could show, and would cost; as a record and as a table.

Knows no engine; the figures come from a trial.

    Plan(data="test", questions=300, models=2, answers=4200, smallest_visible=0.084, groups=None,
         tokens=288_000, seconds=115.0, at_most=False)
"""

from __future__ import annotations

from rich.table import Table

from lmsi_cli.records import Record
from lmsi_cli.report.tables import duration, facts


class Plan(Record, frozen=True, kw_only=True):
    """One data set to come.

    ``smallest_visible`` is the smallest true difference, as a fraction, that exact McNemar shows in
    4 of 5 repeats at 5% if a quarter of the questions changes; with several data sets or adapters
    Holm's correction asks for more. Where questions cluster, ``groups`` counts the clusters and
    stands for the questions. ``tokens`` and ``seconds`` are of all models.
    """

    data: str
    questions: int
    models: int
    answers: int
    groups: int | None
    smallest_visible: float
    tokens: float
    seconds: float
    at_most: bool


def plan_table(p: Plan) -> Table:
    """A plan as names and values."""
    bound = "at most " if p.at_most else "about "
    groups = f" in {p.groups} groups, which count as one each" if p.groups else ""
    return facts(
        f"{p.data}: plan",
        [
            ("questions", f"{p.questions}{groups}"),
            (
                "smallest difference it can show",
                f"{100 * p.smallest_visible:.1f} points, at 80% power if a quarter of the "
                "questions changes",
            ),
            ("models", f"{p.models}"),
            ("answers", f"{p.answers:,}"),
            ("tokens", f"{bound}{p.tokens:,.0f}"),
            ("time", f"{bound}{duration(p.seconds)}"),
        ],
    )
