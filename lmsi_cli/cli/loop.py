"""`lmsi run`: sample, vote, train and measure in one go, for one or more rounds.

Knows the order of the stages and nothing of their work. Each round is a run folder of its own and
trains the base model anew, so any of it can be looked at or repeated with the single commands.
With no arguments it runs the embedded default.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from lmsi_cli.catalog import Model, find_model
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import (
    Force,
    Json,
    Overwrite,
    Quiet,
    about,
    conversing,
    examined,
    identity,
    labelled_sets,
    pick_task,
    show,
    watched,
)
from lmsi_cli.cli.train import choose_scale
from lmsi_cli.cli.vote import Probe
from lmsi_cli.config import (
    DEFAULT_TASK,
    EvalConfig,
    RunConfig,
    SampleConfig,
    TrainConfig,
    VoteConfig,
)
from lmsi_cli.contamination import check_apart
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Chat, Task
from lmsi_cli.records import Progress, Question
from lmsi_cli.rundir import RunDir, discard, locked
from lmsi_cli.settings import resolve
from lmsi_cli.tasks.loader import load_task

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.report.results import Evaluation
    from lmsi_cli.stages.sample import SampleSummary

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
    """What every stage needs; ``exams`` are labelled sets by name, ``probe`` is for the verdict.

    Questions of the ``excluded`` ones must not be trained on.
    """

    model: Model
    task: Task
    sample: SampleConfig
    vote: VoteConfig
    train: TrainConfig
    eval: EvalConfig
    questions: Sequence[Question]
    exams: dict[str, Sequence[Question]]
    excluded: dict[str, Sequence[Question]]
    probe: Sequence[Question]
    force: bool


@configured(RunConfig)
def run(  # noqa: PLR0913 - one parameter per flag
    settings: RunConfig,
    tables: dict[str, dict[str, Any]],
    questions: Questions = None,
    out: Out = None,
    data: Data = None,
    probe: Probe = None,
    overwrite: Overwrite = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a model improve itself: sample, vote, train, measure.

    Without arguments the embedded model does it on its own questions. Called again, it goes on
    where it stopped. Where the verdict after the vote is "do not train", it ends there (exit code
    1) unless --force is given.

    Example: lmsi run questions.jsonl -m model.gguf --data test.jsonl -o runs/mine
    """
    from lmsi_cli.engine.fitting import skipped_error
    from lmsi_cli.report.before_after import eval_tables

    plan = _plan(settings, tables, questions, data)._replace(force=force)
    plan = plan._replace(probe=_probe(probe, plan), excluded={} if force else plan.excluded)
    check_apart(plan.questions[: plan.sample.limit or None], plan.excluded)
    _check(plan)
    model = plan.model
    root = out or Path("runs") / (model.card.name if model.card else model.path.stem)
    results: list[Any] = []
    asked = skipped = 0
    with watched(quiet, RunDir(root)) as progress:
        adapter = ""
        for number in range(1, settings.rounds + 1):
            folder = RunDir(root if number == 1 else root / f"round-{number}")
            drawn, measured = _round(folder, plan, adapter, overwrite, progress)
            results += measured
            asked += drawn.questions + sum(c.n for c in measured)
            skipped += len(drawn.skipped) + sum(len(c.skipped) for c in measured)
            adapter = str(folder.adapter_gguf)
    tables_ = [part for r in results for part in eval_tables(r)]
    show(results, json, *tables_)
    if skipped:
        raise skipped_error(skipped, asked)


def _plan(
    settings: RunConfig,
    tables: dict[str, dict[str, Any]],
    questions: str | None,
    data: list[str] | None,
) -> Plan:
    from lmsi_cli.tasks.readers import read_questions

    names = ("parallel", "threads", "gpu_layers", "seed")
    speed = {name: getattr(settings, name) for name in names}
    asked = {name: getattr(settings, name) for name in ("model", "paths", "limit", "stop")}
    asked["chat"] = None if settings.chat == "auto" else settings.chat
    sample = resolve(SampleConfig, tables.get("sample", {}), speed, asked)
    if "openai" in (sample.engine, tables.get("eval", {}).get("engine")):
        raise LmsiError(
            "lmsi run trains the model that it samples, so llama.cpp has to draw its paths",
            hint="take `engine` out of the config file; `lmsi sample` and `lmsi eval` know servers",
        )
    model = find_model(sample.model)
    own = model.card if questions is None else None
    if questions is None and own is None:
        raise LmsiError("no questions given", hint="lmsi run QUESTIONS -m MODEL")
    folder = model.path.parent
    exams = labelled_sets(data or ([str(folder / t) for t in own.tests] if own else []))
    seed = {"seed": settings.seed}
    return Plan(
        model=model,
        task=_asked(pick_task(sample.task, model, str(questions or "")), model, sample),
        sample=sample,
        vote=resolve(VoteConfig, tables.get("vote", {}), seed),
        train=resolve(TrainConfig, tables.get("train", {}), seed),
        eval=resolve(EvalConfig, tables.get("eval", {}), speed),
        questions=read_questions(str(folder / own.questions) if own else str(questions)),
        exams=exams,
        excluded=exams,
        probe=(),
        force=False,
    )


