"""Stage two: sampled paths in, one vote per question and the training examples out.

Knows which file goes where; the vote and its filters are in ``voting.py``, the formats in
``prompts.py``. Needs no model and no gold answer. One line of ``train.jsonl``:

    {"completion": " 2 + 2 = 4. The answer is 4.", "format": "cot-zero", "path": 3,
     "prompt": "Q: ...\\nA: Let's think step by step.", "question_id": "q7"}
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import msgspec

from lmsi_cli.config import VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import read_records, write_records
from lmsi_cli.prompts import Task, examples
from lmsi_cli.records import Path, Question, TrainExample, Vote
from lmsi_cli.rundir import RunDir
from lmsi_cli.voting import VoteSummary, select, tally, vote

NOT_SAMPLED = "run `lmsi sample` first"


def vote_run(run: RunDir, task: Task, config: VoteConfig) -> VoteSummary:
    """Vote over every question of a run folder and write ``votes.jsonl`` and ``train.jsonl``.

    Raises:
        LmsiError: There are no paths, or not one of them could be read; nothing is written then.
    """
    paths = _by_question(run)
    removed: Counter[str] = Counter()
    votes = [_vote_one(question_id, group, config, removed) for question_id, group in paths.items()]
    if not any(v.total_votes for v in votes):
        raise LmsiError(
            f"{run.paths}: no answer could be read from any of {sum(map(len, paths.values()))} paths",
            hint=f"look at the texts: is the answer trigger {task.trigger!r} there? Try "
            "`--prompt cot-few`, more `--max-tokens`, or another `--task`",
        )
    train = _examples(votes, paths, run, task, config)
    write_records(run.votes, votes)
    write_records(run.train, train)
    run.save_settings("vote", msgspec.to_builtins(config))
    return tally(votes, removed)


def _by_question(run: RunDir) -> dict[str, list[Path]]:
    if not run.paths.exists():
        raise LmsiError(f"{run.paths}: no such file", hint=NOT_SAMPLED)
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in read_records(run.paths, Path):
        groups[path.question_id].append(path)
    if not groups:
        raise LmsiError(f"{run.paths}: holds no paths", hint=NOT_SAMPLED)
    for group in groups.values():  # the file is in order of finishing; the vote is not
        group.sort(key=lambda p: p.path)
    return dict(sorted(groups.items()))


def _vote_one(
    question_id: str, paths: list[Path], config: VoteConfig, removed: Counter[str]
) -> Vote:
    selection = select(vote(question_id, paths, config.check_equations), paths, config)
    removed.update(selection.removed)
    return selection.vote


def _examples(
    votes: list[Vote], paths: dict[str, list[Path]], run: RunDir, task: Task, config: VoteConfig
) -> list[TrainExample]:
    """Every kept path in every format, in an order that no question or format dominates."""
    questions = {q.id: q for q in read_records(run.questions, Question)}
    found: list[TrainExample] = []
    for v in votes:
        if v.predicted_answer is not None:
            kept = [p for p in paths[v.question_id] if p.path in v.kept]
            question = questions[v.question_id]
            found += examples(task, question, kept, v.predicted_answer, config.formats)
    random.Random(config.seed).shuffle(found)
    return found
