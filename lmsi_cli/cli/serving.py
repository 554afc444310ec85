"""`lmsi sample` and `lmsi eval` where an OpenAI-compatible server draws the paths.

Knows what a run is tied to where there is no model file: the server's host and the model's name.
Every form of prompt has to be chosen without seeing the server's chat template:

    --chat auto, on    messages, to /chat/completions; the server applies the model's template
    --chat off         plain text, to /completions
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lmsi_cli.cli.asking import ask, keep, pick_task
from lmsi_cli.cli.session import show, watched
from lmsi_cli.config import EvalConfig, SampleConfig, serving
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.records import Question
from lmsi_cli.run_folder import RunDir, discard, locked

if TYPE_CHECKING:
    from lmsi_cli.engine.encode import ChatMode
    from lmsi_cli.engine.server.engine import ServerEngine
    from lmsi_cli.report.results import Evaluation
    from lmsi_cli.stages.evaluate import Exam, Variant
    from lmsi_cli.stages.sample import SampleSummary

INSTALL = "type: pip install 'lmsi[server]'"
UNSEEN = "a server does not show its chat template; --chat off asks in plain text"


def choose(settings: SampleConfig) -> ChatMode:
    """Conversations unless they are switched off: most models that are served are chat models."""
    from lmsi_cli.engine.encode import ChatMode

    if settings.chat == "off":
        return ChatMode(False, "--chat off")
    return ChatMode(True, "--chat on" if settings.chat == "on" else UNSEEN)


def sample_there(
    asked: Sequence[Question],
    settings: SampleConfig,
    source: str,
    out: Path,
    overwrite: bool,
    quiet: bool,
) -> SampleSummary:
    """Draw the paths that a run folder lacks from a server.

    Raises:
        LmsiError: The server cannot be reached or is another one than the folder's, or a setting
            has no meaning there.
    """
    from lmsi_cli.stages import sample as stage

    task, run = _task(asked, settings, source), RunDir(out)
    choice = choose(settings)
    with (
        locked(run),
        _engine(settings.model, settings, run, overwrite) as engine,
        watched(quiet, run) as progress,
    ):
        if choice.why == UNSEEN:
            progress.say(f"asked in conversations: {UNSEEN}")
        asking = ask(task, choice, settings, asked, None if overwrite else run, (engine, progress))
        if overwrite:  # only now: a server that is not there must not cost the old run
            discard(run)
        stage.bind(run, asking.config, {**engine.identity, **asking.named})
        keep(run, asking)
        return stage.sample(asked, engine, asking.task, asking.config, run, progress)


def preview_there(
    asked: Sequence[Question], settings: SampleConfig, source: str, json: bool
) -> None:
    """Show the first request; what it costs only the server knows."""
    from lmsi_cli.stages.sample import requests_of

    asking = ask(_task(asked, settings, source), choose(settings), settings, asked)
    with _engine(settings.model, settings) as engine:
        first = requests_of(asked[:1], engine, asking.task, asking.config)
        if not first:
            raise LmsiError("no questions to show a prompt for")
        told = engine.first_body(first[0], asking.config)
    paths = len(asked[: settings.limit or None]) * settings.paths
    text = msgspec.json.format(msgspec.json.encode(told)).decode()
    show({"request": told, "paths": paths}, json, _plain(text), f"{paths} paths in all")


def refuse_served(settings: SampleConfig | EvalConfig) -> None:
    """Refuse a server's settings where llama.cpp draws: a forgotten --engine must not be guessed.

    Raises:
        LmsiError: Names the first one.
    """
    names = ["base_url", "api_key_file", "adapter_model"]
    if isinstance(settings, EvalConfig):
        names.append("model")
    for name in names:
        if getattr(settings, name, None):
            flag = f"--{name.replace('_', '-')}"
            raise LmsiError(f"{flag}: that is a server's", hint="give --engine openai with it")


def refuse_local(
    settings: EvalConfig, adapters: Sequence[Path] | None, dry_run: bool, require_gain: bool
) -> None:
    """Refuse what a server cannot be asked for.

    Raises:
        LmsiError: Says what to give instead.
    """
    if adapters:
        raise LmsiError(
            f"--adapter {adapters[0]}: a server has its adapters under names of their own",
            hint="give --adapter-model NAME",
        )
    if settings.scale:
        raise LmsiError("--adapter-scale: a server's adapters act as it was told", "leave it out")
    if dry_run:
        raise LmsiError("--dry-run: what it would cost only the server knows", "leave it out")
    if require_gain and not settings.adapter_model:
        raise LmsiError("no adapter to require a gain of", hint="give --adapter-model NAME")


def measure_there(
    folder: RunDir, exams: Sequence[Exam], settings: EvalConfig, quiet: bool
) -> list[Evaluation]:
    """Ask a server the questions that have no answer yet: its base, and adapters by their names."""
    from lmsi_cli.stages.evaluate import evaluate

    settings = as_sampled(folder, settings)
    with (
        locked(folder),
        _engine(settings.model, settings) as engine,
        watched(quiet, folder) as progress,
    ):
        return evaluate(
            exams, variants_there(engine, settings), engine, folder, progress, _about(engine)
        )


def as_sampled(folder: RunDir, settings: EvalConfig) -> EvalConfig:
    """Fill in the model and the address that the run's paths came from, where they are not given.

    Raises:
        LmsiError: Neither the command nor the run folder names a model.
    """
    saved = folder.load_settings().get("sample", {})
    saved = saved if saved.get("engine") == "openai" else {}
    model = settings.model or saved.get("model", "")
    if not model:
        raise LmsiError(f"{folder.root}: no server drew these paths", "name its model with --model")
    url = settings.base_url or saved.get("base_url", "")
    return msgspec.structs.replace(settings, model=model, base_url=url)


def variants_there(engine: ServerEngine, settings: EvalConfig) -> list[Variant]:
    """The base, and the adapters that the server offers under names of their own."""
    from lmsi_cli.report.results import BASE
    from lmsi_cli.stages.evaluate import Variant

    found = [Variant(BASE, None, engine.identity)]
    for name in dict.fromkeys(settings.adapter_model):
        engine.use_adapter(name)  # whether it is there is known before an hour of asking
        label = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
        found.append(Variant(label, name, {**engine.identity, "adapter_model": name}))
    engine.use_adapter(None)
    return found


def _task(asked: Sequence[Question], settings: SampleConfig, source: str) -> Task:
    from lmsi_cli.tasks.golds import check_options

    if settings.adapter:
        raise LmsiError(
            f"--adapter {settings.adapter}: a server has its adapters under names of their own",
            hint="ask for one with --model NAME",
        )
    task = pick_task(settings.task, None, source)
    check_options(asked[: settings.limit or None], task)
    return task


def _engine(
    model: str, settings: SampleConfig | EvalConfig, run: RunDir | None = None, fresh: bool = False
) -> ServerEngine:
    """Reach the server; a run that goes on is held to the model that its first replies named.

    Raises:
        LmsiError: The packages for it are missing, or as ``ServerEngine``.
    """
    for package in ("httpx", "tenacity"):
        if find_spec(package) is None:
            raise LmsiError(f"--engine openai needs the package {package}", INSTALL)
    from lmsi_cli.engine.pinned_settings import ENGINE
    from lmsi_cli.engine.server.engine import ANSWERS_AS, ServerEngine

    begun = run is not None and not fresh and run.paths.exists()
    saved = run.load_settings().get(ENGINE, {}) if run is not None and begun else {}
    return ServerEngine(model, serving(settings), str(saved.get(ANSWERS_AS, "")))


def _about(engine: ServerEngine) -> dict[str, Any]:
    """What an evaluation's record says of its model, and versions."""
    named = f"{engine.base} on {engine.address.host}"
    source = {"file": named, "server": engine.address.host, "model": engine.base}
    return {"source": source, "versions": {"lmsi": version("lmsi")}}


def _plain(text: str) -> Any:  # noqa: ANN401 - a Rich renderable
    from rich.text import Text

    return Text(text)
