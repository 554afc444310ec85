"""Between training and use: how strongly the adapter should act, asked of questions it never saw.

Questions that were trained on would flatter strong adapters, so only others are asked. Where
labels are known an answer must be right, else it must agree with the vote's winner. Scale 1 stays
unless another one is better beyond chance. Cost is bounded by counts, never by a clock, so the
same run makes the same choice. What lands in ``adapter/lmsi.json`` under ``scale``:

    {"chosen": 1.0, "marks": "vote", "why": "no scale is better than 1 beyond chance",
     "questions": 32, "answers": 640, "seconds": 41.0,
     "tried": [{"scale": 0.25, "agreement": 0.52, "change": {"difference": -0.04, ...}}, ...]}
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import EngineConfig, SampleConfig, SamplingConfig, TrainConfig
from lmsi_cli.engine.base import Engine, Request, Wanted, draw, path_seed
from lmsi_cli.engine.context_check import split
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.parse_output import to_path, to_requests
from lmsi_cli.jsonl import read_object, read_records
from lmsi_cli.prompts import Task
from lmsi_cli.records import Paired, Progress, Question, Record, Vote
from lmsi_cli.run_folder import SCALE, RunDir
from lmsi_cli.stats import paired
from lmsi_cli.tasks.golds import gold_answers
from lmsi_cli.training import examples

SCALES = (0.25, 0.5, 0.75, 1.0, 1.25)
PATHS = 3  # sampled answers a question besides the greedy one, if the cost allows
MOST, FEWEST = 40, 20  # questions; with fewer, no difference that is worth choosing by would show
SHARE = 10  # the sweep draws at most one answer for so many paths of the run
LEVEL = 0.05 / (len(SCALES) - 1)  # every other scale is compared with 1: Bonferroni's bound
STREAM = "scale"  # other random numbers than the paths', which made the vote


class Tried(Record, frozen=True, kw_only=True):
    """One scale: the share of answers that are marked right, and the change from scale 1."""

    scale: float
    agreement: float
    change: Paired | None = None


class Sweep(Record, frozen=True, kw_only=True):
    """What was tried and chosen; ``marks`` says what an answer was held against."""

    chosen: float
    marks: Literal["labels", "vote", "nothing"]
    why: str
    questions: int = 0
    answers: int = 0
    seconds: float = 0.0
    tried: tuple[Tried, ...] = ()


class Asked(NamedTuple):
    """Questions and what their answers should be; ``paths`` sampled answers to each."""

    questions: list[Question]
    wanted: dict[str, str]
    paths: int
    marks: Literal["labels", "vote"]


def choose_scale(
    run: RunDir,
    model: Path,
    task: Task,
    settings: TrainConfig,
    labelled: Sequence[Question],
    progress: Progress,
) -> Sweep | None:
    """Try adapter scales once, if that is wished; None if it is not.

    Args:
        run: Held by the caller (``locked``); with a finished adapter.
        model: The base.
        task: As the run was sampled.
        settings: Of the training.
        labelled: A probe, if there is one.
        progress: Is told of every answer.
    """
    if not settings.sweep:
        return None
    if done := finished(run):
        return done
    asked = candidates(run, task, labelled, settings.val_share, settings.loss)
    if len(asked.questions) < FEWEST:
        return too_few(run, len(asked.questions))
    with LlamaEngine(model, EngineConfig()) as engine:
        return sweep(run, task, asked, engine, progress)


def finished(run: RunDir) -> Sweep | None:
    """The sweep of the adapter that is there, if one was made."""
    told = read_object(run.adapter_origin).get(SCALE) if run.adapter_origin.exists() else None
    return msgspec.convert(told, Sweep) if told and told.get("tried") else None


def candidates(
    run: RunDir,
    task: Task,
    labelled: Sequence[Question],
    val_share: float = 0.0,
    loss: str = "sft",
) -> Asked:
    """Choose what to ask: questions that were not trained on, labelled ones if there are enough.

    Args:
        run: With votes and training examples.
        task: Supplies the kind of answer.
        labelled: A probe; questions of it that were trained on are left out.
        val_share: Of the questions in ``train.jsonl``, what training set apart.
        loss: Of the training; one on pairs sees the questions of these.
    """
    sides = examples.split(examples.read(run, loss), val_share)
    trained, unseen = ({e.question_id for e in side} for side in sides)
    apart = [q for q in labelled if q.id not in trained]
    votes = [v for v in read_records(run.votes, Vote)] if run.votes.exists() else []
    budget = sum(v.num_paths for v in votes) // SHARE
    if len(apart) >= FEWEST:
        return _sized(apart, gold_answers(apart, task), budget, "labels")
    winners = {
        v.question_id: v.predicted_answer
        for v in sorted(votes, key=lambda v: (v.question_id not in unseen, -v.posterior))
        if v.predicted_answer is not None and not v.tie and v.question_id not in trained
    }
    texts = {q.id: q for q in read_records(run.questions, Question) if q.id in winners}
    ordered = [texts[question_id] for question_id in winners if question_id in texts]
    return _sized(ordered, winners, budget, "vote")


def _sized(
    questions: list[Question], wanted: dict[str, str], budget: int, marks: Literal["labels", "vote"]
) -> Asked:
    """As many questions and paths as a tenth of the run's paths allows, questions first."""
    each = next((n for n in range(PATHS, -1, -1) if budget // (len(SCALES) * (1 + n)) >= FEWEST), 0)
    most = min(MOST, budget // (len(SCALES) * (1 + each)))
    return Asked(questions[:most], wanted, each, marks)


def sweep(run: RunDir, task: Task, asked: Asked, engine: Engine, progress: Progress) -> Sweep:
    """Try every scale on the same questions with the same random numbers, and write the choice.

    Args:
        run: Held by the caller (``locked``); with a finished adapter.
        task: As the run was sampled.
        asked: From ``candidates``.
        engine: The loaded base.
        progress: Is told of every answer.

    Raises:
        LmsiError: The adapter does not load, or the result cannot be written.
    """
    sitting = _Sitting(run, task, asked, engine)
    if len(sitting.asked.questions) < FEWEST:
        return too_few(run, len(sitting.asked.questions))
    began, marks = time.monotonic(), dict[float, list[float]]()
    progress.start("trying adapter scales", sitting.answers)
    for scale in SCALES:
        engine.use_adapter(str(run.adapter_gguf), scale)
        marks[scale] = sitting.marks(progress)
    result = _chosen(marks, sitting, time.monotonic() - began)
    progress.say(f"adapter scale {result.chosen:g}: {result.why}")
    return _kept(run, result)


def too_few(run: RunDir, n: int) -> Sweep:
    """Write down that there is nothing to choose by."""
    why = f"{n} questions that were not trained on are too few to choose by ({FEWEST} are needed)"
    return _kept(run, Sweep(chosen=1.0, marks="nothing", why=why, questions=n))


def _kept(run: RunDir, result: Sweep) -> Sweep:
    told = {**read_object(run.adapter_origin), SCALE: msgspec.to_builtins(result)}
    write_atomic(run.adapter_origin, msgspec.json.format(msgspec.json.encode(told, order="sorted")))
    return result


def _as_sampled(run: RunDir) -> SampleConfig:
    """How the run's paths were drawn, without what was chosen for the speed of a larger job."""
    saved = run.load_settings().get("sample", {})
    names = ("temperature", "top_k", "top_p", "min_p", "max_tokens", "seed", "threads")
    return msgspec.convert({n: saved[n] for n in names if n in saved}, SampleConfig)


class _Sitting:
    """The same questions, asked again for every scale."""

    def __init__(self, run: RunDir, task: Task, asked: Asked, engine: Engine) -> None:
        self.task, self.engine, self.config = task, engine, _as_sampled(run)
        self.done = 0
        one = (Wanted(0, 0),)
        requests = self._requests(asked.questions, lambda _: one)
        fitting = split(requests, self.config.max_tokens, engine.info.context).fitting
        fits = {r.question_id for r in fitting}
        self.asked = asked._replace(questions=[q for q in asked.questions if q.id in fits])

    @property
    def answers(self) -> int:
        """How many are drawn over all scales."""
        return len(SCALES) * len(self.asked.questions) * (1 + self.asked.paths)

    def marks(self, progress: Progress) -> list[float]:
        """Per question the share of its answers, greedy and sampled, that are as wanted."""
        right = dict.fromkeys((q.id for q in self.asked.questions), 0)
        words = {q.id: q.question for q in self.asked.questions}
        for requests, config in self._passes():
            for generated in draw(self.engine, requests, config, self.task.trigger):
                path = to_path(generated, self.task, words[generated.question_id])
                as_wanted = path.predicted_answer == self.asked.wanted[path.question_id]
                right[path.question_id] += as_wanted
                self.done += 1
                progress.advance(self.done)
        return [n / (1 + self.asked.paths) for n in right.values()]

    def _passes(self) -> Iterator[tuple[list[Request], SamplingConfig]]:
        """The greedy answers, then the sampled ones if any are asked for."""
        for paths, temperature in ((1, 0.0), (self.asked.paths, self.config.temperature)):
            if paths:
                requests = self._requests(self.asked.questions, partial(self._wanted, paths=paths))
                yield requests, msgspec.structs.replace(self.config, temperature=temperature)

    def _requests(
        self, questions: Sequence[Question], wanted: Callable[[Question], tuple[Wanted, ...]]
    ) -> list[Request]:
        form, longest = self.task.format, self.config.max_tokens
        asked = (
            to_requests(self.engine, self.task, q, form, wanted(q), longest) for q in questions
        )
        return [r for requests in asked for r in requests]

    def _wanted(self, q: Question, paths: int) -> tuple[Wanted, ...]:
        seed = self.config.seed
        return tuple(Wanted(i, path_seed(seed, f"{STREAM} {q.id}", i)) for i in range(paths))


def _chosen(marks: dict[float, list[float]], sitting: _Sitting, seconds: float) -> Sweep:
    """Scale 1, unless another is better at ``LEVEL``; of several the best."""
    tried = [
        Tried(
            scale=scale,
            agreement=sum(m) / len(m),
            change=None if scale == 1.0 else paired(marks[1.0], m),
        )
        for scale, m in marks.items()
    ]
    better = [t for t in tried if t.change and t.change.difference > 0 and t.change.p_value < LEVEL]
    best = max(better, key=lambda t: t.agreement, default=None)
    why = "no scale is better than 1 beyond chance"
    if best and best.change:
        why = f"{best.change.difference:+.1%} against scale 1 (p {best.change.p_value:.2g})"
    return Sweep(
        chosen=best.scale if best else 1.0,
        marks=sitting.asked.marks,
        why=why,
        questions=len(sitting.asked.questions),
        answers=sitting.answers,
        seconds=seconds,
        tried=tuple(tried),
    )
