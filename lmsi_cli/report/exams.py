"""The evaluations of a run folder as a report takes them: newest per data set, with their answers.

Reads result and answers files; draws nothing. What comes out:

    Exam(evaluation=Evaluation(data="test", ...), answers={"base": [Answer(...), ...]},
         older=0)
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lmsi_cli.report.result_sections import order
from lmsi_cli.report.results import Answer, Evaluation
from lmsi_cli.report.stored import answers_of, read_evaluation
from lmsi_cli.run_folder import RESULT, RunDir

GONE = "their answers are gone, so single questions cannot be shown"


class Exam(NamedTuple):
    """One data set: its newest evaluation, the answers of each model, and how many are older."""

    evaluation: Evaluation
    answers: dict[str, list[Answer]]
    older: int


def exams_of(run: RunDir) -> list[Exam]:
    """Everything that was measured in a run folder.

    Raises:
        LmsiError: A result file cannot be read.
    """
    files = sorted(run.eval_dir.glob(f"*{RESULT}"), key=lambda f: (f.stat().st_mtime, f.name))
    newest: dict[str, Evaluation] = {}
    count: dict[str, int] = {}
    for file in files:
        evaluation = read_evaluation(file)
        newest[evaluation.data] = evaluation
        count[evaluation.data] = count.get(evaluation.data, 0) + 1
    return [_exam(e, run.eval_dir, count[e.data] - 1) for e in order(list(newest.values()))]


def _exam(e: Evaluation, folder: Path, older: int) -> Exam:
    answers = {v.model: answers_of(v, folder) for v in e.mains}
    return Exam(e, answers, older)
