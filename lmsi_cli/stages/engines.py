"""Choose, open and pin a run's engine: llama.cpp, OpenVINO or an OpenAI-compatible server.

``--engine auto`` takes OpenVINO if it is installed and clearly faster than llama.cpp. Both decode
the same model file; which one is faster depends on the file's types and on the CPU. So a long job
begins with half a minute of measuring, whose result is kept per machine, file and version.

What ``auto`` resolves to is pinned for a run. A path's last bits depend on it, and now and then a
token does. So a run continues as it began, on any machine, in a cluster or not. In run.toml:

    [engine]
    kv = "split"
    flash_attn = "on"
    fast_copy = "off"
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

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
    serving,
)
from lmsi_cli.engine.base import Engine, Request, Settled, Wanted, pinned
from lmsi_cli.engine.cpu_check import recall, remember
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.fast_copy import SMALLEST, TEXT, verdict_file
from lmsi_cli.engine.openvino import other_than_plain
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress, Record
from lmsi_cli.run_folder import RunDir

if TYPE_CHECKING:
    from lmsi_cli.engine.server.engine import ServerEngine

ENGINE = "engine"  # the section of run.toml for what `auto` resolved to
INSTALL = "type: pip install '.[server]' in lmsi's folder"
FASTER = 1.2  # OpenVINO has to be this many times as fast as llama.cpp
JOB = 500  # paths; on a smaller job the measurement does not pay off
PROMPT, TOKENS, PATHS = 256, 64, 64  # of the measurement; about the middle of a real path

Open = Callable[[EngineName], LlamaEngine]  # loads the model into that engine


class Pace(Record, frozen=True, kw_only=True):
    """Tokens per second; 0 if OpenVINO cannot run the file."""

    openvino: float
    llama: float


def chosen(
    settings: SampleConfig,
    model: Path,
    paths: int,
    open_: Open,
    progress: Progress,
    run: RunDir | None,
) -> EngineName:
    """The engine for a job of so many paths in all; ``run`` is the folder that it continues.

    ``auto`` becomes the engine that the folder began with, or the faster one.
    """
    if settings.engine != AUTO:
        return settings.engine
    if run and run.paths.exists() and not settings.cluster:
        return begun_with(run)
    small = paths < JOB or model.stat().st_size < SMALLEST
    if small or settings.cluster or not find_spec("openvino_genai") or other_than_plain(settings):
        return LLAMA
    kept = verdict_file(model, f"-pace-ov{version('openvino')}")
    pace = recall(kept, Pace)
    if pace is None:
        progress.say("measuring whether OpenVINO is faster, this once")
        with open_(LLAMA) as engine:
            llama, openvino = _rate(engine, settings), 0.0
        try:
            with open_(OPENVINO) as engine:
                openvino = _rate(engine, settings)
        except LmsiError as e:
            progress.say(f"no OpenVINO: {e}")
        pace = Pace(openvino=openvino, llama=llama)
        remember(kept, pace)
    faster = OPENVINO if pace.openvino >= FASTER * pace.llama > 0 else LLAMA
    rates = f"OpenVINO writes {pace.openvino:.0f} tokens/s, llama.cpp {pace.llama:.0f}"
    progress.say(f"--engine {faster}: {rates}")
    return faster


def begun_with(run: RunDir) -> EngineName:
    """The local engine that drew the folder's paths: OpenVINO or else llama.cpp."""
    begun = run.load_settings().get("sample", {}).get("engine")
    return OPENVINO if begun == OPENVINO else LLAMA


def _rate(engine: LlamaEngine, settings: SampleConfig) -> float:
    """Tokens per second of paths side by side, drawn as in the run, after a warm-up."""
    prompt = tuple(engine.encode(TEXT.read_text())[:PROMPT])
    request = Request("pace", prompt, tuple(Wanted(i, i) for i in range(PATHS)))
    list(engine.generate([request], msgspec.structs.replace(settings, max_tokens=1), ""))
    begun = time.perf_counter()
    longer = msgspec.structs.replace(settings, max_tokens=TOKENS)
    tokens = sum(path.tokens for path in engine.generate([request], longer, ""))
    return tokens / (time.perf_counter() - begun)


