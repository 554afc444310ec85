"""`lmsi eval`: a run's adapter and labelled questions in, before/after tables out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmsi_cli.cli.asking import examined, sample_config, task_of
from lmsi_cli.cli.console import err
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import (
    Json,
    Quiet,
    RunFolder,
    about,
    chosen_round,
    labelled_sets,
    model_of,
    show,
    watched,
)
from lmsi_cli.config import DEFAULT_TASK, EvalConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.run_folder import RunDir, locked, open_run

if TYPE_CHECKING:
    from lmsi_cli.report.results import Evaluation
    from lmsi_cli.stages.evaluate import Exam, Variant

NO_GAIN = 3
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        help="Labelled questions: JSONL or CSV with answers, or SET:FILE; may be repeated.",
        show_default=False,
    ),
]
Adapters = Annotated[
    list[Path] | None,
    typer.Option(
        "--adapter",
        help="One more GGUF adapter, or a run folder with one; may be repeated.",
        show_default=False,
    ),
]
RequireGain = Annotated[
    bool,
    typer.Option("--require-gain", help="Exit code 3 unless the first mode is clearly better."),
]
AllowOverlap = Annotated[
    bool, typer.Option("--allow-overlap", help="Measure on questions that were trained on.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show what the sets could show, and the cost; no more."),
]
Import = Annotated[
    str | None,
    typer.Option(
        "--import",
        help="Read a samples_*.jsonl of lm-evaluation-harness instead; SET:FILE as for --data.",
        show_default=False,
    ),
]


@configured(EvalConfig)
def evaluate(  # noqa: PLR0913 - one parameter per flag
    run: RunFolder,
    settings: EvalConfig,
    data: Data = None,
    adapter: Adapters = None,
    require_gain: RequireGain = False,
    allow_overlap: AllowOverlap = False,
    dry_run: DryRun = False,
    imported: Import = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the model before and after, on the same questions.

    Of a run of several rounds, the adapter of the round that is kept; --adapter adds others.

    The first mode decides. --require-gain asks for a significant gain (p below 0.05, by Holm over
    all data sets and adapters) on at least one data set, and no significant loss on any.

    Example: lmsi eval runs/first --data test.jsonl --data gsm8k:gsm8k.jsonl --modes cot,sc
    """
    from lmsi_cli.cli.serving import measure_there, refuse_local, refuse_served
    from lmsi_cli.engine.context_check import skipped_error, unfinished_error

    folder = open_run(run)
    if imported is not None:
        from lmsi_cli.cli.importing import import_samples

        import_samples(folder, imported, settings, json)
        return
    if settings.engine == "openai":
        refuse_local(settings, adapter, dry_run, require_gain)
        _told(measure_there(folder, _exams(folder, data or [], settings), settings, quiet), json,
              require_gain, unfinished_error)  # fmt: skip
        return
    refuse_served(settings)
    job = _Job(folder, settings, data or [], adapter or [], allow_overlap)
    if require_gain and len(job.variants) == 1:
        raise LmsiError(f"{folder.root}: no adapter to require a gain of", hint="`lmsi train` it")
    if dry_run:
        job.preview(json)
        return
    _told(job.measure(quiet), json, require_gain, skipped_error)


class _Job:
    """What is to be measured; made before a model is loaded, so that mistakes cost nothing."""

    def __init__(
        self,
        folder: RunDir,
        settings: EvalConfig,
        data: Sequence[str],
        adapters: Sequence[Path],
        allow_overlap: bool,
    ) -> None:
        from lmsi_cli.engine.pinned_settings import same_file
        from lmsi_cli.stages.evaluate import variants_of

        settings = same_file(folder, settings)
        self.folder, self.settings, self.model = folder, settings, model_of(folder)
        self.exams = _exams(folder, data, settings)
        files = [_adapter_file(a) for a in adapters]
        chosen_round(folder)
        self.variants: list[Variant] = variants_of(folder, self.model.path, files, settings.scale)
        if not allow_overlap:
            _check_overlap(self.variants, self.exams)

    def measure(self, quiet: bool) -> list[Evaluation]:
        """Ask the questions that have no answer yet."""
        from lmsi_cli.engine.engine import LlamaEngine
        from lmsi_cli.stages.evaluate import evaluate as examine

        with (
            locked(self.folder),
            LlamaEngine(self.model.path, self.settings) as engine,
            watched(quiet, self.folder) as progress,
        ):
            told = about(self.model, engine)
            return examine(self.exams, self.variants, engine, self.folder, progress, told)

    def preview(self, json: bool) -> None:
        """Show what would be asked, what it could show and what it would cost."""
        from lmsi_cli.cli.planning import plan, plan_sheet
        from lmsi_cli.engine.engine import LlamaEngine

        with LlamaEngine(self.model.path, self.settings) as engine:
            plans = [plan(exam, len(self.variants), engine) for exam in self.exams]
        show(plans, json, *map(plan_sheet, plans))


def _exams(folder: RunDir, data: Sequence[str], settings: EvalConfig) -> list[Exam]:
    from lmsi_cli.stages.evaluate import Exam
    from lmsi_cli.tasks.golds import gold_answers
    from lmsi_cli.tasks.readers import set_name

    if not data:
        raise LmsiError("no questions to measure on", hint="give --data FILE")
    sets, sample = labelled_sets(data), sample_config(folder)
    found = [
        Exam(name, sets[name], *examined(_task(folder, source, settings.task), sample, settings))
        for source, name in zip(data, map(set_name, data), strict=True)
    ]
    for exam in found:
        gold_answers(exam.asked, exam.task)
    return found


def _adapter_file(given: Path) -> Path:
    """A GGUF adapter, or that of a run folder."""
    file = RunDir(given).adapter_gguf if given.is_dir() else given
    if not file.is_file():
        raise LmsiError(f"{file}: no such adapter", hint="give a GGUF adapter or a run folder")
    return file


def _check_overlap(variants: Sequence[Variant], exams: Sequence[Exam]) -> None:
    """Refuse to measure on what an adapter's run was trained on."""
    from lmsi_cli.contamination import check_measured
    from lmsi_cli.tasks.readers import trained_on

    asked = {exam.name: exam.asked for exam in exams}
    for file in dict.fromkeys(v.adapter for v in variants if v.adapter):
        check_measured(trained_on(Path(file)), asked)


def _told(
    results: Sequence[Evaluation],
    json: bool,
    require_gain: bool,
    error: Callable[[int, int], LmsiError],
) -> None:
    """Show what was measured, and end as the figures ask for."""
    from lmsi_cli.report.evaluation import eval_parts

    show(list(results), json, *(part for r in results for part in eval_parts(r)))
    skipped = sum(len(r.skipped) for r in results)
    if skipped:
        raise error(skipped, sum(r.n for r in results))
    if require_gain:
        _require(results)


def _require(results: Sequence[Evaluation]) -> None:
    """End with 3 unless some adapter gains on a set and loses on none."""
    from lmsi_cli.report.comparison import gained

    if gained(results) is None:
        err().print(f"no significant gain: {results[0].corrected}", markup=False)
        raise typer.Exit(NO_GAIN)


def _task(folder: RunDir, data: str, name: str) -> Task:
    """The task by name; by default as sampled, but the set's own where its answers are others."""
    from lmsi_cli.tasks.readers import split_source

    sampled, layout = task_of(folder, name), split_source(data)[0]
    if name != DEFAULT_TASK or layout is None:
        return sampled
    own = task_of(folder, layout)
    return sampled if own.kind == sampled.kind else own
