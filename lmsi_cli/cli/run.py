"""`lmsi run`: sample, vote, train and measure in one go, for one or more rounds.

Turns the command line into a plan and shows the results; the rounds are in ``stages/rounds.py``.
Without arguments it runs the embedded model on its own questions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmsi_cli.cli.options import Tables, configured
from lmsi_cli.cli.session import Json, Overwrite, files_of, show, watched
from lmsi_cli.config import EvalConfig, RunConfig, SampleConfig, TrainConfig, VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.run_folder import RunDir
from lmsi_cli.settings import Settings, resolve
from lmsi_cli.tasks.readers import read_questions

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.records import Progress
    from lmsi_cli.stages.rounds import Outcome, Plan

Questions = Annotated[
    str | None, typer.Argument(help="Questions; not given: those of the embedded model.")
]
Out = Annotated[
    Path | None, typer.Option("-o", "--out", help="The run folder.", show_default="runs/MODEL")
]
Data = Annotated[
    list[str] | None, typer.Option(help="Labelled questions to measure on; may be repeated.")
]
Probe = Annotated[
    str | None,
    typer.Option(
        help="A file of some of the questions with an answer each, for the verdict and the choice "
        "of a round; never for training."
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Go on whatever the verdict, alarms and check-ups say, and even if --data holds the "
        "same questions.",
    ),
]


@configured(RunConfig)
def run(  # noqa: PLR0913 - one parameter per flag
    settings: RunConfig,
    tables: Tables,
    questions: Questions = None,
    out: Out = None,
    data: Data = None,
    probe: Probe = None,
    overwrite: Overwrite = False,
    force: Force = False,
    json: Json = False,
    quiet: bool = False,
) -> None:
    """Let a model improve itself: sample, vote, train, measure.

    Without arguments, the embedded model runs on its own questions. The same command continues
    where it stopped. If the verdict after the vote is "do not train", it ends with exit code 1,
    unless --force is given. With several rounds it also ends if a round is worse than the one
    before, by the probe or by signs of collapse; the earlier rounds are kept.

    Settings of its steps go by name: --set sample.prompt=boxed, --set eval.modes=cot.

    Example: lmsi run questions.jsonl -m model.gguf --data test.jsonl -o runs/mine
    """
    from lmsi_cli.stages.rounds import run_rounds
    from lmsi_cli.stages.train import check_training
    from lmsi_cli.training.devices import check_packages

    check_packages()
    with watched(quiet, None) as progress:
        plan = _plan(settings, tables, questions, data, probe, progress)._replace(force=force)
    _check(plan)
    model = plan.model
    root = RunDir(out or Path("runs") / (model.card.name if model.card else model.path.stem))
    if overwrite or not root.has_paths():
        with watched(quiet, None) as progress:
            check_training(model.path, plan.settings.train, progress)
    with watched(quiet, root) as progress:
        done = run_rounds(plan, root, overwrite, progress)
    _show(root, done, json)


def _show(root: RunDir, done: Outcome, json: bool) -> None:
    """Show the measurements; for several rounds, also what each one did and why they ended."""
    from lmsi_cli.engine.checks import skipped_error
    from lmsi_cli.reporting.evaluation import eval_parts
    from lmsi_cli.reporting.sections import round_changes, rounds_section

    parts = [part for e in done.results for part in eval_parts(e)]
    if done.rounds.asked == 1:
        show(done.results, json, *parts)
    else:
        changes = {e.data: round_changes(e) for e in done.results}
        fields = {"rounds": done.rounds, "changes": changes, "evaluations": done.results}
        show(fields, json, *parts, rounds_section(done.rounds, done.results))
    if done.rounds.ended:
        best, made = done.rounds.best, len(done.rounds.rounds)
        kept = f"round {best.number} is kept; " if best else ""
        raise LmsiError(
            f"{root.root}: {made} of {done.rounds.asked} rounds: {done.rounds.ended}",
            hint=f"{kept}`lmsi report {root.typed}` has all rounds; --force goes on all the same",
        )
    if done.skipped:
        raise skipped_error(done.skipped, done.asked)


def _plan(
    settings: RunConfig,
    tables: Tables,
    questions: str | None,
    data: list[str] | None,
    probe: str | None,
    progress: Progress,
) -> Plan:
    """Read all files and settle all settings before a model is loaded."""
    from lmsi_cli.stages.measure import labelled_sets
    from lmsi_cli.stages.pipeline import here, job_of
    from lmsi_cli.stages.rounds import Plan
    from lmsi_cli.tasks.readers import read_labelled

    if (given := len(settings.round_temperature)) > settings.rounds:
        message = f"--set round_temperature: {given} temperatures for {settings.rounds} rounds"
        raise LmsiError(message, hint="give one per round at most; the last one goes on")
    seed = {"seed": settings.seed}
    speed = {**seed, "threads": settings.threads, "gpu_layers": settings.gpu_layers}
    asked = {name: getattr(settings, name) for name in ("model", "paths", "limit")}
    sample = here(resolve(SampleConfig, tables.get("sample", {}), speed, asked), "run")
    here(resolve(SampleConfig, {"engine": tables.get("eval", {}).get("engine")}), "run")
    source, tests = files_of(questions, sample.model, "lmsi run QUESTIONS -m MODEL")
    exams, known = labelled_sets(data or tests), read_labelled(probe) if probe else ()
    job = job_of(sample, read_questions(source), questions or "", progress)
    assert job.model is not None  # ``here`` refuses servers
    return Plan(
        model=job.model,
        task=job.task,
        options=settings,
        settings=Settings(
            sample,
            resolve(VoteConfig, tables.get("vote", {}), seed),
            resolve(TrainConfig, tables.get("train", {}), seed),
        ),
        eval=resolve(EvalConfig, tables.get("eval", {}), speed),
        questions=job.questions,
        exams=exams,
        probe=known,
    )


def _check(plan: Plan) -> None:
    """Refuse questions that overlap or do not fit their task, before hours are spent on them.

    The probe is checked here, too, rather than after an hour of sampling.
    """
    from lmsi_cli.contamination import check_apart
    from lmsi_cli.stages.rounds import examination
    from lmsi_cli.stages.vote import check_probe
    from lmsi_cli.tasks.loader import gold_answers

    asked = plan.questions
    if plan.probe:
        check_apart(plan.probe, plan.exams, "probe")
        check_probe(plan.probe, asked, "the questions")
    check_apart(asked, plan.excluded)
    gold_answers(plan.probe, plan.task)
    for questions in plan.exams.values():
        gold_answers(questions[: plan.eval.limit or None], examination(plan)[0])
