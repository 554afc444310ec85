"""What the driver and its workers tell one another: records, sent as JSON.

Knows neither Ray nor engines. Ray itself pickles the arguments of a call; all that is ours in them
is bytes, and decoding these makes records and nothing else. One order and a report on it:

    {"number": 4, "questions": [{"id": "q7", "question": "...", "paths": [3, 5], "told": []}]}
    {"paths": [{"question_id": "q7", "path": 3, ...}], "ended": [], "refused": [], ...}
"""

from __future__ import annotations

import msgspec

from lmsi_cli.config import SampleConfig
from lmsi_cli.prompts import Task
from lmsi_cli.records import Path, Record


class Job(Record, frozen=True, kw_only=True):
    """What a worker has to be before it draws: the files by their hashes, and the settings.

    ``model`` and ``adapter`` are paths that hold on every machine. ``adapter`` is empty for none.
    """

    model: str
    model_sha256: str
    settings: SampleConfig
    adapter: str = ""
    adapter_sha256: str = ""
    adapter_scale: float = 1.0
    lmsi: str


class Ready(Record, frozen=True, kw_only=True):
    """A worker has loaded its model; or ``error`` says why not, with a ``hint``.

    ``chat`` and ``why`` are what its file makes of ``--chat auto``.
    """

    node: str
    chat: bool = False
    why: str = ""
    error: str = ""
    hint: str = ""


class Start(Record, frozen=True, kw_only=True):
    """How questions are asked. ``shown`` are some whose prompts tell what all have in common.

    ``paths`` is about how many one worker will draw.
    """

    task: Task
    shown: tuple[str, ...]
    paths: int


class Asked(Record, frozen=True, kw_only=True):
    """A question, the paths that it lacks, and the ballots of those it has, where they count."""

    id: str
    question: str
    paths: tuple[int, ...]
    told: tuple[tuple[int, str | None], ...] = ()


class Order(Record, frozen=True, kw_only=True):
    """A block of questions for one worker."""

    number: int
    questions: tuple[Asked, ...]


class Refused(Record, frozen=True, kw_only=True):
    """A question that does not fit the model's context, with the start of its words."""

    question_id: str
    words: str
    why: str


class Report(Record, frozen=True, kw_only=True):
    """What happened at a worker since its last report; counts are of that time alone.

    ``ended`` are the numbers of orders that it is through with, ``stopped`` counts questions that
    ``--stop`` left with fewer paths, ``cancelled`` the paths given up for that, with their tokens.
    ``settled`` is what came of ``auto``. ``error`` ends the run: drawing failed, in words.
    """

    paths: tuple[Path, ...] = ()
    ended: tuple[int, ...] = ()
    refused: tuple[Refused, ...] = ()
    stopped: int = 0
    cancelled: int = 0
    cancelled_tokens: int = 0
    settled: dict[str, int | str] = msgspec.field(default_factory=dict)
    error: str = ""
    hint: str = ""


def sent(record: Record) -> bytes:
    """A record as it travels."""
    return msgspec.json.encode(record)