def reach_server(settings: SampleConfig | EvalConfig, run: RunDir | None = None) -> ServerEngine:
    """Connect to the server; a run with paths insists on the model that its first replies named."""
    try:
        from lmsi_cli.engine.server.engine import ANSWERS_AS, ServerEngine
    except ModuleNotFoundError as e:
        raise LmsiError(f"--engine openai needs the package {e.name}", INSTALL) from None
    saved = run.load_settings().get(ENGINE, {}) if run and run.paths.exists() else {}
    return ServerEngine(settings.model, serving(settings), str(saved.get(ANSWERS_AS, "")))


def open_file(model: Path, config: EngineConfig, engine: EngineName) -> LlamaEngine:
    """Load a model file into llama.cpp or OpenVINO."""
    if engine == LLAMA:
        return LlamaEngine(model, config)
    from lmsi_cli.engine.openvino import OpenVinoEngine
    from lmsi_cli.training.merge import merge, read_lora

    def merged(base: Path, adapter: Path, out: Path, scale: float) -> None:
        merge(base, read_lora(adapter), out, scale)

    return OpenVinoEngine(model, config, merged)


def check_engine(settings: SampleConfig) -> None:
    """Refuse settings that do not fit the engine."""
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
    """Refuse a server's settings for a local engine: a forgotten --engine is not guessed."""
    for name in ("base_url", "api_key_file", "model"):
        sampled = name == "model" and isinstance(settings, SampleConfig)
        if getattr(settings, name, None) and not sampled:
            flag = "--base-url" if name == "base_url" else f"--set {name}"
            raise LmsiError(f"{flag}: that is a server's", hint="give --engine openai with it")


def as_begun(run: RunDir, config: SampleConfig) -> SampleConfig:
    """Replace ``auto`` by the kind of cache and the file copy that the folder began with.

    A calibration made since then might choose differently. The width changes no bits, so it stays
    free.
    """
    begun = _begun(run) if run.paths.exists() else {}
    left = {k: v for k, v in begun.items() if getattr(config, k) == "auto"}
    return msgspec.structs.replace(config, **left)


def same_file(run: RunDir, config: EvalConfig) -> EvalConfig:
    """Use the fast copy of the model file if the run's paths were drawn from it, else the file."""
    if config.fast_copy != "auto":
        return config
    return msgspec.structs.replace(config, fast_copy=_begun(run).get("fast_copy", "auto"))


class Settling:
    """Writes down what ``auto`` resolved to, and says if a run continues with something else."""

    def __init__(self, run: RunDir, say: Callable[[str], None]) -> None:
        self._run, self._say = run, say
        self._now: Settled = {}

    def alone(self, engine: Engine) -> None:
        """Save and pin what the only engine has settled; called whenever that may have changed."""
        if (settled := engine.settled) and settled != self._now:
            self._save(settled)
            engine.pin(pinned(settled))

    def of_worker(self, settled: Settled | None) -> None:
        """Save the pinned part of what the first worker reports; later ones change nothing."""
        if not self._now and (kind := pinned(settled or {})):
            self._save(kind)

    def _save(self, settled: Settled) -> None:
        begun, now = _begun(self._run), pinned(settled)
        if begun not in ({}, now) and not self._now and self._run.has_paths():
            old, new = (
                " ".join(f"--set {k}={v}" for k, v in kind.items()) for kind in (begun, now)
            )
            self._say(
                f"{self._run.root}: so far drawn with {old}, now with {new}: the last bits of the "
                "new paths differ"
            )
        self._now = settled
        self._run.save_settings(ENGINE, dict(settled))


def _begun(run: RunDir) -> Settled:
    return pinned(run.load_settings().get(ENGINE, {}))
