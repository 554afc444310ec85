"""Between rounds: what a round came to, what to ask its adapter, and the file that tells of all.

Reads what the other stages have written and writes ``rounds.json``; the rules are in ``rounds/``.
A probe's questions are not trained on where there are several rounds, since they decide which one
is kept. Needs no model:

    asked = to_ask(root, task, probe, val_share=0.0)     # after the first round's training
    told(root.round(2), 2, settings, drawn_by=1, started_from=0)
    -> Round(number=2, folder="round-2", verdict="train", first_loss=0.31, ...)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.answers import canonical
from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import EngineConfig, EvalConfig, SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object, read_records, write_records
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Question, TrainExample, Vote
from lmsi_cli.report.results import Answer, Evaluation, answers_of
from lmsi_cli.report.rounds import RoundsTable, rounds_table
from lmsi_cli.rounds.best import best
from lmsi_cli.rounds.figures import Said, figures
from lmsi_cli.rounds.records import By, Figures, Gate, Round, Rounds
from lmsi_cli.rounds.settings import Settings, seed_of
from lmsi_cli.run_folder import RunDir, chosen_scale, sha256_file
from lmsi_cli.training.examples import split
from lmsi_cli.verdict.rules import Verdict
from lmsi_cli.voting import VoteSummary, path_key

PATHS = 4  # sampled answers a question besides the greedy one
MOST, FEWEST = 60, 20  # questions without labels; a probe is asked whole
SHARE = 10  # a check-up draws at most one answer for so many paths of the first round
NAME = "checkup"
STREAM = 0x5EED  # other random numbers than those of any round's paths


class Asked(NamedTuple):
    """The questions of the check-ups, answered as they should be, and by what that is known."""

    questions: list[Question]
    by: By


def read_rounds(run: RunDir) -> Rounds | None:
    """What is told of a run's rounds; None if it had only one.

    Raises:
        LmsiError: The file is of another version.
    """
    if not run.rounds.exists():
        return None
    try:
        return msgspec.convert(read_object(run.rounds), Rounds)
    except msgspec.ValidationError as e:
        raise LmsiError(f"{run.rounds}: {e}", hint="run `lmsi run` again") from None


def write_rounds(run: RunDir, rounds: Rounds) -> None:
    """Replace what is told of the rounds."""
    write_atomic(run.rounds, msgspec.json.format(msgspec.json.encode(rounds)))


def concluded(run: RunDir, rounds: Rounds, val_share: float) -> Rounds:
    """Add which round is kept."""
    trained = {r.number: trained_on(run.round(r.number), val_share) for r in rounds.rounds}
    return msgspec.structs.replace(rounds, best=best(rounds.rounds, trained, rounds.by))


def trained_on(folder: RunDir, val_share: float) -> frozenset[str]:
    """Ids of the questions that a round's adapter was trained on; those it validated on are not."""
    if not folder.train.exists():
        return frozenset()
    sides = split(list(read_records(folder.train, TrainExample)), val_share)
    return frozenset(e.question_id for e in sides.train)


def leave_out(folder: RunDir, probe: Sequence[Question], several: bool) -> int:
    """Take the probe's questions out of ``train.jsonl`` where they will decide between rounds.

    An adapter that is there already keeps its examples, whichever they were.

    Args:
        folder: A round that was just voted on.
        probe: Labelled questions of the run.
        several: Whether there is more than one round.

    Returns:
        How many examples were taken out.
    """
    ids = {q.id for q in probe}
    examples = list(read_records(folder.train, TrainExample)) if ids else []
    left = [e for e in examples if e.question_id not in ids]
    out = len(examples) - len(left)
    if not out or not left:
        return 0
    made_of = _made_of(folder)
    if made_of == sha256_file(folder.train) or (made_of is None and not several):
        return 0
    write_records(folder.train, left)
    return out


def _made_of(folder: RunDir) -> str | None:
    """Hash of the examples of the adapter that is there, if one is."""
    there = folder.adapter_origin.exists()
    return read_object(folder.adapter_origin).get("train_sha256") if there else None


