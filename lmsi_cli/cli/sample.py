"""`lmsi sample`: questions and a model in, sampled paths in a run folder out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.text import Text

from lmsi_cli.cli.options import configured
from lmsi_cli.cli.session import Json, Overwrite, show, watched
from lmsi_cli.config import SERVER, SampleConfig
from lmsi_cli.formats import duration, percent, printable, size
from lmsi_cli.reporting.digest import Sheet
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.tasks.readers import read_questions

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.stages.dry_run import Estimate, Preview
    from lmsi_cli.stages.sample import SampleSummary
    from lmsi_cli.stages.trial import Trial

Questions = Annotated[
    str,
    typer.Argument(
        help="JSONL, CSV, text (one question a line), Parquet or SET:FILE; - reads stdin."
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="The run folder.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only show the first prompt, its tokens, memory and time."),
]


@configured(SampleConfig)
def sample(  # noqa: PLR0913 - one parameter per flag
    questions: Questions,
    out: Out,
    settings: SampleConfig,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: bool = False,
) -> None:
    """Sample many chain-of-thought paths for each question.

    The same command continues where it stopped; no path is lost or sampled twice.

    Example: lmsi sample questions.jsonl -m model.gguf -o runs/first --paths 16
    """
    from lmsi_cli.engine.checks import skipped_error
    from lmsi_cli.stages.dry_run import preview, request_there
    from lmsi_cli.stages.pipeline import draw_paths, job_of

    asked = read_questions(questions)
    with watched(quiet, None) as progress:
        job = job_of(settings, asked, questions, progress)
        fields = request_there(job, progress) if dry_run and job.model is None else {}
        found = preview(job, progress) if dry_run and job.model else None
    # shown below the progress view, which would take it for its own and send it to stderr
    if fields:
        text = msgspec.json.format(msgspec.json.encode(fields["request"])).decode()
        show(fields, json, Text(text), f"{fields['paths']} paths in all")
    if found:
        show(found, json, *preview_parts(found))
    if dry_run:
        return
    run = RunDir(out)
    with locked(run), watched(quiet, run) as progress:
        summary = draw_paths(job, run, progress, overwrite)
    show(summary, json, sample_sheet(summary))
    if summary.skipped:
        alone = settings.engine != SERVER and not settings.cluster
        raise skipped_error(len(summary.skipped), summary.questions, alone)


def sample_sheet(s: SampleSummary) -> Sheet:
    """What one call of the sampler did."""
    from lmsi_cli.reporting.sections import INCOMPARABLE

    pace = max(s.seconds, 1e-9)
    rows = [
        ("questions", f"{s.questions}"),
        ("paths", f"{s.paths} ({s.new_paths} new)"),
        ("parsed", f"{s.parsed} ({percent(s.parsed / max(1, s.paths))})"),
        ("cut off", f"{s.cut_off} ({percent(s.cut_off / max(1, s.new_paths))} of the new)"),
        ("speed", f"{s.new_paths / pace:.1f} paths/s, {s.tokens / pace:,.0f} tokens/s"),
        ("time", f"{s.seconds:.0f} s"),
    ]
    if s.stopped:
        lost = percent(s.cancelled_tokens / max(1, s.tokens))
        rows += [
            ("stopped early", f"{s.stopped} questions; {INCOMPARABLE}"),
            ("paths never drawn", f"{s.never_drawn}"),
            ("paths cancelled", f"{s.cancelled}, {s.cancelled_tokens} tokens ({lost} of all)"),
        ]
    if s.skipped:
        rows.append(("skipped", f"{len(s.skipped)}"))
    return Sheet(title="sample", rows=tuple(rows))


def preview_parts(p: Preview) -> list[Sheet | Text]:
    """What a run would ask and cost: the trial, the form, the first prompt as tokenised."""
    form = "conversation" if p.chat else "plain text"
    rows = [("form", f"{form}: {p.why}")]
    if p.folds_system:
        rows.append(("system message", "opens the first turn: the template has no such role"))
    if p.begun:
        rows.append(("the reply begins inside", repr(p.begun)))
    rows.append(("questions", f"{p.questions}"))
    if p.templates > 1:
        rows.append(("templates in turn", f"{p.templates}; the first one's prompts are counted"))
    rows += [
        ("prompt tokens", f"{p.shortest} to {p.longest}, median {p.median:g}"),
        ("  shared by all prompts", f"{p.shared_prefix}"),
        ("  control tokens in the first", f"{sum(piece.mark for piece in p.prompt)}"),
    ]
    title = Text("the first prompt; control tokens in reverse video\n", style="bold")
    prompt = Text.assemble(*((printable(x.text), "reverse" if x.mark else "") for x in p.prompt))
    trial = [trial_sheet(p.trial)] if p.trial else []
    return [*trial, Sheet(title="prompts", rows=tuple(rows)), title, prompt, cost_sheet(p.cost)]


def cost_sheet(e: Estimate) -> Sheet:
    """What a run would cost, estimated from a small trial."""
    bound = "at most " if e.at_most else "about "
    kind = "one for all (unified)" if e.unified else "one for each (split)"
    memory = f"{size(e.model_bytes)} for the model and {size(e.cache_bytes)} beside it"
    rows = (
        ("paths side by side", f"{e.width}"),
        ("KV cache", f"{kind}, {e.cells:,} cells"),
        ("memory", memory),
        ("tokens a path", f"{bound}{e.tokens_per_path:.0f}, from {e.trial_paths} trial paths"),
        ("speed", f"{e.tokens_s:,.0f} tokens/s"),
        ("time", f"{bound}{duration(e.seconds)}"),
    )
    return Sheet(title="cost", rows=rows)


def trial_sheet(trial: Trial) -> Sheet:
    """All candidate wordings, the chosen one marked."""
    rows = [
        (
            t.name + (" *" if number == trial.best else ""),
            f"{t.prompt}, {t.few_shot}" if t.prompt.endswith("few") else t.prompt,
            f"{t.agreement:.2f}",
            percent(t.parsed),
            percent(t.cut_off),
            f"{t.tokens:.0f}",
            f"{t.paths}",
        )
        for number, t in enumerate(trial.tried)
    ]
    columns = ("wording", "prompt", "agreement", "parsed", "cut off", "tokens", "paths")
    title = f"wordings, tried on {trial.questions} questions"
    return Sheet(title=title, columns=columns, rows=tuple(rows))
