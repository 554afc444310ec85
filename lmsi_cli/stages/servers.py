"""Where an OpenAI-compatible server draws: how it is reached, and what it cannot be asked for.

Every form of prompt has to be chosen without seeing the server's chat template:

    --chat auto, on    messages, to /chat/completions; the server applies the model's template
    --chat off         plain text, to /completions
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec

from lmsi_cli.config import SERVER, EvalConfig, SampleConfig, serving
from lmsi_cli.engine.encode import ChatMode
from lmsi_cli.engine.pinned_settings import ENGINE
from lmsi_cli.errors import LmsiError
from lmsi_cli.run_folder import RunDir

if TYPE_CHECKING:  # its packages are imported where a server is reached
    from lmsi_cli.engine.server.engine import ServerEngine

INSTALL = "type: pip install 'lmsi[server]'"
UNSEEN = "a server does not show its chat template; --chat off asks in plain text"


def reach(
    model: str, settings: SampleConfig | EvalConfig, run: RunDir | None = None
) -> ServerEngine:
    """Reach the server; a run that goes on is held to the model that its first replies named."""
    try:
        from lmsi_cli.engine.server.engine import ANSWERS_AS, ServerEngine
    except ModuleNotFoundError as e:
        raise LmsiError(f"--engine openai needs the package {e.name}", INSTALL) from None
    saved = run.load_settings().get(ENGINE, {}) if run and run.paths.exists() else {}
    return ServerEngine(model, serving(settings), str(saved.get(ANSWERS_AS, "")))


def form_of(settings: SampleConfig) -> ChatMode:
    """Conversations unless they are switched off: most models that are served are chat models."""
    if settings.chat == "off":
        return ChatMode(False, "--chat off")
    return ChatMode(True, "--chat on" if settings.chat == "on" else UNSEEN)


def refuse_settings(settings: SampleConfig | EvalConfig) -> None:
    """Refuse a server's settings where llama.cpp draws: a forgotten --engine is not guessed."""
    for name in ("base_url", "api_key_file", "model"):
        sampled = name == "model" and isinstance(settings, SampleConfig)
        if getattr(settings, name, None) and not sampled:
            flag = "--base-url" if name == "base_url" else f"--set {name}"
            raise LmsiError(f"{flag}: that is a server's", hint="give --engine openai with it")


def as_sampled(run: RunDir, settings: EvalConfig) -> EvalConfig:
    """Fill in the model and the address that the run's paths came from, where not given."""
    saved = run.load_settings().get("sample", {})
    saved = saved if saved.get("engine") == SERVER else {}
    model = settings.model or saved.get("model", "")
    if not model:
        raise LmsiError(f"{run.root}: no server drew these paths", "name its model with --model")
    url = settings.base_url or saved.get("base_url", "")
    return msgspec.structs.replace(settings, model=model, base_url=url)


def about(engine: ServerEngine) -> dict[str, Any]:
    """What an evaluation's record says of its model, and versions."""
    named = f"{engine.base} on {engine.url.host}"
    source = {"file": named, "server": engine.url.host, "model": engine.base}
    return {"source": source, "versions": {"lmsi": version("lmsi")}}
