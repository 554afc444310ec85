"""What a peer is asked to do, and what is measured of it; one of each is shown in ``peers.py``."""

from __future__ import annotations

import msgspec

from lmsi_cli.config import SamplingConfig

# The same chain for everybody; the penalties that some peers add by default are off.
SAMPLING = {"temperature": 0.7, "top_k": 40, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
STOP = "\nQ:"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Paths to draw from prompts of token ids."""

    model: str
    prompts: list[list[int]]
    paths: int
    max_tokens: int
    threads: int
    server: str = ""
    settings: dict[str, str | int] = {}


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one peer; ``detail`` holds seconds of parts, where they are known."""

    peer: str
    paths: int
    tokens: int
    seconds: float
    peak_bytes: int
    detail: dict[str, float] = {}


def sampling_config(job: Job) -> SamplingConfig:
    """The job in lmsi's own terms; ``settings`` are engine options set by hand."""
    return msgspec.convert(
        {
            "temperature": SAMPLING["temperature"],
            "top_k": SAMPLING["top_k"],
            "max_tokens": job.max_tokens,
            "threads": job.threads,
            **job.settings,
        },
        SamplingConfig,
        strict=False,
    )
