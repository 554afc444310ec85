"""What draws: llama.cpp, OpenVINO or an OpenAI-compatible server; chosen, opened, pinned for a run.

``--engine auto`` takes OpenVINO where it is installed and clearly faster. Both decode the same
model file; which one is faster depends on the file's types and on the CPU. So a long job begins
with half a minute of measuring, whose result is kept per machine, file and version:

    {"openvino": 388.0, "llama": 284.0}

A server does not show its chat template, so how it is asked has to be chosen without that:

    --chat auto, on    messages, to /chat/completions; the server applies the model's template
    --chat off         plain text, to /completions

What came of ``auto`` is pinned for a run: a path's last bits depend on it, and with them a token
now and then; so a run goes on as it was begun, alone or spread, on whatever machine. In run.toml:

    [engine]
    kv = "split"
    flash_attn = "on"
    fast_copy = "off"
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from lmsi_cli.config import (
    AUTO,
    LLAMA,
    OPENVINO,
    SERVER,
    EngineConfig,
    EngineName,
    EvalConfig,
    SampleConfig,
    SamplingConfig,
    serving,
)
from lmsi_cli.engine.base import Engine, Request, Settled, Wanted, pinned
from lmsi_cli.engine.cache_layout import Need
from lmsi_cli.engine.cpu_check import recall, remember
from lmsi_cli.engine.encode import ChatMode
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.fast_copy import SMALLEST, TEXT, verdict_file
from lmsi_cli.engine.openvino import other_than_plain
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress, Record
from lmsi_cli.run_folder import RunDir

if TYPE_CHECKING:
    from lmsi_cli.engine.server.engine import ServerEngine

ENGINE = "engine"  # the section of run.toml for what came of `auto`
INSTALL = "type: pip install 'lmsi[server]'"
UNSEEN = "a server does not show its chat template; --chat off asks in plain text"
FASTER = 1.2  # times as fast as llama.cpp that OpenVINO has to be
JOB = 500  # paths; a smaller job ends before the measurement has paid
PROMPT, TOKENS, PATHS = 256, 64, 64  # of the measurement: about the middle of a path of a real job
BUDGET = 256  # tokens of a path that are reckoned with where the trial has yet to tell
FIRST = SamplingConfig(temperature=1, top_k=0, max_tokens=1)  # loads the pipeline and the prompt

AnyConfig = TypeVar("AnyConfig", bound=EngineConfig)
Open = Callable[[EngineName], LlamaEngine]  # loads the model into that engine


class Pace(Record, frozen=True, kw_only=True):
    """Tokens per second; 0 where OpenVINO cannot draw from the file."""

    openvino: float
    llama: float

    @property
    def engine(self) -> EngineName:
        """Whichever is to be used."""
        return OPENVINO if self.openvino >= FASTER * self.llama else LLAMA


def chosen(
    settings: SampleConfig,
    model: Path,
    paths: int,
    open_: Open,
    progress: Progress,
    run: RunDir | None,
) -> EngineName:
    """The engine for a job; ``auto`` becomes what the folder was begun with, or what is faster.

    Args:
        settings: With the engine as the user gave it.
        model: A GGUF file.
        paths: Of the whole job.
        open_: Loads the model.
        progress: Where the measurement is told.
        run: The folder that the job goes on with, if there is one.
    """
    if settings.engine != AUTO:
        return settings.engine
    if run and run.paths.exists() and not settings.cluster:
        return begun_with(run)
    small = paths < JOB or model.stat().st_size < SMALLEST
    if small or settings.cluster or not _installed() or other_than_plain(settings):
        return LLAMA
    kept = verdict_file(model, f"-engines-ov{version('openvino')}")
    pace = recall(kept, Pace)
    if pace is None:
        progress.say("measuring whether OpenVINO is faster, this once")
        need = Need(0, PROMPT, max(settings.max_tokens, BUDGET), paths)
        pace = _measured(open_, need, progress)
        remember(kept, pace)
    rates = f"OpenVINO writes {pace.openvino:.0f} tokens/s, llama.cpp {pace.llama:.0f}"
    progress.say(f"--engine {pace.engine}: {rates}")
    return pace.engine


def begun_with(run: RunDir) -> EngineName:
    """The engine that drew the folder's paths, of the two that can draw here."""
    begun = run.load_settings().get("sample", {}).get("engine")
    return OPENVINO if begun == OPENVINO else LLAMA


def _installed() -> bool:
    try:
        return bool(version("openvino-genai"))
    except PackageNotFoundError:
        return False


def _measured(open_: Open, need: Need, progress: Progress) -> Pace:
    with open_(LLAMA) as engine:
        llama = engine.pace(need)[1].write
    try:
        with open_(OPENVINO) as engine:
            return Pace(openvino=_rate(engine), llama=llama)
    except LmsiError as e:
        progress.say(f"no OpenVINO: {e}")
        return Pace(openvino=0, llama=llama)


def _rate(engine: LlamaEngine) -> float:
    """Tokens per second of paths side by side, once the pipeline is loaded."""
    prompt = tuple(engine.encode(TEXT.read_text())[:PROMPT])
    request = Request("pace", prompt, tuple(Wanted(i, i) for i in range(PATHS)))
    list(engine.generate([request], FIRST, ""))
    begun = time.perf_counter()
    longer = msgspec.structs.replace(FIRST, max_tokens=TOKENS)
    tokens = sum(path.tokens for path in engine.generate([request], longer, ""))
    return tokens / (time.perf_counter() - begun)


