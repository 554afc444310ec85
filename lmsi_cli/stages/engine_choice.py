"""``--engine auto``: OpenVINO where it is installed and was measured to be clearly faster.

Both decode the same model file; which one is faster depends on the file's types and on the CPU. So
a long job begins with half a minute of measuring. The result is kept per machine, file and version:

    {"openvino": 388.0, "llama": 284.0}
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from lmsi_cli.config import AUTO, LLAMA, OPENVINO, EngineName, SampleConfig, SamplingConfig
from lmsi_cli.engine.base import Request, Wanted
from lmsi_cli.engine.cache_layout import Need
from lmsi_cli.engine.cpu_check import recall, remember
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.fast_copy import SMALLEST, TEXT, verdict_file
from lmsi_cli.engine.openvino import other_than_plain
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress, Record
from lmsi_cli.run_folder import RunDir

FASTER = 1.2  # times as fast as llama.cpp that OpenVINO has to be
JOB = 500  # paths; a smaller job ends before the measurement has paid
PROMPT, TOKENS, PATHS = 256, 64, 64  # of the measurement: about the middle of a path of a real job
BUDGET = 256  # tokens of a path that are reckoned with where the trial has yet to tell
FIRST = SamplingConfig(temperature=1, top_k=0, max_tokens=1)  # loads the pipeline and the prompt

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
