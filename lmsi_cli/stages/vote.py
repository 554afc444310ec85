r"""Stage two: sampled paths in, one vote per question and the training examples out.

Knows which file goes where; the vote and its filters are in ``voting.py``, the formats in
``prompts.py``. Needs no model and no gold answer. One line of ``train.jsonl``:

    {"completion": " 2 + 2 = 4. The answer is 4.", "format": "cot-zero", "path": 3,
     "prompt": "Q: ...\\nA: Let's think step by step.", "question_id": "q7"}
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from lmsi_cli.config import NO_STOP, VoteConfig
from lmsi_cli.contamination import check_apart
from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import read_records, write_records
from lmsi_cli.prompts import Task, examples
from lmsi_cli.records import Path, Question, TrainExample, Vote
from lmsi_cli.rundir import RunDir
from lmsi_cli.stopping import Decision, Stop
from lmsi_cli.voting import Tally, VoteSummary, select, tell, vote

NOT_SAMPLED = "run `lmsi sample` first"


def vote_run(
    run: RunDir,
    task: Task,
    config: VoteConfig,
    exams: Mapping[str, Sequence[Question]] = MappingProxyType({}),
) -> VoteSummary:
    """Vote over every question of a run folder and write ``votes.jsonl`` and ``train.jsonl``.

    Args:
        run: Held by the caller (``locked``).
        task: What was sampled.
        config: Who votes, and what of the majority is kept.
        exams: Questions that must not be trained on, by the name of their file.

    Raises:
        LmsiError: There are no paths, not one of them could be read, or a question is also in an
            exam; nothing is written then.
    """
    _check_settings(config)
    paths = _by_question(run)
    if exams:
        check_apart(list(read_records(run.questions, Question)), exams)
    stopped, tally = _stopped(run, paths), Tally()
    votes = []
    for question_id, group in paths.items():
        voted = vote(question_id, group, config.check_equations)
        voted = msgspec.structs.replace(voted, stopped=question_id in stopped)
        selection = select(voted, group, config)
        tally.add(selection)
        votes.append(selection.vote)
    if not any(v.total_votes for v in votes):
        raise _nobody_votes(run, votes, task)
    train = _examples(votes, paths, run, task, config)
    write_records(run.votes, votes)
    write_records(run.train, train)
    run.save_settings("vote", {**msgspec.to_builtins(config), "exclude": sorted(exams)})
    return tally.summary()


def _check_settings(config: VoteConfig) -> None:
    both = sorted({*config.keep} & {*config.drop})
    if both:
        raise LmsiError(
            f"--keep and --drop both name {both[0]}", hint="take it out of one of the two"
        )


def _nobody_votes(run: RunDir, votes: list[Vote], task: Task) -> LmsiError:
    """Say what keeps every path from voting, and name the setting that the most of them need."""
    reasons = {
        "without an answer": (
            sum(v.no_answer for v in votes),
            f"is {task.trigger!r} in the texts? --prompt cot-few shows the model how to answer",
        ),
        "cut off": (
            sum(v.truncated for v in votes),
            "sample again, with more --max-tokens and --overwrite",
        ),
        "with a false equation": (
            sum(v.refuted for v in votes),
            "--no-check-equations lets them vote",
        ),
    }
    told = ", ".join(f"{n} {what}" for what, (n, _) in reasons.items() if n)
    paths = sum(v.num_paths for v in votes)
    hint = max(reasons.values())[1]
    return LmsiError(f"{run.paths}: none of {paths} paths can vote: {told}", hint=hint)


def _by_question(run: RunDir) -> dict[str, list[Path]]:
    if not run.paths.exists():
        raise LmsiError(f"{run.paths}: no such file", hint=NOT_SAMPLED)
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in read_records(run.paths, Path):
        groups[path.question_id].append(path)
    if not groups:
        raise LmsiError(f"{run.paths}: holds no paths", hint=NOT_SAMPLED)
    for question_id, group in groups.items():
        group.sort(key=lambda p: p.path)  # the file is in order of finishing; the vote is not
        if len({p.path for p in group}) < len(group):
            raise LmsiError(
                f"{run.paths}: a path of question {question_id!r} is there twice",
                hint="delete one of the two lines, so that no path votes twice",
            )
    return dict(sorted(groups.items()))


def _stopped(run: RunDir, paths: dict[str, list[Path]]) -> set[str]:
    """The questions that ``lmsi sample --stop`` left early.

    Fewer paths alone do not show it: the run may have been interrupted, or be going on.
    """
    sampled = run.load_settings().get("sample", {})
    stop = Stop.parse(sampled.get("stop", NO_STOP))
    if stop is None:
        return set()
    most = max(p.path for group in paths.values() for p in group) + 1
    asked = max(sampled.get("paths", 0), most)  # a later call may have asked for fewer
    return {q for q, group in paths.items() if _decision(stop, group).stopped(asked)}


def _decision(stop: Stop, paths: list[Path]) -> Decision:
    decision = Decision(stop)
    for path in paths:
        tell(decision, path)
    return decision


def _examples(
    votes: list[Vote], paths: dict[str, list[Path]], run: RunDir, task: Task, config: VoteConfig
) -> list[TrainExample]:
    """Every kept path in every format, in an order that no question or format dominates."""
    questions = {q.id: q for q in read_records(run.questions, Question)}
    found: list[TrainExample] = []
    for v in votes:
        if v.predicted_answer is not None:
            kept = [p for p in paths[v.question_id] if p.path in v.kept]
            question = questions.get(v.question_id)
            if question is None:
                raise LmsiError(
                    f"{run.questions}: question {v.question_id!r} is not there",
                    hint="add it, or delete its paths",
                )
            found += examples(task, question, kept, v.predicted_answer, config.formats)
    random.Random(config.seed).shuffle(found)
    return found
