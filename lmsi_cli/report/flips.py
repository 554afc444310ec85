"""Questions of an evaluation as the report shows them: before, after, and the paths behind both.

Knows marked answers and words; no files. A question that training lost:

    QuestionView(id="t9", question="...", told="right answer 42; base 42, adapter 41",
                 kinds=("lost",), paths=(PathView(told="base, CoT greedy: 42, right"),), ...)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from lmsi_cli.prompts import Task
from lmsi_cli.records import Question
from lmsi_cli.report.comparison import score
from lmsi_cli.report.digest import Chart, Section, Series, Sheet
from lmsi_cli.report.exams import Exam
from lmsi_cli.report.figures import GREEDY_NAMES
from lmsi_cli.report.html import PathView, QuestionSet, QuestionView
from lmsi_cli.report.located import locate
from lmsi_cli.report.results import Answer, Evaluation, Labelled

GAINED, LOST, BOTH, NEITHER = "gained", "lost", "right before and after", "wrong before and after"
RIGHT, WRONG = "right", "wrong"
KINDS = (BOTH, GAINED, LOST, NEITHER)
HALF = 0.5


def kinds_of(e: Evaluation) -> list[str]:
    """What became of each question on the line that decides, from the base to the last model."""
    models = [v.model for v in e.mains]
    rows = [score([v for v in e.mains if v.model == m], e.primary) for m in models]
    known = [r for r in rows if r is not None]
    if len(known) < 2:
        return [RIGHT if s > HALF else WRONG for s in known[0]] if known else ["asked"] * e.n
    pairs = zip(known[0], known[-1], strict=True)
    return [_kind(a, b) for a, b in pairs]


def _kind(before: float, after: float) -> str:
    if before != after:
        return GAINED if after > before else LOST
    return BOTH if after > HALF else NEITHER


def flips_section(e: Evaluation, number: int) -> Section | None:
    """How many questions training gained and lost; None without a comparison."""
    counts = Counter(kinds_of(e))
    if not set(counts) & set(KINDS):
        return None
    places = tuple(float(i) for i in range(len(KINDS)))
    values = tuple(float(counts[k]) for k in KINDS)
    chart = Chart(
        title=f"Flips, {e.primary}: {e.data}",
        series=(Series(name="questions", x=places, y=values),),
        x_label="before and after",
        y_label="questions",
        ticks=("right, right", "wrong, right", "right, wrong", "wrong, wrong"),
        bars=True,
        note="Each of them can be read below, with the paths behind it.",
    )
    rows = tuple((k, f"{counts[k]:,}") for k in KINDS)
    sheet = Sheet(title="Flips", columns=("", "questions"), rows=rows)
    return Section(
        key=f"flips-{number}",
        title=f"Flips: {e.data}",
        lines=(f"{counts[GAINED]:,} questions gained, {counts[LOST]:,} lost.",),
        sheets=(sheet,),
        charts=(chart,),
    )


def exam_set(exam: Exam, task: Task, most: int) -> QuestionSet:
    """The questions of an evaluation, to be browsed; the flips first if not all are taken.

    Args:
        exam: With its answers; without any there is nothing to browse.
        task: Tells where answers stand.
        most: How many questions; 0: all.
    """
    e = exam.evaluation
    if not any(exam.answers.values()):
        return QuestionSet(e.data, "exam", [])
    kinds = kinds_of(e)
    asked = list(zip(e.questions, kinds, strict=True))
    if most and len(asked) > most:
        asked = sorted(asked, key=lambda a: a[1] not in (GAINED, LOST))[:most]
    by_question = {model: _grouped(answers) for model, answers in exam.answers.items()}
    views = [_view(q, kind, by_question, task) for q, kind in asked]
    return QuestionSet(f"{e.data}, evaluated", "exam", views)


def _grouped(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    for a in answers:
        found.setdefault(a.question_id, []).append(a)
    return found


def _view(
    q: Labelled, kind: str, models: Mapping[str, Mapping[str, list[Answer]]], task: Task
) -> QuestionView:
    own = {model: answers.get(q.id, []) for model, answers in models.items()}
    sampled = [a.predicted_answer for a in next(iter(own.values()), []) if a.mode == "sc"]
    ballots = Counter(v for v in sampled if v is not None).most_common()
    question = Question(id=q.id, question=q.question, family=q.family)
    firsts = ", ".join(f"{m} {_first(a)}" for m, a in own.items())
    return QuestionView(
        id=q.id,
        question=q.question,
        family=q.family,
        told=f"{kind}; right answer {q.gold}; {firsts}",
        kinds=(kind,),
        winner=q.gold,
        share=ballots[0][1] / sum(n for _, n in ballots) if ballots else 0.0,
        ballots=tuple(ballots),
        paths=tuple(_paths(own, question, task)),
    )


def _first(answers: Sequence[Answer]) -> str:
    """The single answer of a model: greedy, or its first path."""
    best = sorted(answers, key=lambda a: (a.mode in ("sc", "direct"), a.path))
    return (best[0].predicted_answer or "no answer") if best else "not asked"


def _paths(
    own: Mapping[str, Sequence[Answer]], question: Question, task: Task
) -> Iterator[PathView]:
    for model, answers in own.items():
        for a in answers:
            way = GREEDY_NAMES.get(a.mode, f"path {a.path}")
            mark = RIGHT if a.correct else WRONG
            start, end = locate(a.text, a.predicted_answer, question, task)
            told = f"{model}, {way}: {a.predicted_answer or 'no answer'}, {mark}"
            yield PathView(told=told, text=a.text, start=start, end=end, kept=a.correct)
