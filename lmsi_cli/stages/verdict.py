"""Between stages two and three: what the vote shows, and whether training may go on.

Knows which file goes where; the signals and the rules are in ``verdict/``. The vote is watched by
an observer, and its verdict lies beside what it judges:

    permit(run, "lmsi train runs/a --force")
    -> LmsiError: runs/a: the verdict is not to train: 97% of the paths agree already ...
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records, read_struct
from lmsi_cli.prompts import Task
from lmsi_cli.records import Path, Question
from lmsi_cli.run_folder import RunDir
from lmsi_cli.tasks.golds import gold_answers
from lmsi_cli.verdict.observer import Observer
from lmsi_cli.verdict.rules import STOP, Verdict
from lmsi_cli.voting.ballots import is_complete

NAMED = 3  # ids told of those that are missing
# What two runs must differ in, for one to say anything about the other.
ASKED = ("prompt", "model_sha256", "task_sha256", "chat", "few_shot", "system", "template_var",
         "adapter")  # fmt: skip


def observer_of(
    run: RunDir, task: Task, probe: Sequence[Question] = (), second: RunDir | None = None
) -> Observer:
    """Prepare to watch the vote over a run folder.

    Args:
        run: A run folder with its questions.
        task: Supplies the kind of answer and the chance level.
        probe: Questions of the run with right answers, for the verdict alone.
        second: A run on the same questions with another prompt, whose plain votes are compared.

    Raises:
        LmsiError: A probe question is not in the run or its answer is of another kind; or the
            second run is the same one, has the same prompt, or no question in common.
    """
    if probe:
        check_probe(probe, read_records(run.questions, Question), str(run.root))
    winners = _second_winners(run, second) if second else None
    return Observer(gold_answers(probe, task), task.chance, winners)


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


def _second_winners(run: RunDir, second: RunDir) -> dict[str, str | None]:
    """Winners of the plain vote in another run, on a tie ``None``.

    A run agrees with itself, and with its like, whatever it says; so those are refused.
    """
    if not second.paths.exists():
        raise LmsiError(f"--second: {second.paths}: no such file", hint="run `lmsi sample` first")
    hint = "sample the same questions there, with another --prompt"
    mine, theirs = (r.load_settings().get("sample", {}) for r in (run, second))
    if all(mine.get(k) == theirs.get(k) for k in ASKED):
        raise LmsiError(
            f"--second: {second.root} has the model and prompt of {run.root}, so it would agree",
            hint=hint,
        )
    ballots: dict[str, Counter[str]] = defaultdict(Counter)
    for path in read_records(second.paths, Path):
        if path.predicted_answer is not None and is_complete(path):
            ballots[path.question_id][path.predicted_answer] += 1
    ranked = {q: counts.most_common(2) for q, counts in ballots.items()}
    found = {
        q: best[0] if not next_ or best[1] > next_[0][1] else None
        for q, (best, *next_) in ranked.items()
    }
    if not any(q.id in found for q in read_records(run.questions, Question)):
        raise LmsiError(
            f"--second: {second.root} has no answer to any question of {run.root}",
            hint=hint,
        )
    return found
