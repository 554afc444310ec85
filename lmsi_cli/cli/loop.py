"""`lmsi run`: sample, vote, train and measure in one go, for one or more rounds.

Knows the order of the stages and nothing of their work. Each round is a run folder of its own and
trains the base model anew, so any of it can be looked at or repeated with the single commands.
With no arguments it runs the embedded default.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from lmsi_cli.catalog import Model, find_model
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import Json, Overwrite, Quiet, identity, pick_task, show, watched
from lmsi_cli.config import EvalConfig, RunConfig, SampleConfig, TrainConfig, VoteConfig, resolve
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.records import Progress, Question
from lmsi_cli.rundir import RunDir, discard, locked

Questions = Annotated[
    str | None,
    typer.Argument(help="Questions; without any, those of the embedded model.", show_default=False),
]
Out = Annotated[
    Path | None, typer.Option("-o", "--out", help="The run folder.", show_default="runs/MODEL")
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data", help="Labelled questions to measure on; may be repeated.", show_default=False
    ),
]


class Plan(NamedTuple):
    """The settings of every stage; ``exams`` are labelled sets by name."""

    sample: SampleConfig
    vote: VoteConfig
    train: TrainConfig
    eval: EvalConfig
    questions: Sequence[Question]
    exams: dict[str, Sequence[Question]]


@configured(RunConfig)
def run(
    settings: RunConfig,
    tables: dict[str, dict[str, Any]],
    questions: Questions = None,
    out: Out = None,
    data: Data = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a model improve itself: sample, vote, train, measure.

    Without arguments the embedded model does it on its own questions. Called again, it goes on
    where it stopped.

    Example: lmsi run questions.jsonl -m model.gguf --data test.jsonl -o runs/mine
    """
    from lmsi_cli.report.tables import conclusion, eval_table

    model = find_model(settings.model)
    plan = _plan(settings, tables, model, questions, data)
    root = out or Path("runs") / (model.card.name if model.card else model.path.stem)
    results: list[Any] = []
    with watched(quiet) as progress:
        adapter = ""
        for number in range(1, settings.rounds + 1):
            folder = RunDir(root if number == 1 else root / f"round-{number}")
            results += _round(folder, model, plan, adapter, overwrite, progress)
            adapter = str(folder.adapter_gguf)
    tables_ = [part for r in results for part in (eval_table(r), conclusion(r), "")]
    show(results, json, *tables_)


def _plan(
    settings: RunConfig,
    tables: dict[str, dict[str, Any]],
    model: Model,
    questions: str | None,
    data: list[str] | None,
) -> Plan:
    from lmsi_cli.tasks.readers import read_labelled, read_questions

    own = model.card if questions is None else None
    if questions is None and own is None:
        raise LmsiError("no questions given", hint="lmsi run QUESTIONS -m MODEL")
    folder = model.path.parent
    asked = questions or str(folder / own.questions) if own else str(questions)
    exams = data or ([str(folder / t) for t in own.tests] if own else [])
    speed = {"parallel": settings.parallel, "threads": settings.threads, "seed": settings.seed}
    seed = {"seed": settings.seed}
    return Plan(
        sample=resolve(
            SampleConfig,
            tables.get("sample", {}),
            speed,
            {"model": settings.model, "paths": settings.paths, "limit": settings.limit},
        ),
        vote=resolve(VoteConfig, tables.get("vote", {}), seed),
        train=resolve(TrainConfig, tables.get("train", {}), seed),
        eval=resolve(EvalConfig, tables.get("eval", {}), speed),
        questions=read_questions(asked),
        exams={Path(e).stem: read_labelled(e) for e in exams},
    )


def _round(
    folder: RunDir, model: Model, plan: Plan, adapter: str, overwrite: bool, progress: Progress
) -> list[Any]:
    """One round in one folder; what is done already is not done again."""
    task = pick_task(plan.sample.task, model)
    with locked(folder):
        if overwrite:
            discard(folder)
        _sample(folder, model, task, plan, adapter, progress)
        _learn(folder, model, task, plan, progress)
        return _measure(folder, model, plan, progress)


def _sample(
    folder: RunDir, model: Model, task: Task, plan: Plan, adapter: str, progress: Progress
) -> None:
    from lmsi_cli.engine.engine import LlamaEngine
    from lmsi_cli.stages import sample as stage

    stage.bind(folder, plan.sample, {**identity(model, task), **stage.drawn_by(adapter)})
    with LlamaEngine(model.path, plan.sample) as engine:
        engine.use_adapter(adapter or None)
        stage.sample(plan.questions, engine, task, plan.sample, folder, progress)


def _learn(folder: RunDir, model: Model, task: Task, plan: Plan, progress: Progress) -> None:
    from lmsi_cli.report.tables import kept_line
    from lmsi_cli.stages.train import train_run
    from lmsi_cli.stages.vote import vote_run

    summary = vote_run(folder, task, plan.vote)
    progress.say(kept_line(summary))
    train_run(folder, model.path, task, plan.train, progress)


def _measure(folder: RunDir, model: Model, plan: Plan, progress: Progress) -> list[Any]:
    from lmsi_cli.engine.engine import LlamaEngine
    from lmsi_cli.stages.evaluate import Exam, evaluate, variants_of

    task = pick_task(plan.eval.task, model)
    with LlamaEngine(model.path, plan.eval) as engine:
        return [
            evaluate(
                Exam(name, questions[: plan.eval.limit or None], task, plan.eval),
                variants_of(folder, model.path),
                engine,
                folder,
                progress,
            )
            for name, questions in plan.exams.items()
        ]
