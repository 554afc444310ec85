"""lmsi from Python and in notebooks: six functions that do what the commands do.

Each takes the command's settings by keyword, writes the same run folder, and returns the record
that the command's ``--json`` prints; a notebook shows it as the command's tables. Mistakes raise
LmsiError. The stages do the work and the command line's own view shows the progress, so `lmsi
watch` sees a notebook's run, too.

    import lmsi_cli
    lmsi_cli.sample("questions.jsonl", "runs/first", model="model.gguf", paths=8)
    lmsi_cli.vote("runs/first").verdict.verdict                          -> "train"
    lmsi_cli.train("runs/first", epochs=2)
    lmsi_cli.evaluate("runs/first", ["test.jsonl"], modes=["cot"])[0].pairs[0].change.difference
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar, overload

import msgspec
from msgspec.structs import asdict

from lmsi_cli.cli.report import write_page
from lmsi_cli.cli.sample import preview_parts, sample_sheet
from lmsi_cli.cli.session import watched
from lmsi_cli.cli.vote import vote_parts
from lmsi_cli.config import Config, EvalConfig, SampleConfig, TrainConfig, VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress
from lmsi_cli.reporting.digest import Digest, fragment
from lmsi_cli.reporting.evaluation import eval_parts
from lmsi_cli.reporting.pairwise import Opposed
from lmsi_cli.reporting.results import Evaluation
from lmsi_cli.reporting.sections import training_sheet
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.settings import resolve
from lmsi_cli.stages.asking import task_of
from lmsi_cli.stages.compare import compare as compare_places
from lmsi_cli.stages.distil import enrolled, teach
from lmsi_cli.stages.dry_run import Preview, preview
from lmsi_cli.stages.measure import measure, prepare
from lmsi_cli.stages.pipeline import draw_paths, job_of, model_of
from lmsi_cli.stages.report import read_run
from lmsi_cli.stages.sample import SampleSummary
from lmsi_cli.stages.train import TrainResult, train_apart
from lmsi_cli.stages.vote import Voted, permit, vote_run
from lmsi_cli.tasks.readers import read_labelled, read_questions

P = ParamSpec("P")
R = TypeVar("R")
Place = str | Path
Places = Place | Sequence[Place]

# What the stages return, made anew as records that a notebook can show.


class Sampled(SampleSummary, frozen=True, kw_only=True):
    """What one call of ``sample`` did."""

    def _repr_html_(self) -> str:
        return fragment(sample_sheet(self))


class Previewed(Preview, frozen=True, kw_only=True):
    """What ``sample`` would ask and what it would cost; ``trial`` is that of the wordings."""

    def _repr_html_(self) -> str:
        return fragment(*preview_parts(self))


class Votes(Voted):
    """A vote's ``summary`` and ``verdict``."""

    def _repr_html_(self) -> str:
        return fragment(*vote_parts(*self))


class Trained(TrainResult, frozen=True, kw_only=True):
    """What was trained, and the proof that it works."""

    def _repr_html_(self) -> str:
        return fragment(training_sheet(msgspec.to_builtins(self)))


class Evaluations(list[Evaluation]):
    """One evaluation for each set of questions."""

    def _repr_html_(self) -> str:
        return fragment(*(part for e in self for part in eval_parts(e)))