def _probe(file: str | None, plan: Plan) -> Sequence[Question]:
    """Read the probe; whether it fits is known before an hour of sampling, not after."""
    from lmsi_cli.stages.verdict import check_probe
    from lmsi_cli.tasks.readers import read_labelled

    if file is None:
        return ()
    probe = read_labelled(file)
    check_probe(probe, plan.questions[: plan.sample.limit or None], "the questions")
    return probe


def _asked(task: Task, model: Model, settings: SampleConfig) -> Task:
    """The task in the form that the model is asked in; loads the vocabulary alone."""
    from lmsi_cli.engine.encode import Encoder, choose
    from lmsi_cli.engine.llama import vocabulary

    with vocabulary(model.path) as words:
        return conversing(task, choose(settings.chat, Encoder(words)), settings)


def _round(
    folder: RunDir, plan: Plan, adapter: str, overwrite: bool, progress: Progress
) -> tuple[SampleSummary, list[Evaluation]]:
    """One round in one folder; what is done already is not done again."""
    with locked(folder):
        drawn = _sample(folder, plan, adapter, overwrite, progress)
        _learn(folder, plan, progress)
        return drawn, _measure(folder, plan, progress)


def _sample(
    folder: RunDir, plan: Plan, adapter: str, overwrite: bool, progress: Progress
) -> SampleSummary:
    from lmsi_cli.engine.engine import LlamaEngine
    from lmsi_cli.stages import sample as stage

    begun = plan.sample if overwrite else stage.as_begun(folder, plan.sample)
    with LlamaEngine(plan.model.path, begun) as engine:
        stage.put_on(engine, adapter)
        drawn_by = stage.drawn_by(adapter, plan.model.path)
        if overwrite:  # only now: a model that does not load must not cost the old run
            discard(folder)
        stage.bind(folder, plan.sample, {**identity(plan.model, plan.task), **drawn_by})
        return stage.sample(plan.questions, engine, plan.task, plan.sample, folder, progress)


def _learn(folder: RunDir, plan: Plan, progress: Progress) -> None:
    from lmsi_cli.report.tables import kept_line
    from lmsi_cli.report.verdict import verdict_line
    from lmsi_cli.stages.train import train_run
    from lmsi_cli.stages.verdict import conclude, observer_of, permit
    from lmsi_cli.stages.vote import nothing_kept, vote_run

    observer = observer_of(folder, plan.task, plan.probe)
    summary = vote_run(
        folder, plan.task, plan.vote, plan.excluded, observer.gold, observer.observe, progress
    )
    progress.say(kept_line(summary))
    for warning in summary.warnings:
        progress.say(f"warning: {warning}")
    progress.say(verdict_line(conclude(folder, observer)))
    if nothing := nothing_kept(folder, summary):
        raise nothing
    if not plan.force:
        permit(folder, "lmsi run ... --force")
    train_run(folder, plan.model.path, plan.task, plan.train, progress)
    choose_scale(folder, plan.model.path, plan.task, plan.train, plan.probe, progress)


def _exam_task(plan: Plan) -> Task:
    """The task as the labelled sets are asked it."""
    task = plan.task
    if plan.eval.task != DEFAULT_TASK:
        task = msgspec.structs.replace(load_task(plan.eval.task), chat=task.chat)
    chat = Chat(few_shot=plan.sample.few_shot, system=plan.sample.system)
    return examined(task, chat, plan.eval)


def _check(plan: Plan) -> None:
    """Refuse questions that do not fit their task, before hours are spent on them."""
    from lmsi_cli.tasks.golds import check_options, gold_answers
    from lmsi_cli.training.lora import refuse_dora

    refuse_dora(plan.train)
    check_options(plan.questions[: plan.sample.limit or None], plan.task)
    for questions in plan.exams.values():
        gold_answers(questions[: plan.eval.limit or None], _exam_task(plan))


def _measure(folder: RunDir, plan: Plan, progress: Progress) -> list[Evaluation]:
    from lmsi_cli.engine.engine import LlamaEngine
    from lmsi_cli.stages.evaluate import Exam, evaluate, variants_of

    if not plan.exams:
        progress.say(f"nothing measured; lmsi eval {folder.root} --data FILE does it")
        return []
    task = _exam_task(plan)
    variants = variants_of(folder, plan.model.path, scales=plan.eval.scale)
    exams = [Exam(name, questions, task, plan.eval) for name, questions in plan.exams.items()]
    with LlamaEngine(plan.model.path, plan.eval) as engine:
        return evaluate(exams, variants, engine, folder, progress, about(plan.model, engine))
