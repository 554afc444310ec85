"""What a vote's verdict asks of others: a probe that fits, and whether training may go on.

permit(run, "lmsi train runs/a --force")
-> LmsiError: runs/a: the verdict is not to train: 97% of the paths agree already ...
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_struct
from lmsi_cli.records import Question
from lmsi_cli.run_folder import RunDir
from lmsi_cli.verdict.rules import STOP, Verdict

NAMED = 3  # ids told of those that are missing


def check_probe(probe: Sequence[Question], questions: Iterable[Question], where: str) -> None:
    """Refuse a probe that is not of these questions.

    Raises:
        LmsiError: An id is not there, or belongs to a question in other words; tells how many.
    """
    wanted = {q.id for q in probe}
    known = {q.id: q.question for q in questions if q.id in wanted}
    missing = [q.id for q in probe if q.id not in known]
    other = [q.id for q in probe if known.get(q.id, q.question) != q.question]
    for ids, what in ((missing, "not in"), (other, "in other words in")):
        if ids:
            named = ", ".join(ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")
            raise LmsiError(
                f"--probe: {len(ids)} of {len(probe)} questions are {what} {where}: {named}",
                hint="a probe gives right answers to questions that were sampled: "
                "sample them with the others, under the same ids",
            )


def permit(run: RunDir, how: str) -> None:
    """Refuse to train where the verdict is against it; a folder without a verdict passes.

    Args:
        run: A run folder that was voted on.
        how: The command that trains all the same, for the hint.

    Raises:
        LmsiError: The verdict is not to train; gives the weightiest reason.
    """
    if not run.verdict.exists():
        return
    verdict = read_struct(run.verdict, Verdict, "run `lmsi vote` again")
    if verdict.verdict == STOP:
        reason = verdict.reasons[0].text
        raise LmsiError(
            f"{run.root}: the verdict is not to train: {reason}",
            hint=f"{run.verdict} has all figures; `{how}` trains all the same",
        )
