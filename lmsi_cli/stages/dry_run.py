r"""What `lmsi sample` would ask and what that would cost, without doing it.

Samples a few trial paths for their length, and measures the speed of the cache that the run would
get. Writes nothing. The first prompt is spelt from its token ids, which tells a control token from
text that looks like one:

    (Piece(text="<|im_start|>", mark=True), Piece(text="user\nTom has", mark=False), ...)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import msgspec

from lmsi_cli.config import LLAMA, SERVER, SamplingConfig
from lmsi_cli.engine.base import Request, blocks
from lmsi_cli.engine.cache_layout import bytes_of, need_of, shared_prefix
from lmsi_cli.engine.checks import split_for
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.prompts import rotates
from lmsi_cli.records import Progress, Record
from lmsi_cli.stages.pipeline import Job, open_engine, settle
from lmsi_cli.stages.sample import requests_of
from lmsi_cli.stages.trial import Trial
from lmsi_cli.tasks.wording import Wording

TRIAL_PATHS = 24
TRIAL_SECONDS = 30.0  # unfinished paths then count with all the tokens they may have
BESIDES_DECODING = 1.08  # drawing tokens, text and prompt copies; measured on the embedded model


class Piece(Record, frozen=True, kw_only=True):
    """A stretch of a prompt; ``mark``: a single control token, not text of a message."""

    text: str
    mark: bool


class Estimate(Record, frozen=True, kw_only=True):
    """Cost of a run in bytes, tokens and seconds; ``at_most``: some trial paths were unfinished."""

    width: int
    unified: bool
    cells: int
    cache_bytes: int
    model_bytes: int
    trial_paths: int
    tokens_per_path: float
    tokens_s: float
    seconds: float
    at_most: bool


class Preview(Record, frozen=True, kw_only=True):
    """The prompts of a run; lengths and ``shared_prefix`` (common to all prompts) in tokens.

    ``folds_system``: the template has no system role, so the system text opens the first turn.
    ``begun``: the start of the reply that the prompt already holds, such as an opened thinking
    block. ``templates``: how many prompts the paths of a question take in turn; the lengths are
    those of the first.
    """

    chat: bool
    why: str
    folds_system: bool
    begun: str
    prompt: tuple[Piece, ...]
    ids: tuple[int, ...]
    questions: int
    shortest: int
    median: float
    longest: int
    shared_prefix: int
    wording: Wording
    trial: Trial | None
    cost: Estimate
    templates: int = 1


def preview(job: Job, progress: Progress) -> Preview:
    """Write all prompts for a model file, count their tokens, and estimate the cost of the paths.

    Holds a trial of wordings if the run would. LmsiError: no question fits the context, or the chat
    template refuses the prompt.
    """
    if job.settings.engine not in (LLAMA, SERVER):
        progress.say("estimated for llama.cpp")
        job = job._replace(settings=msgspec.structs.replace(job.settings, engine=LLAMA))
    with open_engine(job) as engine:
        assert isinstance(engine, LlamaEngine)  # a server's prompts are its own
        asking = settle(job, engine, None, progress)
        task = asking.task
        requests = requests_of(job.questions, engine, task, asking.config)
        cost = estimate(requests, engine, asking.config, task.trigger)
        own = [r for r in requests if not r.block]  # of the first set of exemplars
        first, lengths = own[0], [len(r.prompt) for r in own]
        encoder = engine.encoder.given(task.variables)
        return Preview(
            chat=task.chat is not None,
            why=asking.why,
            folds_system=not isinstance(first.asked, str) and encoder.frame(first.asked).folds,
            begun=first.begun,
            prompt=tuple(Piece(text=t, mark=m) for t, m in encoder.runs(first.prompt) if t),
            ids=first.prompt,
            questions=len(own),
            shortest=min(lengths),
            median=statistics.median(lengths),
            longest=max(lengths),
            shared_prefix=shared_prefix([r.prompt for r in own]),
            wording=asking.wording,
            trial=asking.trial,
            cost=cost,
            templates=rotates(task, task.format),
        )


def request_there(job: Job, progress: Progress) -> dict[str, object]:
    """The first request that a server would get; its cost is known to the server alone."""
    with open_engine(job) as engine:
        assert not isinstance(engine, LlamaEngine)
        asking = settle(job, engine, None, progress, trial=False)
        first = requests_of(job.questions[:1], engine, asking.task, asking.config)[0]
        body = engine.first_body(first, asking.config)
    return {"request": body, "paths": len(job.questions) * job.settings.paths}


def estimate(
    requests: Sequence[Request], engine: LlamaEngine, config: SamplingConfig, trigger: str
) -> Estimate:
    """Sample a few paths of a run's requests and extrapolate to all of them.

    With ``--stop`` the time is an upper bound. LmsiError: no question fits the context, or the
    cache does not fit the memory.
    """
    fitting = split_for(engine, requests, config).fitting
    parts = blocks(fitting)
    need = max((need_of(part, config.max_tokens) for part in parts), key=lambda n: n.longest)
    layout, pace = engine.pace(need)
    lengths, open_ = _trial(fitting, engine, config, trigger)
    length = (sum(lengths) + open_ * config.max_tokens) / (len(lengths) + open_)
    paths, read = sum(len(r.wanted) for r in fitting), 0
    for part in parts:  # the prefix common to its prompts is read once
        prefix = shared_prefix([r.prompt for r in part])
        read += prefix + sum(len(r.prompt) - prefix for r in part)
    return Estimate(
        width=layout.width,
        unified=layout.unified,
        cells=layout.cells,
        cache_bytes=bytes_of(layout, engine.model.sizes),
        model_bytes=engine.model.bytes,
        trial_paths=len(lengths),
        tokens_per_path=length,
        tokens_s=pace.write / BESIDES_DECODING,
        seconds=paths * length * BESIDES_DECODING / pace.write + read / pace.read,
        at_most=open_ > 0,
    )


def _trial(
    requests: Sequence[Request], engine: LlamaEngine, config: SamplingConfig, trigger: str
) -> tuple[list[int], int]:
    """Tokens of each finished trial path, and how many paths did not finish in time."""
    requests = [r for r in requests if r.block == requests[0].block]
    spread = requests[:: max(1, len(requests) // TRIAL_PATHS)][:TRIAL_PATHS]
    each = max(1, TRIAL_PATHS // len(spread))
    asked = [r._replace(wanted=r.wanted[:each]) for r in spread]
    begun, lengths = time.monotonic(), list[int]()
    for path in engine.generate(asked, config, trigger):
        lengths.append(path.tokens)
        if time.monotonic() - begun > TRIAL_SECONDS:
            break
    return lengths, sum(len(r.wanted) for r in asked) - len(lengths)
