"""What the batched sampler holds of the questions that are open and of the paths that run.

Knows tokens and text; nothing of llama.cpp or of where a path ends. A path after five tokens:

    Slot(request=Request("q7", ...), path=3, seed=91, text=" 2 + 2 = 4", tokens=5, first=None)
"""

from __future__ import annotations

import codecs
import math
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.engine.base import Generated, Request, Token
from lmsi_cli.records import StopReason

UTF8 = codecs.getincrementaldecoder("utf-8")  # a character may be split over several tokens


class Listed(deque[Request]):
    """A feed of requests that are all known before."""

    def __bool__(self) -> bool:
        """One is left."""
        return len(self) > 0

    def wait(self) -> bool:
        """Nothing more comes."""
        return False


class Opened(NamedTuple):
    """A question whose prompt is in the cache: its sequence, first logits and waiting paths."""

    request: Request
    sequence: int
    logits: NDArray[np.float32]
    waiting: deque[int]


class Slot:
    """One running path, or the reply to what followed it."""

    def __init__(
        self, request: Request, path: int, seed: int, begun: str, first: Generated | None = None
    ) -> None:
        self.request, self.path, self.seed, self.first = request, path, seed, first
        self.text, self.decode = begun, UTF8(errors="replace").decode
        self.tokens = 0
        self.drawn: list[Token] = []

    def finished(self, reason: StopReason, end: int | None = None) -> Generated:
        """The path as it leaves the engine, cut before character ``end``.

        A token is kept if it begins before the cut; the others only showed that the path is over
        (the 3 in "is 3.5" would not have).
        """
        kept = self.drawn if end is None else [t for t in self.drawn if t.start < end]
        return Generated(
            self.request.question_id,
            self.path,
            self.seed,
            self.text[:end],
            self.tokens,
            math.fsum(t.logprob for t in kept),
            reason,
            tuple(kept),
            self.first,
        )

    @property
    def spent(self) -> int:
        """Tokens drawn for it, those of the path before it included."""
        return self.tokens + (self.first.tokens if self.first else 0)

    @property
    def in_cache(self) -> tuple[int, ...]:
        """The tokens that its sequence holds: all but the last, which was never decoded."""
        return self.request.prompt + tuple(t.id for t in self.drawn[:-1])