def _takes(kind: type[Config]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Add the settings and their defaults to a signature, for ``help`` and name completion."""

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        own = inspect.signature(function)
        named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        named += [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default)
            for f in msgspec.structs.fields(kind)
        ]
        function.__signature__ = own.replace(parameters=named)  # type: ignore[attr-defined]
        return function

    return wrap


@overload
def sample(
    questions: Place,
    out: Place,
    *,
    overwrite: bool = ...,
    dry_run: Literal[True],
    quiet: bool = ...,
    **settings: object,
) -> Previewed: ...
@overload
def sample(
    questions: Place,
    out: Place,
    *,
    overwrite: bool = ...,
    dry_run: Literal[False] = ...,
    quiet: bool = ...,
    **settings: object,
) -> Sampled: ...
@_takes(SampleConfig)
def sample(
    questions: Place,
    out: Place,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    **settings: object,
) -> Sampled | Previewed:
    """Draw many chain-of-thought paths per question; called again, it continues.

    Args:
        questions: A file as `lmsi sample` takes it, or ``SET:FILE``.
        out: The run folder.
        overwrite: Discard what the folder holds.
        dry_run: Only try the wordings, and return the first prompt, memory and time.
        quiet: Show no progress.
        settings: Those of [sample] in a config file.

    Raises:
        LmsiError: As `lmsi sample`; questions that do not fit are in the result's ``skipped``.
    """
    config = resolve(SampleConfig, settings, where="sample()")
    asked, run = read_questions(str(questions)), RunDir(Path(out))
    with watched(quiet, None) as progress:
        job = job_of(config, asked, str(questions), progress)
        if dry_run and job.model is None:
            raise LmsiError("dry_run: what it would cost only the server knows", "leave it out")
        if dry_run:
            return Previewed(**asdict(preview(job, progress)))
    with _at_work(run, quiet, "sample", str(questions), "-o") as progress:
        return Sampled(**asdict(draw_paths(job, run, progress, overwrite)))


@_takes(VoteConfig)
def vote(
    run: Place,
    *,
    exclude: Places = (),
    probe: Place | None = None,
    quiet: bool = False,
    **settings: object,
) -> Votes:
    """Let a run's paths vote, keep those that agree, and say whether to train on them.

    Args:
        run: The run folder.
        exclude: Files of questions that must not be trained on.
        probe: A file of some of the run's questions with an answer each, for the verdict only.
        quiet: Show no progress.
        settings: Those of [vote] in a config file.

    Raises:
        LmsiError: As `lmsi vote`, except that a vote that keeps nothing is a result, too.
    """
    config, folder = resolve(VoteConfig, settings, where="vote()"), RunDir(Path(run))
    task, labelled = task_of(folder), read_labelled(str(probe)) if probe else []
    exams = {file: read_questions(file) for file in _several(exclude)}
    with _at_work(folder, quiet, "vote") as progress:
        return Votes(*vote_run(folder, task, config, progress, exams, labelled))


@_takes(TrainConfig)
def train(
    run: Place,
    *,
    student: str = "",
    out: Place | None = None,
    overwrite: bool = False,
    force: bool = False,
    quiet: bool = False,
    **settings: object,
) -> Trained:
    """Train a LoRA adapter on a run's kept paths and prove that it works.

    Args:
        run: The run folder.
        student: Train this model on the run's votes instead: a GGUF file, or a name.
        out: The student's run folder, for ``evaluate``; by default students/NAME in the run.
        overwrite: Discard an existing adapter.
        force: Train even if the verdict is not to.
        quiet: Show no progress.
        settings: Those of [train] in a config file.
    """
    config = resolve(TrainConfig, settings, where="train()")
    teacher, place = RunDir(Path(run)), Path(out) if out else None
    if not force:
        permit(teacher, "train(..., force=True)")
    with watched(quiet, None) as progress:
        taught = enrolled(teacher, student, place, config, progress)
    folder, model, task, *_ = taught or (teacher, model_of(teacher).path, task_of(teacher))
    with _at_work(folder, quiet, "train") as progress:
        if taught:
            teach(teacher, taught, progress, overwrite)
        return Trained(**asdict(train_apart(folder, model, task, config, progress, overwrite)))


@_takes(EvalConfig)
def evaluate(
    run: Place,
    data: Places,
    *,
    adapter: Places = (),
    allow_overlap: bool = False,
    null: bool = False,
    quiet: bool = False,
    **settings: object,
) -> Evaluations:
    """Measure a run's model before and after, on the same questions.

    Args:
        run: The run folder.
        data: Files of labelled questions, or ``SET:FILE``.
        adapter: More GGUF adapters, or run folders with one.
        allow_overlap: Measure on questions that were trained on.
        null: Measure controls, too.
        quiet: Show no progress.
        settings: Those of [eval] in a config file.

    Raises:
        LmsiError: As `lmsi eval`; questions that do not fit are in each result's ``skipped``.
    """
    config, folder = resolve(EvalConfig, settings, where="evaluate()"), RunDir(Path(run))
    wanted = prepare(folder, config, _several(data), _several(adapter), allow_overlap, null)
    with _at_work(folder, quiet, "eval") as progress:
        return Evaluations(measure(wanted, progress))


def compare(a: Place, b: Place, data: str = "", line: str = "") -> Opposed:
    """Compare two evaluations on the questions they share; positive changes favour ``b``.

    Args:
        a: A run folder, or a file of its eval/.
        b: Another one; the same one compares its base with its adapter.
        data: Name of the data set, if a folder has several.
        line: The line whose flips are listed; by default the one that decides.
    """
    return compare_places(Path(a), Path(b), data, line)


def report(run: Place, out: Place | None = None, *, overwrite: bool = False) -> Digest:
    """Gather everything that a run has so far.

    Args:
        run: The run folder.
        out: Write the HTML page there, too.
        overwrite: Let the page replace an existing file.
    """
    digest = read_run(RunDir(Path(run)))
    if out is not None:
        write_page(digest, Path(out), overwrite)
    return digest


@contextmanager
def _at_work(run: RunDir, quiet: bool, *command: str) -> Iterator[Progress]:
    """Lock a run folder and show the progress of the work in it."""
    with locked(run), watched(quiet, run, [*command, str(run.root)]) as progress:
        yield progress


def _several(given: Places) -> list[str]:
    """File names as a list; a single one is accepted, too."""
    return [str(file) for file in ([given] if isinstance(given, Place) else given)]
