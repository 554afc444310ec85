"""`lmsi run`: sample, vote, train and measure in one go, for one or more rounds.

Reads the command line into a plan and shows what came of it; the rounds are in ``rounds.py``.
With no arguments it runs the embedded default.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsi_cli.catalog import find_model
from lmsi_cli.cli.asking import pick_task
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.rounds import Plan, examination, run_rounds
from lmsi_cli.cli.session import (
    Force,
    Json,
    Overwrite,
    Quiet,
    labelled_sets,
    questions_in,
    show,
    watched,
)
from lmsi_cli.cli.vote import Probe
from lmsi_cli.config import EvalConfig, RunConfig, SampleConfig, TrainConfig, VoteConfig
from lmsi_cli.contamination import check_apart, check_probe_apart
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question
from lmsi_cli.rounds.settings import Settings, check
from lmsi_cli.run_folder import RunDir
from lmsi_cli.settings import resolve

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.cli.rounds import Outcome

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
    1) unless --force is given; of several rounds, the ones before stay. They also end where a
    round is worse than the one before, by the probe or by signs of collapse.

    Example: lmsi run questions.jsonl -m model.gguf --data test.jsonl -o runs/mine
    """
    check(settings)
    plan = _plan(settings, tables, questions, data)._replace(force=force)
    plan = plan._replace(probe=_probe(probe, plan), excluded={} if force else plan.excluded)
    check_apart(_asked_of(plan), plan.excluded)
    _check(plan)
    model = plan.model
    root = RunDir(out or Path("runs") / (model.card.name if model.card else model.path.stem))
    with watched(quiet, root) as progress:
        done = run_rounds(plan, root, overwrite, progress)
    _show(root, done, json)


def _show(root: RunDir, done: Outcome, json: bool) -> None:
    """The measurements; of several rounds also what each one did, and why there are no more."""
    from lmsi_cli.engine.context_check import skipped_error
    from lmsi_cli.report.evaluation import eval_parts
    from lmsi_cli.report.rounds import rounds_section
    from lmsi_cli.stages.rounds import tables_of

    parts = [part for e in done.results for part in eval_parts(e)]
    if done.rounds.asked == 1:
        show(done.results, json, *parts)
    else:
        tables = tables_of(root, done.results)
        told = {"rounds": done.rounds, "tables": tables, "evaluations": done.results}
        show(told, json, *parts, rounds_section(done.rounds, tables))
    if done.rounds.ended:
        raise _ended(root, done)
    if done.skipped:
        raise skipped_error(done.skipped, done.asked)


def _ended(root: RunDir, done: Outcome) -> LmsiError:
    best, made = done.rounds.best, len(done.rounds.rounds)
    kept = f"round {best.number} is kept; " if best else ""
    return LmsiError(
        f"{root.root}: {made} of {done.rounds.asked} rounds: {done.rounds.ended}",
        hint=f"{kept}`lmsi report {shlex.quote(str(root.root))}` has all rounds; "
        "--force goes on all the same",
    )


def _asked_of(plan: Plan) -> Sequence[Question]:
    """The questions that are sampled."""
    return plan.questions[: plan.settings.sample.limit or None]


def _plan(
    settings: RunConfig,
    tables: dict[str, dict[str, Any]],
    questions: str | None,
    data: list[str] | None,
) -> Plan:
    names = ("parallel", "threads", "gpu_layers", "seed")
    speed = {name: getattr(settings, name) for name in names}
    asked = {
        name: getattr(settings, name)
        for name in ("model", "paths", "limit", "stop", "template_var")
    }
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
        task=pick_task(sample.task, model, str(questions or "")),
        options=settings,
        settings=Settings(
            sample,
            resolve(VoteConfig, tables.get("vote", {}), seed),
            resolve(TrainConfig, tables.get("train", {}), seed),
        ),
        eval=resolve(EvalConfig, tables.get("eval", {}), speed),
        questions=questions_in(str(folder / own.questions) if own else str(questions)),
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
    check_probe_apart(probe, plan.exams)
    check_probe(probe, _asked_of(plan), "the questions")
    return probe


def _check(plan: Plan) -> None:
    """Refuse questions that do not fit their task, before hours are spent on them."""
    from lmsi_cli.tasks.golds import check_options, gold_answers

    check_options(_asked_of(plan), plan.task)
    gold_answers(plan.probe, plan.task)
    for questions in plan.exams.values():
        gold_answers(questions[: plan.eval.limit or None], examination(plan)[0])
