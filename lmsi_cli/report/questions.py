"""Single questions as the page shows them: of the run with its vote, of an evaluation.

Knows records, words, and the task's way of reading answers; no files. A question of the run:

    QuestionView(id="q7", question="...", line="winner 42, share 81% ...", kinds=("kept",),
                 ballots=(("42", 13), ("44", 3)), paths=(PathView(line="path 0: 42 ..."),), ...)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from lmsi_cli.answers import extract, extract_second
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Path, Question, Record, Vote
from lmsi_cli.report.comparison import score
from lmsi_cli.report.grading import GREEDY_NAMES
from lmsi_cli.report.results import Answer, Evaluation, Exam, Labelled
from lmsi_cli.thinking import answer_part
from lmsi_cli.voting.ballots import is_refuted

GAINED, LOST, BOTH, NEITHER = "gained", "lost", "right before and after", "wrong before and after"
RIGHT, WRONG = "right", "wrong"
HALF = 0.5


class PathView(Record, frozen=True, kw_only=True):
    """A path as it is shown; ``text[start:end]`` is its answer, if that was found."""

    line: str
    text: str
    start: int | None = None
    end: int | None = None
    kept: bool = False


class QuestionView(Record, frozen=True, kw_only=True):
    """A question as it is shown; ``kinds`` are what it can be found by.

    ``ballots`` are answers and their counts; ``share`` is 0 to 1.
    """

    id: str
    question: str
    line: str
    kinds: tuple[str, ...]
    paths: tuple[PathView, ...]
    family: str | None = None
    winner: str | None = None
    share: float = 0.0
    ballots: tuple[tuple[str, int], ...] = ()


class QuestionSet(NamedTuple):
    """Questions to be browsed; ``kind`` is ``run`` or ``exam``."""

    name: str
    kind: str
    questions: Sequence[QuestionView]


class ShownPath(Record, frozen=True, kw_only=True):
    """A path, and where in its text the answer stands: ``text[start:end]``; None without one."""

    path: Path
    start: int | None
    end: int | None


def located(path: Path, question: Question, task: Task) -> ShownPath:
    """A path with the place of its answer."""
    start, end = locate(path.text, path.predicted_answer, question, task)
    return ShownPath(path=path, start=start, end=end)


def locate(
    text: str, answer: str | None, question: Question, task: Task
) -> tuple[int | None, int | None]:
    """The place of ``answer`` in ``text``; a text that is read otherwise now has none."""
    asked_question = asked(task, question.question)
    second = extract_second(text, task.kind, asked_question, task.second_trigger, task.trigger)
    if second is not None and second.value == answer:
        return second.start, second.end
    said = answer_part(text)
    found = extract(said, task.kind, task.trigger, asked_question)
    if found is None or found.value != answer:
        return None, None
    thought = len(text) - len(said)
    return thought + found.start, thought + found.end


def run_question(
    question: Question, paths: Sequence[Path], vote: Vote | None, task: Task
) -> QuestionView:
    """A question that was sampled, with all of its paths.

    Args:
        question: As it was asked.
        paths: In the order of their numbers.
        vote: None before `lmsi vote`.
        task: Tells how answers are read.
    """
    view = QuestionView(
        id=question.id,
        question=question.question,
        family=question.family,
        line=f"{len(paths)} paths, no vote yet",
        kinds=("no vote yet",),
        paths=tuple(_path(p, question, task, vote) for p in paths),
    )
    if vote is None:
        return view
    return msgspec.structs.replace(
        view,
        line=vote_line(vote),
        kinds=tuple(_kinds(vote)),
        winner=vote.predicted_answer,
        share=vote.share,
        ballots=tuple(sorted(vote.ballots.items(), key=lambda b: -b[1])),
    )


def vote_line(vote: Vote) -> str:
    """Who won, how clearly, and among how many."""
    left = f"{vote.no_answer} without an answer, {vote.truncated} cut off, {vote.refuted} refuted"
    counted = f"{vote.total_votes} ballots of {vote.num_paths} paths ({left})"
    if vote.predicted_answer is None:
        return f"no winner: {'a tie; ' if vote.tie else ''}{counted}"
    figures = f"share {vote.share:.0%}, margin {vote.margin:.0%}, {len(vote.kept)} paths kept"
    return f"winner {vote.predicted_answer}: {figures}; {counted}"


def path_line(path: Path, vote: Vote | None) -> str:
    """What a path says, by which rule it was read, and what became of it."""
    answer = path.predicted_answer
    facts = ["no answer" if answer is None else f"{answer} by {path.extract_rule}"]
    facts.append(f"{path.num_generated_tokens} tokens")
    facts += ["cut off"] if path.stop_reason == "length" else []
    facts += ["a false equation"] if is_refuted(path) else []
    facts += ["kept"] if vote and path.path in vote.kept else []
    return f"path {path.path}   {', '.join(facts)}"


def _kinds(vote: Vote) -> Iterator[str]:
    yield "kept" if vote.kept else "not kept"
    if vote.tie:
        yield "ties"
    if not vote.total_votes:
        yield "no ballots"
    if vote.stopped:
        yield "stopped early"


def _path(path: Path, question: Question, task: Task, vote: Vote | None) -> PathView:
    start, end = locate(path.text, path.predicted_answer, question, task)
    kept = vote is not None and path.path in vote.kept
    line = path_line(path, vote)
    return PathView(line=line, text=path.text, start=start, end=end, kept=kept)


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
    chosen = list(zip(e.questions, kinds_of(e), strict=True))
    if most and len(chosen) > most:
        chosen = sorted(chosen, key=lambda a: a[1] not in (GAINED, LOST))[:most]
    by_question = {model: _grouped(answers) for model, answers in exam.answers.items()}
    views = [_examined(q, kind, by_question, task) for q, kind in chosen]
    return QuestionSet(f"{e.data}, evaluated", "exam", views)


def kinds_of(e: Evaluation) -> list[str]:
    """What became of each question on the line that decides, from the base to the last model."""
    rows = [score([v], e.primary) for v in e.mains]
    known = [r for r in rows if r is not None]
    if len(known) < 2:
        return [RIGHT if s > HALF else WRONG for s in known[0]] if known else ["asked"] * e.n
    return [_kind(a, b) for a, b in zip(known[0], known[-1], strict=True)]


def _kind(before: float, after: float) -> str:
    if before != after:
        return GAINED if after > before else LOST
    return BOTH if after > HALF else NEITHER


def _grouped(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    for a in answers:
        found.setdefault(a.question_id, []).append(a)
    return found


def _examined(
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
        line=f"{kind}; right answer {q.gold}; {firsts}",
        kinds=(kind,),
        winner=q.gold,
        share=ballots[0][1] / sum(n for _, n in ballots) if ballots else 0.0,
        ballots=tuple(ballots),
        paths=tuple(_answers(own, question, task)),
    )


def _first(answers: Sequence[Answer]) -> str:
    """The single answer of a model: greedy, or its first path."""
    best = sorted(answers, key=lambda a: (a.mode in ("sc", "direct"), a.path))
    return (best[0].predicted_answer or "no answer") if best else "not asked"


def _answers(
    own: Mapping[str, Sequence[Answer]], question: Question, task: Task
) -> Iterator[PathView]:
    for model, answers in own.items():
        for a in answers:
            way = GREEDY_NAMES.get(a.mode, f"path {a.path}")
            mark = RIGHT if a.correct else WRONG
            start, end = locate(a.text, a.predicted_answer, question, task)
            line = f"{model}, {way}: {a.predicted_answer or 'no answer'}, {mark}"
            yield PathView(line=line, text=a.text, start=start, end=end, kept=a.correct)