def reach_server(
    model: str, settings: SampleConfig | EvalConfig, run: RunDir | None = None
) -> ServerEngine:
    """Reach the server; a run that goes on is held to the model that its first replies named."""
    try:
        from lmsi_cli.engine.server.engine import ANSWERS_AS, ServerEngine
    except ModuleNotFoundError as e:
        raise LmsiError(f"--engine openai needs the package {e.name}", INSTALL) from None
    saved = run.load_settings().get(ENGINE, {}) if run and run.paths.exists() else {}
    return ServerEngine(model, serving(settings), str(saved.get(ANSWERS_AS, "")))


def server_form(settings: SampleConfig) -> ChatMode:
    """Conversations unless they are switched off: most models that are served are chat models."""
    if settings.chat == "off":
        return ChatMode(False, "--chat off")
    return ChatMode(True, "--chat on" if settings.chat == "on" else UNSEEN)


def open_file(model: Path, config: EngineConfig, engine: EngineName) -> LlamaEngine:
    """Load a model file into what draws here."""
    if engine == LLAMA:
        return LlamaEngine(model, config)
    from lmsi_cli.engine.openvino import OpenVinoEngine
    from lmsi_cli.training.merge import merge, read_lora

    def merged(base: Path, adapter: Path, out: Path, scale: float) -> None:
        merge(base, read_lora(adapter), out, scale)

    return OpenVinoEngine(model, config, merged)


def check_engine(settings: SampleConfig) -> None:
    """Refuse settings that do not go with what draws the paths."""
    if settings.engine != SERVER:
        refuse_settings(settings)
        if settings.cluster and settings.engine == OPENVINO:
            raise LmsiError("--cluster: workers draw with llama.cpp, not with OpenVINO")
        if settings.workers and not settings.cluster:
            raise LmsiError("workers: that is a cluster's", hint="give --cluster local with it")
    elif settings.cluster:
        raise LmsiError(
            f"--cluster {settings.cluster}: with --engine openai the server is what is shared",
            hint="leave --cluster out; `concurrency` says how many requests are under way",
        )
    elif settings.adapter:
        message = f"adapter {settings.adapter}: a server has its adapters under names of their own"
        raise LmsiError(message, hint="ask for one with --model NAME")


def refuse_settings(settings: SampleConfig | EvalConfig) -> None:
    """Refuse a server's settings where llama.cpp draws: a forgotten --engine is not guessed."""
    for name in ("base_url", "api_key_file", "model"):
        sampled = name == "model" and isinstance(settings, SampleConfig)
        if getattr(settings, name, None) and not sampled:
            flag = "--base-url" if name == "base_url" else f"--set {name}"
            raise LmsiError(f"{flag}: that is a server's", hint="give --engine openai with it")


def as_served(run: RunDir, settings: EvalConfig) -> EvalConfig:
    """Fill in the model and the address that the run's paths came from, where not given."""
    saved = run.load_settings().get("sample", {})
    saved = saved if saved.get("engine") == SERVER else {}
    model = settings.model or saved.get("model", "")
    if not model:
        raise LmsiError(f"{run.root}: no server drew these paths", "name its model with --model")
    url = settings.base_url or saved.get("base_url", "")
    return msgspec.structs.replace(settings, model=model, base_url=url)


def about_server(engine: ServerEngine) -> dict[str, Any]:
    """What an evaluation's record says of its model, and versions."""
    named = f"{engine.base} on {engine.url.host}"
    source = {"file": named, "server": engine.url.host, "model": engine.base}
    return {"source": source, "versions": {"lmsi": version("lmsi")}}


def as_begun(run: RunDir, config: SampleConfig) -> SampleConfig:
    """Put the kind of cache that the folder was begun with in the place of ``auto``.

    A calibration made in between might choose the other one. The width changes no bits, so that
    stays free.
    """
    begun = _begun(run) if run.paths.exists() else {}
    left = {k: v for k, v in begun.items() if getattr(config, k) == "auto"}
    return msgspec.structs.replace(config, **left)


def same_file(run: RunDir, config: AnyConfig) -> AnyConfig:
    """Ask the copy of the model's file if the run's paths were drawn from it, else the file."""
    if config.fast_copy != "auto":
        return config
    return msgspec.structs.replace(config, fast_copy=_begun(run).get("fast_copy", "auto"))


class Settling:
    """Writes down what came of ``auto``, and says where a run goes on in another kind of cache."""

    def __init__(self, run: RunDir, say: Callable[[str], None]) -> None:
        self._run, self._say = run, say
        self._now: Settled = {}

    def alone(self, engine: Engine) -> None:
        """Of the one engine, whenever it may have changed: all of it is kept, and it goes on so."""
        if (settled := engine.settled) and settled != self._now:
            self._save(settled)
            engine.pin(pinned(settled))

    def of_worker(self, settled: Settled | None) -> None:
        """Of one of many: kept is what they share, as the first one has it."""
        if not self._now and (kind := pinned(settled or {})):
            self._save(kind)

    def _save(self, settled: Settled) -> None:
        begun, now = _begun(self._run), pinned(settled)
        if begun not in ({}, now) and not self._now and self._run.has_paths():
            self._say(
                f"{self._run.root}: so far drawn with {_flags(begun)}, now with {_flags(now)}: "
                "the last bits of the new paths differ"
            )
        self._now = settled
        self._run.save_settings(ENGINE, dict(settled))


def _begun(run: RunDir) -> Settled:
    return pinned(run.load_settings().get(ENGINE, {}))


def _flags(kind: Settled) -> str:
    return " ".join(f"--set {k}={v}" for k, v in kind.items())