def to_ask(run: RunDir, task: Task, probe: Sequence[Question], val_share: float) -> Asked:
    """Choose the questions of the check-ups, the same ones for all rounds.

    Args:
        run: The first round, trained.
        task: Supplies the kind of answer.
        probe: Labelled questions; without any, questions that the first round was not trained on
            are held against the winners of its vote, which the base made.
        val_share: Of the questions in ``train.jsonl``, what training set apart.
    """
    if probe:
        return Asked(list(probe), "probe")
    votes = list(read_records(run.votes, Vote))
    seen = trained_on(run, val_share)
    winners = {
        v.question_id: v.predicted_answer
        for v in sorted(votes, key=lambda v: -v.posterior)
        if v.predicted_answer is not None and not v.tie and v.question_id not in seen
    }
    texts = {q.id: q for q in read_records(run.questions, Question) if q.id in winners}
    found = [_with(texts[q], winner) for q, winner in winners.items() if q in texts]
    budget = sum(v.num_paths for v in votes) // SHARE // (1 + PATHS)
    fit = [q for q in found if _reads(q, task)][: max(FEWEST, min(MOST, budget))]
    return Asked(fit, "agreement" if fit else "nothing")


def _with(question: Question, winner: str) -> Question:
    return msgspec.structs.replace(question, answer=winner)


def _reads(question: Question, task: Task) -> bool:
    """Whether a winner is read as itself, as a right answer would be."""
    answer = question.answer or ""
    return canonical(answer, task.kind, asked(task, question.question)) == answer


def manner(sample: SampleConfig) -> EvalConfig:
    """How a check-up asks: as the run was sampled, with a stream of its own for all rounds."""
    shared = ("top_k", "top_p", "min_p", "max_tokens", "prompt", *EngineConfig.__struct_fields__)
    return EvalConfig(
        modes=("cot", "sc"),
        paths=PATHS,
        temperature=(sample.temperature,),
        sample_seed=(seed_of(sample.seed, STREAM),),
        **{name: getattr(sample, name) for name in shared},
    )


def figures_of(found: Evaluation, folder: RunDir) -> dict[str, Figures]:
    """Each model's check-up in numbers, by its name, from an evaluation and its answers."""
    return {v.model: _figures(v.model, answers_of(v, folder.eval_dir), found) for v in found.mains}


def _figures(model: str, answers: Sequence[Answer], found: Evaluation) -> Figures:
    said: dict[str, list[Said]] = {q: [] for q in found.gold}
    for a in answers:
        if a.question_id in said:
            route = path_key(a.text)
            said[a.question_id].append(Said(a.predicted_answer, route, a.mode != "sc"))
    return figures(model, said, found.gold)


def told(
    folder: RunDir, number: int, settings: Settings, drawn_by: int, started_from: int
) -> Round:
    """What a round's files say of it, as far as it has come.

    Args:
        folder: Voted on; trained or not.
        number: Of the round.
        settings: It was sampled and trained with.
        drawn_by: The round whose adapter drew its paths; 0: the base.
        started_from: The round whose weights its training began with; 0: the base.
    """
    votes = msgspec.convert(read_object(folder.vote_summary), VoteSummary)
    return Round(
        number=number,
        folder="." if number == 1 else folder.root.name,
        temperature=settings.sample.temperature,
        seed=settings.sample.seed,
        drawn_by=drawn_by,
        started_from=started_from,
        verdict=verdict_of(folder).verdict,
        questions=votes.questions,
        kept_questions=votes.kept_questions,
        kept_paths=votes.kept_paths,
        mean_share=votes.mean_share,
        **_trained(folder),
    )


def _trained(folder: RunDir) -> dict[str, Any]:
    """What is told of a finished adapter."""
    if not folder.adapter_origin.exists():
        return {"trained": False}
    summary = read_object(folder.adapter_origin)["result"]["summary"]
    return {
        "trained": True,
        "scale": chosen_scale(folder.adapter_gguf),
        "first_loss": summary["first_loss"],
        "final_loss": summary["final_loss"],
        "stopped": summary.get("stopped", ""),
    }


def verdict_of(folder: RunDir) -> Verdict:
    """The verdict on a round's vote."""
    return msgspec.convert(read_object(folder.verdict), Verdict)


def tables_of(run: RunDir, results: Sequence[Evaluation]) -> list[RoundsTable]:
    """Base and rounds side by side, per data set; the answers are those of the run folder."""
    return [
        rounds_table(e, {v.model: answers_of(v, run.eval_dir) for v in e.mains}) for e in results
    ]


def ended_by(number: int, gates: Sequence[Gate]) -> str:
    """Why the rounds end after this one; empty if they go on."""
    return next((f"round {number}: {g.text}" for g in gates if g.ends), "")
