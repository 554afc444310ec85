"""Single questions as the page shows them: of the run with its vote, of an evaluation.

Knows records, words, and the task's way of reading answers; no files. A question of the run:

    QuestionView(id="q7", question="...", line="winner 42, share 81% ...", kinds=("kept",),
                 ballots=(("42", 13), ("44", 3)), paths=(PathView(line="path 0: 42 ..."),), ...)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from lmsi_cli.answers import extract, extract_second
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Path, Question, Record, Vote
from lmsi_cli.reporting.grading import GREEDY_NAMES
from lmsi_cli.reporting.results import Answer, Evaluation, Labelled
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
    shown = []
    for p in paths:
        start, end = locate(p.text, p.predicted_answer, question, task)
        kept = vote is not None and p.path in vote.kept
        line = path_line(p, vote)
        shown.append(PathView(line=line, text=p.text, start=start, end=end, kept=kept))
    view = QuestionView(
        id=question.id,
        question=question.question,
        family=question.family,
        line=f"{len(paths)} paths, no vote yet",
        kinds=kinds_of_vote(vote),
        paths=tuple(shown),
    )
    if vote is None:
        return view
    return msgspec.structs.replace(
        view,
        line=vote_line(vote),
        winner=vote.predicted_answer,
        share=vote.share,
        ballots=tuple(sorted(vote.ballots.items(), key=lambda b: -b[1])),
    )


def kinds_of_vote(vote: Vote | None) -> tuple[str, ...]:
    """What a question of a run can be found by."""
    if vote is None:
        return ("no vote yet",)
    kinds = {
        "kept" if vote.kept else "not kept": True,
        "ties": vote.tie,
        "no ballots": not vote.total_votes,
        "stopped early": vote.stopped,
    }
    return tuple(kind for kind, holds in kinds.items() if holds)


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


def exam_set(
    e: Evaluation, answers: Mapping[str, Sequence[Answer]], task: Task, most: int
) -> QuestionSet:
    """The questions of an evaluation, to be browsed; the flips first if not all are taken.

    Args:
        e: The evaluation.
        answers: Of each model; without any there is nothing to browse.
        task: Tells where answers stand.
        most: How many questions; 0: all.
    """
    if not any(answers.values()):
        return QuestionSet(e.data, "exam", [])
    chosen = list(zip(e.questions, kinds_of(e), strict=True))
    if most and len(chosen) > most:
        chosen = sorted(chosen, key=lambda a: a[1] not in (GAINED, LOST))[:most]
    by_question: dict[str, dict[str, list[Answer]]] = {}
    for model, given in answers.items():
        for a in given:
            by_question.setdefault(a.question_id, {}).setdefault(model, []).append(a)
    views = [
        _examined(q, kind, {m: by_question.get(q.id, {}).get(m, []) for m in answers}, task)
        for q, kind in chosen
    ]
    return QuestionSet(f"{e.data}, evaluated", "exam", views)


def kinds_of(e: Evaluation) -> list[str]:
    """What became of each question on the line that decides, from the base to the last model."""
    known = [f.scores for v in e.mains if (f := v.figure(e.primary)) is not None]
    if not known:
        return ["asked"] * e.n
    if len(known) == 1:
        return [RIGHT if s > HALF else WRONG for s in known[0]]
    kinds = []
    for before, after in zip(known[0], known[-1], strict=True):
        same = BOTH if after > HALF else NEITHER
        kinds.append(same if before == after else GAINED if after > before else LOST)
    return kinds


def _examined(
    q: Labelled, kind: str, own: Mapping[str, Sequence[Answer]], task: Task
) -> QuestionView:
    """One question with each model's answers to it."""
    first, *_ = [*own.values(), []]
    ballots = Counter(
        a.predicted_answer for a in first if a.mode == "sc" and a.predicted_answer is not None
    ).most_common()
    question = Question(id=q.id, question=q.question, family=q.family)
    firsts, paths = [], []
    for model, answers in own.items():
        # its single answer: the greedy one, or its first path
        best = sorted(answers, key=lambda a: (a.mode in ("sc", "direct"), a.path))
        said = (best[0].predicted_answer or "no answer") if best else "not asked"
        firsts.append(f"{model} {said}")
        for a in answers:
            way = GREEDY_NAMES.get(a.mode, f"path {a.path}")
            start, end = locate(a.text, a.predicted_answer, question, task)
            mark = RIGHT if a.correct else WRONG
            line = f"{model}, {way}: {a.predicted_answer or 'no answer'}, {mark}"
            paths.append(PathView(line=line, text=a.text, start=start, end=end, kept=a.correct))
    return QuestionView(
        id=q.id,
        question=q.question,
        family=q.family,
        line=f"{kind}; right answer {q.gold}; {', '.join(firsts)}",
        kinds=(kind,),
        winner=q.gold,
        share=ballots[0][1] / sum(n for _, n in ballots) if ballots else 0.0,
        ballots=tuple(ballots),
        paths=tuple(paths),
    )
