"""The batched sampler: many paths of many questions in one decode, sharing every prompt.

Knows slots and one LlamaContext; the ``Writer`` decides how a path is written and where it ends.
Each path owns one slot and pays only for the tokens it writes. One sequence holds the prefix that
all prompts share, and each open question has one for its prompt. When a watch calls a question
decided, its running paths are cancelled and their slots reused. A snapshot at width 3:

    0: q7 path 0, 31 tokens | 1: q7 path 1, 8 | 2: free | 3: the prefix | 4: the prompt of q7
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Generated, Request, Watch
from lmsi_cli.engine.cache_layout import ROWS, shared_prefix
from lmsi_cli.engine.context import LlamaContext
from lmsi_cli.engine.paths import Slot, Writer
from lmsi_cli.engine.sampling import draw, uniforms


class Opened(NamedTuple):
    """A question whose prompt is in the cache: its sequence, first logits and waiting paths."""

    request: Request
    sequence: int
    logits: NDArray[np.float32]
    waiting: deque[int]


class BatchedSampler(Writer):
    """Continuous batching over one context; iterate ``run()`` for finished paths.

    Slot i is sequence i, which keeps the running paths adjacent: a split cache decodes only
    adjacent sequences in one pass. The prefix's sequence and those of open questions follow.
    """

    def __init__(
        self,
        context: LlamaContext,
        sampling: SamplingConfig,
        trigger: str,
        watch: Watch | None = None,
    ) -> None:
        super().__init__(context.model, sampling, trigger, watch)
        self.context, self.width = context, context.layout.width
        self.slots: list[Slot | None] = [None] * self.width
        self.token = np.zeros(self.width, np.int32)  # next token to decode, per slot
        self.pos = np.zeros(self.width, np.int32)  # its position
        self.step = np.zeros(self.width, np.uint64)  # numbers used from the slot's random stream
        self.seed = np.zeros(self.width, np.uint64)
        self.prefix_sequence = self.width
        self.free_sequences = deque(range(self.width + 1, context.layout.sequences))
        self.opened: deque[Opened] = deque()
        self.prefix = 0

    def run(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """Draw every wanted path of undecided questions; yields each at the step that ends it.

        Requests with nothing wanted contribute only to the prefix.
        """
        self.queue = deque(r for r in requests if r.wanted)
        prompts = [r.prompt for r in requests if r.prompt]  # finished ones, too
        self.prefix = shared_prefix(prompts)
        if self.prefix:
            self.context.read(prompts[0][: self.prefix], 0, self.prefix_sequence)
        while True:
            yield from self._start_paths()
            live = self._close_gaps()
            if not live:
                return
            yield from self._step(live)

    # -- prompts ---------------------------------------------------------------------------

    def _open_question(self) -> None:
        """Read the next question's own part of its prompt.

        It is decoded alone, not beside the running paths: a prompt is wide enough to keep the
        processor busy, and a split cache would need a second pass for it anyway.
        """
        request, sequence = self.queue.popleft(), self.free_sequences.popleft()
        if self.prefix:
            self.context.share(self.prefix_sequence, sequence)
        self.context.read(request.prompt[self.prefix :], self.prefix, sequence)
        waiting = deque(range(len(request.wanted)))
        self.opened.append(Opened(request, sequence, self.context.logits(1)[0].copy(), waiting))

    # -- paths -----------------------------------------------------------------------------

    def _start_paths(self) -> Iterator[Generated]:
        """Put waiting paths into free slots; their first token costs no decode."""
        for slot in [i for i, s in enumerate(self.slots) if s is None]:
            while self.slots[slot] is None:
                opened = self._next_question()
                if opened is None:
                    return
                wanted = opened.request.wanted[opened.waiting.popleft()]
                self.context.share(opened.sequence, slot)
                self.slots[slot] = Slot(opened.request, *wanted)
                self.seed[slot], self.step[slot] = wanted.seed, 0
                self.pos[slot] = len(opened.request.prompt) - 1
                yield from self._take(np.array([slot]), opened.logits[None, :])
                self._close_drained()

    def _next_question(self) -> Opened | None:
        """The oldest question with a needed path; else the one with the lowest waiting path."""
        while True:
            needed = next((o for o in self.opened if self.needed(o.request, o.waiting)), None)
            if needed is not None:
                return needed
            if not (self.queue and self.free_sequences):
                break
            self._open_question()
        return min(self.opened, key=lambda o: o.request.wanted[o.waiting[0]].path, default=None)

    def _close_drained(self) -> None:
        """Free the sequences of questions that have no waiting path left."""
        for drained in [o for o in self.opened if not o.waiting]:
            self.context.drop(drained.sequence)
            self.free_sequences.append(drained.sequence)
        self.opened = deque(o for o in self.opened if o.waiting)

    def cancel(self, decided: set[str]) -> list[Slot]:
        """Drop all running and waiting paths of these questions; returns those that ran."""
        given_up = list[Slot]()
        for i, slot in enumerate(self.slots):
            if slot is not None and slot.request.question_id in decided:
                given_up.append(slot)
                self._free(i)
        for opened in self.opened:
            if opened.request.question_id in decided:
                opened.waiting.clear()
        self._close_drained()
        return given_up

    def _free(self, slot: int) -> None:
        self.slots[slot] = None
        self.context.drop(slot)

    def _close_gaps(self) -> int:
        """Move the last paths into free slots; returns how many paths run."""
        live = [i for i, s in enumerate(self.slots) if s is not None]
        gaps = [i for i in range(len(live)) if self.slots[i] is None]
        for source, target in zip(reversed(live), gaps, strict=False):
            self.context.share(source, target)
            self.context.drop(source)
            self.slots[target], self.slots[source] = self.slots[source], None
            for numbers in (self.token, self.pos, self.step, self.seed):
                numbers[target] = numbers[source]
        return len(live)

    def _step(self, live: int) -> Iterator[Generated]:
        """Decode one token for each of the first ``live`` slots.

        A split cache's batch is padded with rows that nobody reads, so that a path's logits are
        bit-identical whatever else runs; see ``cache_layout.ROWS``. A unified cache cannot promise
        that, since its sums also depend on where the cells lie.
        """
        full = live if self.context.layout.unified else min(-(-live // ROWS) * ROWS, self.width)
        self.token[live:full] = self.pos[live:full] = 0
        slots = np.arange(full)
        self.context.decode(self.token[:full], self.pos[:full], slots, 1)
        for idle in range(live, full):
            self.context.drop(idle)
        yield from self._take(slots[:live], self.context.logits(live))

    def _take(self, slots: NDArray[np.intp], logits: NDArray[np.float32]) -> Iterator[Generated]:
        """Draw one token for each of ``slots`` and end the paths that are complete."""
        with np.errstate(invalid="ignore"):  # ``write`` refuses logits that are not numbers
            u = uniforms(self.seed[slots], self.step[slots])
            tokens, logprobs = draw(logits, u, self.sampling)
        self.token[slots] = tokens
        self.pos[slots] += 1
        self.step[slots] += np.uint64(1)
        ended = []
        for slot, token, logprob in zip(slots, tokens.tolist(), logprobs.tolist(), strict=True):
            held = self.slots[slot]
            assert held is not None
            path = self.write(held, token, logprob)
            if path is not None:
                self._free(int(slot))
                ended.append(path)
        yield from self.hand_over(ended)
