"""`lmsi eval`: a run's adapter and labelled questions in, before/after tables out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lmsi_cli.cli.console import err
from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import Json, RunFolder, chosen_round, show, watched
from lmsi_cli.config import SERVER, EvalConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.formats import least_change
from lmsi_cli.reporting.digest import Sheet
from lmsi_cli.run_folder import RunDir, locked

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.stages.measure import Plan

NO_GAIN = 3
Data = Annotated[
    list[str] | None,
    typer.Option(
        help="Labelled questions: JSONL or CSV with answers, or SET:FILE; may be repeated."
    ),
]
Adapters = Annotated[
    list[str] | None,
    typer.Option(help="Another GGUF adapter, run folder, or name on a server; may be repeated."),
]
RequireGain = Annotated[
    bool,
    typer.Option("--require-gain", help="Exit code 3 unless the first mode is clearly better."),
]
AllowOverlap = Annotated[
    bool, typer.Option("--allow-overlap", help="Measure on questions that were trained on.")
]
Null = Annotated[
    bool,
    typer.Option(
        "--null",
        help="Also measure controls: the base again, and what `lmsi train --null` trained.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only show how small a change these sets could show, and how many answers it takes.",
    ),
]
Import = Annotated[
    str | None,
    typer.Option(
        "--import",
        envvar="LMSI_EVAL_IMPORT",
        help="Read a samples_*.jsonl of lm-evaluation-harness instead; SET:FILE as for --data.",
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
    null: Null = False,
    dry_run: DryRun = False,
    imported: Import = None,
    json: Json = False,
    quiet: bool = False,
) -> None:
    """Measure the model before and after training, on the same questions.

    After several rounds it measures the adapter of the kept round; --adapter adds others.

    The first mode decides. --require-gain demands a significant gain (p below 0.05 by Holm's method
    over all data sets and adapters) on at least one data set, and no significant loss on any.

    --null shows, beside every change, how much the controls changed: that much is no gain.

    Example: lmsi eval runs/first --data test.jsonl --data gsm8k:gsm8k.jsonl --modes cot,sc
    """
    from lmsi_cli.engine.checks import skipped_error
    from lmsi_cli.reporting.comparison import gained
    from lmsi_cli.reporting.evaluation import eval_parts
    from lmsi_cli.stages.importing import import_samples
    from lmsi_cli.stages.measure import measure, plans_of, prepare

    folder = RunDir(run)
    if imported is not None:
        if data or adapter or require_gain or allow_overlap or null or dry_run:
            message = "--import takes another program's answers as they are"
            raise LmsiError(message, hint="leave the other options out")
        with locked(folder):
            found, target = import_samples(folder, imported, settings)
        show(found, json, *eval_parts(found), f"written to {target}; `lmsi compare` takes it")
        return
    local = settings.engine != SERVER
    if require_gain and not (local or adapter):
        raise LmsiError("no adapter to require a gain of", hint="give --adapter NAME")
    wanted = prepare(folder, settings, data or [], adapter or [], allow_overlap, null)
    if require_gain and local and not any(c.adapter and not c.null for c in wanted.candidates):
        raise LmsiError(f"{folder.root}: no adapter to require a gain of", hint="`lmsi train` it")
    if local:
        chosen_round(folder)
    if dry_run:
        plans = plans_of(wanted)
        show(plans, json, *map(plan_sheet, plans))
        return
    with locked(folder), watched(quiet, folder) as progress:
        results = measure(wanted, progress)
    show(results, json, *(part for r in results for part in eval_parts(r)))
    if skipped := sum(len(r.skipped) for r in results):
        raise skipped_error(skipped, sum(r.n for r in results), local)
    if require_gain and gained(results) is None:
        err().print(f"no significant gain: {results[0].corrected}", markup=False)
        raise typer.Exit(NO_GAIN)


def plan_sheet(p: Plan) -> Sheet:
    """A plan as a table of names and values."""
    groups = f" in {p.groups} groups, which count as one each" if p.groups else ""
    power = "at 80% power if a fifth of the questions changes"
    rows = (
        ("questions", f"{p.questions}{groups}"),
        ("what it can show", f"{least_change(p.smallest_visible)}, {power}"),
        ("models", f"{p.models}"),
        ("answers", f"{p.answers:,}"),
    )
    return Sheet(title=f"{p.data}: plan", rows=rows)
