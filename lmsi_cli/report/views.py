"""Single questions as the HTML page shows them: of the run with its vote, of an evaluation.

Knows records and words; no files. A question of the run:

    QuestionView(id="q7", question="...", told="winner 42, share 81% ...", kinds=("kept",),
                 ballots=(("42", 13), ("44", 3)), paths=(PathView(told="path 0: 42 ..."),), ...)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmsi_cli.prompts import Task
from lmsi_cli.records import Path, Question, Vote
from lmsi_cli.report.html import PathView, QuestionView
from lmsi_cli.report.located import locate


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
    if vote is None:
        kinds, told = ("no vote yet",), f"{len(paths)} paths, no vote yet"
        shown = tuple(_path(p, question, task, "", False) for p in paths)
        return QuestionView(
            id=question.id,
            question=question.question,
            family=question.family,
            told=told,
            kinds=kinds,
            paths=shown,
        )
    classes = {number: name for name, numbers in vote.classes.items() for number in numbers}
    return QuestionView(
        id=question.id,
        question=question.question,
        family=question.family,
        told=_vote(vote),
        kinds=tuple(_kinds(vote)),
        winner=vote.predicted_answer,
        share=vote.share,
        ballots=tuple(sorted(vote.ballots.items(), key=lambda b: -b[1])),
        classes={name: len(numbers) for name, numbers in vote.classes.items() if numbers},
        paths=tuple(
            _path(p, question, task, classes.get(p.path, ""), p.path in vote.kept) for p in paths
        ),
    )


def _vote(vote: Vote) -> str:
    if vote.predicted_answer is None:
        why = "a tie" if vote.tie else "no ballots"
        return f"no winner: {why} among {vote.total_votes} ballots of {vote.num_paths} paths"
    return (
        f"winner {vote.predicted_answer}, share {vote.share:.0%} of {vote.total_votes} ballots, "
        f"{len(vote.kept)} paths kept"
    )


def _kinds(vote: Vote) -> Iterator[str]:
    yield "kept" if vote.kept else "not kept"
    if vote.tie:
        yield "ties"
    if not vote.total_votes:
        yield "no ballots"
    if vote.stopped:
        yield "stopped early"


def _path(path: Path, question: Question, task: Task, kind: str, kept: bool) -> PathView:
    start, end = locate(path.text, path.predicted_answer, question, task)
    answer = path.predicted_answer or "no answer"
    facts = [f"path {path.path}: {answer}", kind, f"{path.num_generated_tokens} tokens"]
    facts += ["cut off"] if path.stop_reason == "length" else []
    facts += ["kept"] if kept else []
    told = ", ".join(f for f in facts if f)
    return PathView(told=told, text=path.text, start=start, end=end, kept=kept)
