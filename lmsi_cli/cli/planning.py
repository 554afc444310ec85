"""What `lmsi eval --dry-run` reckons up: the work of each mode, from a small trial of the base.

Knows the stages that an evaluation is made of; adapters are taken to write as much as the base.
"""

from __future__ import annotations

from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.records import Mode, Record
from lmsi_cli.report.digest import Sheet
from lmsi_cli.report.formats import duration
from lmsi_cli.stages.estimate import Estimate, estimate
from lmsi_cli.stages.evaluate import Exam, paths_of, requests_of, sampling_of, ways
from lmsi_cli.stats import smallest_visible


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


def plan(exam: Exam, models: int, engine: LlamaEngine) -> Plan:
    """Reckon up one data set.

    Raises:
        LmsiError: No question fits the context, or the cache does not fit the memory.
    """
    engine.use_adapter(None)
    jobs = [(mode, way) for way in ways(exam.config) for mode in _modes(exam, way.greedy)]
    costs: dict[Mode, Estimate] = {}
    for mode, way in jobs:
        if mode not in costs:  # another temperature or seed costs as much
            requests = requests_of(exam, engine, mode, way.seed)
            sampling = sampling_of(exam.config, mode, way)
            costs[mode] = estimate(requests, engine, sampling, exam.task.trigger)
    n = len(exam.asked)
    clusters = {q.group or q.id for q in exam.asked}
    return Plan(
        data=exam.name,
        questions=n,
        models=models,
        answers=models * n * sum(paths_of(exam.config, mode) for mode, _ in jobs),
        groups=len(clusters) if len(clusters) < n else None,
        smallest_visible=smallest_visible(len(clusters)),
        tokens=models
        * n
        * sum(paths_of(exam.config, mode) * costs[mode].tokens_per_path for mode, _ in jobs),
        seconds=models * sum(costs[mode].seconds for mode, _ in jobs),
        at_most=any(c.at_most for c in costs.values()),
    )


def _modes(exam: Exam, greedy: bool) -> list[Mode]:
    return [m for m in dict.fromkeys(exam.config.modes) if (m == "sc") != greedy]


def plan_sheet(p: Plan) -> Sheet:
    """A plan as names and values."""
    bound = "at most " if p.at_most else "about "
    groups = f" in {p.groups} groups, which count as one each" if p.groups else ""
    visible = (
        f"{100 * p.smallest_visible:.1f} points, at 80% power if a quarter of the questions changes"
    )
    rows = (
        ("questions", f"{p.questions}{groups}"),
        ("smallest difference it can show", visible),
        ("models", f"{p.models}"),
        ("answers", f"{p.answers:,}"),
        ("tokens", f"{bound}{p.tokens:,.0f}"),
        ("time", f"{bound}{duration(p.seconds)}"),
    )
    return Sheet(title=f"{p.data}: plan", rows=rows)
