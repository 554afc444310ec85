"""What came of ``auto`` and is pinned for a run: the kind of cache that its paths are drawn in.

A path's last bits depend on it, and with them a token now and then; so a run goes on as it was
begun, alone or spread, on whatever machine. Knows one section of run.toml and whom to tell:

    [engine]
    kv = "split"
    flash_attn = "on"
    fast_copy = "off"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from lmsi_cli.config import EngineConfig, SampleConfig
from lmsi_cli.engine.base import Engine
from lmsi_cli.run_folder import RunDir

ENGINE = "engine"  # the section of run.toml for what came of `auto`
PINNED = ("kv", "flash_attn", "fast_copy")  # of these, what a path's last bits depend on

Settled = Mapping[str, int | str]
AnyConfig = TypeVar("AnyConfig", bound=EngineConfig)


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


def pinned(settled: Settled) -> Settled:
    """The part that a path's last bits depend on."""
    return {k: settled[k] for k in PINNED if k in settled}


def _flags(kind: Settled) -> str:
    return " ".join(f"--set {k}={v}" for k, v in kind.items())
