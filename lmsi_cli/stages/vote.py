r"""Stage two: sampled paths in, one vote per question and the training examples out.

Knows which file goes where; the vote and its filters are in ``voting.py``, the formats in
``prompts.py``. Needs no model and no gold answer. One line of ``train.jsonl``:

    {"completion": " 2 + 2 = 4. The answer is 4.", "format": "cot-zero", "path": 3,
     "prompt": "Q: ...\\nA: Let's think step by step.", "question_id": "q7"}
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import msgspec

from lmsi_cli.config import NO_STOP, VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import read_records, write_records
from lmsi_cli.prompts import Task, examples
from lmsi_cli.records import Path, Question, TrainExample, Vote
from lmsi_cli.rundir import RunDir
from lmsi_cli.stopping import Decision, Stop
from lmsi_cli.voting import VoteSummary, select, tally, tell, vote

Watch = Callable[[Vote, Sequence[Path]], None]
NOT_SAMPLED = "run `lmsi sample` first"


def vote_run(
    run: RunDir, task: Task, config: VoteConfig, watch: Watch = lambda *_: None
) -> VoteSummary:
    """Vote over every question of a run folder and write ``votes.jsonl`` and ``train.jsonl``.

    Args:
        run: Held by the caller (``locked``).
        task: Supplies the form of the examples.
        config: Settings of the vote.
        watch: Is told every vote that is written, with all paths of its question.

    Raises:
        LmsiError: There are no paths, or not one of them could be read; nothing is written then.
    """
    paths = _by_question(run)
    removed: Counter[str] = Counter()
    votes = [_vote_one(question_id, group, config, removed) for question_id, group in paths.items()]
    stopped = _stopped(run, paths)
    votes = [msgspec.structs.replace(v, stopped=v.question_id in stopped) for v in votes]
    if not any(v.total_votes for v in votes):
        raise _nobody_votes(run, votes, task)
    train = _examples(votes, paths, run, task, config)
    for v in votes:
        watch(v, paths[v.question_id])
    write_records(run.votes, votes)
    write_records(run.train, train)
    run.save_settings("vote", msgspec.to_builtins(config))
    return tally(votes, removed)


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


def _vote_one(
    question_id: str, paths: list[Path], config: VoteConfig, removed: Counter[str]
) -> Vote:
    selection = select(vote(question_id, paths, config.check_equations), paths, config)
    removed.update(selection.removed)
    return selection.vote


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
