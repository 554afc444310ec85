"""How every command that samples paths begins: open the model, settle the wording, bind the folder.

A job is a model, a task, settings and questions. llama.cpp or OpenVINO in this process, an
OpenAI-compatible server or Ray workers draw its paths; what comes before and after is the same:

    with opened(job, run, progress) as drawing:  # its wording and token limit are settled
        drawing.draw(job.questions)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from lmsi_cli import cluster
from lmsi_cli.catalog import Model, find_again, find_model
from lmsi_cli.config import AUTO, LLAMA, SERVER, EngineConfig, SampleConfig
from lmsi_cli.engine.base import PINNED
from lmsi_cli.engine.encode import ChatMode, Encoder, choose
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.llama import vocabulary
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.records import Progress, Question
from lmsi_cli.resume import check_model
from lmsi_cli.run_folder import RunDir, discard, sha256_file, teacher_of
from lmsi_cli.stages import engines
from lmsi_cli.stages.asking import Asking, ask, keep, pick_task, sampled
from lmsi_cli.stages.sample import SampleSummary, bind, drawn_by, sample, sample_in_pool
from lmsi_cli.tasks.loader import check_options

if TYPE_CHECKING:  # needs packages that only servers need
    from lmsi_cli.engine.server.engine import ServerEngine

UNSEEN = "a server does not show its chat template; --chat off asks in plain text"
Discard = bool | Literal["if different"]  # what a folder already holds


class Job(NamedTuple):
    """What to sample; ``model`` is None if a server has it. The questions are within the limit."""

    model: Model | None
    task: Task
    settings: SampleConfig
    questions: Sequence[Question]


class Drawing(NamedTuple):
    """An open engine, how it is asked, and what ties a run to it besides the settings."""

    engine: LlamaEngine | ServerEngine
    asking: Asking
    identity: dict[str, Any]
    run: RunDir
    progress: Progress

    def draw(self, questions: Sequence[Question]) -> SampleSummary:
        """Draw the paths of these questions that the folder lacks."""
        task, config = self.asking.task, self.asking.config
        return sample(questions, self.engine, task, config, self.run, self.progress)


def job_of(
    settings: SampleConfig,
    questions: Sequence[Question],
    source: str = "",
    progress: Progress | None = None,
) -> Job:
    """Find the model and the task of a run; loads nothing.

    ``source`` is the file that the questions come from; its layout may name a task.

    LmsiError: there is no such model or task, a question does not fit the task, or a setting does
    not fit the engine.
    """
    engines.check_engine(settings)
    model = None if settings.engine == SERVER else find_model(settings.model, progress)
    task, asked = pick_task(settings.task, model, source), questions[: settings.limit or None]
    check_options(asked, task)
    return Job(model, task, settings, asked)


def here(settings: SampleConfig, command: str) -> SampleConfig:
    """Settings of a command that samples here, with llama.cpp; LmsiError: another engine is set."""
    if settings.engine not in (LLAMA, AUTO):
        raise LmsiError(
            f"lmsi {command}: llama.cpp has to draw the paths, not --engine {settings.engine}",
            hint="take `engine` out of the config file; `lmsi sample` and `lmsi eval` know servers",
        )
    return msgspec.structs.replace(settings, engine=LLAMA, cluster="", workers=0)


def draw_paths(job: Job, run: RunDir, progress: Progress, overwrite: bool = False) -> SampleSummary:
    """Draw the paths that a run folder lacks; the caller holds it (``locked``).

    ``overwrite`` discards its contents once the model has been loaded. LmsiError as ``opened`` and
    ``sample``.
    """
    settings, model, known = job.settings, job.model, None if overwrite else run
    if settings.engine == AUTO and model is not None:
        open_ = partial(engines.open_file, model.path, EngineConfig(threads=settings.threads))
        paths = settings.paths * len(job.questions)
        engine = engines.chosen(settings, model.path, paths, open_, progress, known)
        job = job._replace(settings=msgspec.structs.replace(settings, engine=engine))
    if settings.cluster:
        return _draw_in_cluster(job, run, progress, overwrite)
    with opened(job, run, progress, overwrite) as drawing:
        return drawing.draw(job.questions)


@contextmanager
def opened(
    job: Job,
    run: RunDir,
    progress: Progress,
    overwrite: Discard = False,
    trial: bool = True,
    asking: Asking | None = None,
) -> Iterator[Drawing]:
    """Open the engine, settle how questions are asked, and bind the folder to both.

    ``overwrite`` discards existing paths, ``trial`` tries wordings if the settings leave them open.
    ``asking`` is how questions are asked if another folder has settled it. The caller holds the
    folder (``locked``).

    LmsiError: the model does not load, the server does not answer, or the folder holds paths with
    other settings.
    """
    known = None if overwrite is True else run
    with open_engine(job, known) as engine:
        asking = asking or settle(job, engine, known, progress, trial)
        if isinstance(engine, LlamaEngine):
            assert job.model is not None  # only a server's job has none
            tied = identity(job.model, asking)
        else:
            tied = {**engine.identity, **asking.named}
        _begin(asking, run, tied, overwrite)
        yield Drawing(engine, asking, tied, run, progress)


def open_engine(job: Job, run: RunDir | None = None) -> LlamaEngine | ServerEngine:
    """Load the model or connect to the server; with ``run``, the way that run began."""
    settings = engines.as_begun(run, job.settings) if run else job.settings
    if job.model is None:
        return engines.reach_server(settings, run)
    return engines.open_file(job.model.path, settings, settings.engine)


def settle(
    job: Job,
    engine: LlamaEngine | ServerEngine,
    run: RunDir | None,
    progress: Progress,
    trial: bool = True,
) -> Asking:
    """Settle how questions are asked, with the adapter that will draw the paths."""
    settings = job.settings
    engine.use_adapter(settings.adapter or None)
    if isinstance(engine, LlamaEngine):
        choice = choose(settings.chat, engine.encoder, settings.template_var)
    elif settings.chat == "auto":  # a server applies its template; most models there have one
        choice = ChatMode(True, UNSEEN)
        progress.say(f"asked in conversations: {UNSEEN}")
    else:
        choice = ChatMode(settings.chat == "on", f"--chat {settings.chat}")
    trying = (engine, progress) if trial else None
    return ask(job.task, choice, settings, job.questions, run, trying)


def _begin(asking: Asking, run: RunDir, tied: dict[str, Any], overwrite: Discard) -> None:
    """Bind the folder; only now, so that a model that does not load costs no old paths."""
    if overwrite is True:
        discard(run)
    try:
        bind(run, asking.config, tied)
    except LmsiError:
        if overwrite != "if different":
            raise
        discard(run)
        bind(run, asking.config, tied)
    keep(run, asking)


def identity(model: Model, asking: Asking) -> dict[str, Any]:
    """What a run is tied to besides its settings; LmsiError: the adapter is of another model."""
    return {
        "model": str(model.path.absolute()),
        "model_name": model.name or None,
        "model_sha256": sha256_file(model.path),
        **asking.named,
        "llama_cpp_python": version("llama-cpp-python"),
        **drawn_by(asking.config.adapter, model.path),
    }


def _draw_in_cluster(job: Job, run: RunDir, progress: Progress, overwrite: bool) -> SampleSummary:
    """Let Ray workers draw; without an engine here for a trial, the first wording is taken."""
    assert job.model is not None  # a server refuses --cluster
    settings, known, model = job.settings, None if overwrite else run, job.model
    with cluster.connected(settings) as (ray, room):
        with vocabulary(model.path) as words:
            choice = choose(settings.chat, Encoder(words), settings.template_var)
        asking = ask(job.task, choice, settings, job.questions, known)
        begun = engines.as_begun(run, settings) if known else settings
        kind = {name: getattr(begun, name) for name in PINNED}
        own = msgspec.structs.replace(asking.config, threads=room.threads, **kind)
        files = {str(model.path.absolute()): sha256_file(model.path)}
        if drawing := drawn_by(own.adapter, model.path):
            files[drawing["adapter"]] = drawing["adapter_sha256"]
        setup = cluster.WorkerSetup(files, own, asking.task, cluster.shown_of(job.questions))
        pool = cluster.Pool(ray, setup, room)
        progress.say(f"workers: {room.workers}, CPUs of each: {room.threads}")
        pool.ready()
        alone = msgspec.structs.replace(asking.config, cluster="", workers=0)
        _begin(asking._replace(config=alone), run, identity(model, asking), overwrite)
        return sample_in_pool(job.questions, pool, alone, run, progress)


def model_of(run: RunDir) -> Model:
    """The model that drew a run's paths, or a student's; the file must not have changed.

    LmsiError: the folder holds no run, a server drew the paths, or the file is gone or changed.
    """
    saved = sampled(run)
    if saved.get("engine") == SERVER:
        raise LmsiError(
            f"{run.root}: its paths were drawn by a server ({saved.get('model')} on "
            f"{saved.get('server')}), so there is no model file",
            hint=f"`lmsi eval {run.typed} --engine openai` measures it; "
            f"`lmsi train {run.typed} --student FILE` lets a model file learn from its votes",
        )
    name, model = saved.get("model_name", "MODEL"), Path(saved.get("model", "MODEL"))
    if not model.is_file():
        model = find_again(name) or model
    if not model.is_file():
        again = f"lmsi sample {quote(str(run.questions))} -m {quote(name)} -o {run.typed}"
        again += f" -n {saved['paths']}" if "paths" in saved else ""  # or it would draw more
        if teacher := teacher_of(run):
            again = f"lmsi train {quote(teacher['run'])} --student {quote(name)} -o {run.typed}"
        hint = f"tell where it is now: `{again}`"
        raise LmsiError(f"{model}: the model of {run.root} is no longer there", hint)
    check_model(run, model, sha256_file(model))
    return find_model(str(model))
