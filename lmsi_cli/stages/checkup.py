"""The check-ups between rounds: what each adapter is asked, and what its answers show.

Needs no model: chooses the questions and turns answers into figures; the rules are in
``rounds.py``. With several rounds a probe's questions are not trained on, because they decide which
round is kept:

    to_ask(root, task, probe, val_share=0.0)     # after the first round's training
    -> [Question(id="q8", answer="9", ...)], "agreement"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import msgspec

from lmsi_cli.answers import canonical
from lmsi_cli.config import EngineConfig, EvalConfig, SampleConfig
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Preference, Question, TrainExample, Vote
from lmsi_cli.reporting.results import Answer
from lmsi_cli.resume import trained_file
from lmsi_cli.rounds import By, Figures
from lmsi_cli.run_folder import RunDir
from lmsi_cli.settings import seed_of
from lmsi_cli.training.examples import split

PATHS = 4  # sampled answers per question, besides the greedy one
MOST, FEWEST = 60, 20  # questions of a check-up without a probe; a probe is asked whole
SHARE = 10  # a check-up draws at most one answer per this many paths of the first round
NAME = "checkup"
STREAM = 0x5EED  # keeps its random numbers apart from those of every round's paths


def trained_on(folder: RunDir, val_share: float) -> frozenset[str]:
    """Ids of the questions that a round's adapter was trained on, without those it validated on."""
    file = trained_file(folder)
    kind: Any = Preference if file == folder.pairs else TrainExample
    examples = list(read_records(file, kind)) if file else []
    return frozenset(e.question_id for e in split(examples, val_share)[0])


def leave_out(folder: RunDir, probe: Sequence[Question], several: bool) -> int:
    """Drop the probe's questions from the training data if they will decide between rounds.

    A finished adapter keeps the data it was trained on. Returns how many examples were dropped; 0
    if none would be left.
    """
    ids = {q.id for q in probe}
    examples = list(read_records(folder.train, TrainExample)) if ids else []
    left = [e for e in examples if e.question_id not in ids]
    out = len(examples) - len(left)
    if not out or not left:
        return 0
    finished = folder.adapter_origin.exists()
    if (finished and trained_file(folder)) or not (finished or several):
        return 0
    if folder.pairs.exists():  # before train.jsonl, which tells a later call that all is done
        pairs = [p for p in read_records(folder.pairs, Preference) if p.question_id not in ids]
        write_records(folder.pairs, pairs)
    write_records(folder.train, left)
    return out


def to_ask(
    run: RunDir, task: Task, probe: Sequence[Question], val_share: float
) -> tuple[list[Question], By]:
    """Choose the questions of all check-ups, once the first round is trained.

    Returns them with the wanted answers, and where those come from. Without a probe they are the
    winners of the base's vote, on questions that the first round was not trained on (``val_share``
    of those in ``train.jsonl`` were set apart).
    """
    if probe:
        return list(probe), "probe"
    votes = list(read_records(run.votes, Vote))
    seen = trained_on(run, val_share)
    winners = {
        v.question_id: v.predicted_answer
        for v in sorted(votes, key=lambda v: -v.posterior)
        if v.predicted_answer is not None and not v.tie and v.question_id not in seen
    }
    texts = {q.id: q for q in read_records(run.questions, Question) if q.id in winners}
    fit = [
        msgspec.structs.replace(texts[q], answer=winner)
        for q, winner in winners.items()  # only winners that read back as themselves
        if q in texts and canonical(winner, task.kind, asked(task, texts[q].question)) == winner
    ]
    budget = sum(v.num_paths for v in votes) // SHARE // (1 + PATHS)
    fit = fit[: max(FEWEST, min(MOST, budget))]
    return fit, "agreement" if fit else "nothing"


def manner(sample: SampleConfig) -> EvalConfig:
    """How a check-up asks: as the run was sampled, with one random stream for all rounds."""
    shared = ("top_k", "top_p", "min_p", "max_tokens", "prompt", *EngineConfig.__struct_fields__)
    return EvalConfig(
        modes=("cot", "sc"),
        paths=PATHS,
        temperature=(sample.temperature,),
        seed=(seed_of(sample.seed, STREAM),),
        **{name: getattr(sample, name) for name in shared},
    )


def figures(model: str, answers: Sequence[Answer], wanted: Mapping[str, str]) -> Figures:
    """Compute the figures of one model's check-up; draws no conclusion.

    ``answers`` has a greedy and some sampled ones per question; ``wanted`` gives the right answer
    to each question, or the winner of its vote.
    """
    asked = [a for a in answers if a.question_id in wanted]
    by_question: dict[str, list[str | None]] = {q: [] for q in wanted}
    for a in asked:
        by_question[a.question_id].append(a.predicted_answer)
    said = [a.predicted_answer for a in asked if a.mode != "sc"]
    greedy = Counter(answer for answer in said if answer is not None)
    found = {q: given for q, given in by_question.items() if given}
    return Figures(
        model=model,
        questions=tuple(found),
        scores=tuple(fmean(a == wanted[q] for a in given) for q, given in found.items()),
        parsed=tuple(fmean(a is not None for a in given) for given in found.values()),
        commonest=max(greedy.values()) / greedy.total() if greedy else 0.0,
    )
