"""The batched sampler: many paths of many questions in one decode, sharing every prompt.

Knows tokens, slots and one LlamaContext; nothing of files, votes or answers beyond where to stop.
Sequence 0 holds the prefix that all prompts share; each open question owns one sequence with its
own tokens; each path owns one slot and pays only for the tokens it writes. Slots at some moment:

    sequence 0: prefix | 5: question q7 | 1: q7 path 0, 31 tokens | 2: q7 path 1, 8 | 3: free
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.answers import answer_end
from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Generated, Request
from lmsi_cli.engine.llama import LlamaContext
from lmsi_cli.engine.sampling import draw, uniforms
from lmsi_cli.records import StopReason
from lmsi_cli.thinking import answer_start

RUN_ON = "\nQ:"  # the model starts asking itself the next question
LOOK_BACK = 400  # characters before the newest token that an answer sentence may reach back


def shared_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """Length of the longest common start that leaves each prompt at least one token."""
    if not prompts:
        return 0
    low, high = min(prompts), max(prompts)  # all others lie between the extremes
    n = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return max(0, min(n, min(map(len, prompts)) - 1))


class _Opened(NamedTuple):
    """A question whose prompt is in the cache: its sequence, first logits and waiting paths."""

    request: Request
    sequence: int
    logits: NDArray[np.float32]
    waiting: deque[int]


class _Filling:
    """A question whose prompt is still being read, ``done`` tokens so far."""

    def __init__(self, request: Request, sequence: int, done: int) -> None:
        self.request, self.sequence, self.done = request, sequence, done
        self.row: int | None = None  # output row of the last prompt token, in the current batch


class _Slot:
    """One running path."""

    def __init__(self, request: Request, path: int, seed: int) -> None:
        self.request, self.path, self.seed = request, path, seed
        self.text, self.tail = request.begun, b""
        self.tokens, self.logprob = 0, 0.0

    def finished(self, text: str, logprob: float, reason: StopReason) -> Generated:
        """The path as it leaves the engine."""
        return Generated(
            self.request.question_id, self.path, self.seed, text, self.tokens, logprob, reason
        )


class BatchedSampler:
    """Continuous batching over one context; iterate ``run()`` for finished paths."""

    def __init__(
        self, context: LlamaContext, width: int, sampling: SamplingConfig, trigger: str
    ) -> None:
        self.context, self.model, self.width = context, context.model, width
        self.sampling, self.trigger = sampling, trigger
        self.slots: list[_Slot | None] = [None] * width
        self.token = np.zeros(width, np.int32)  # next token to decode, per slot
        self.pos = np.zeros(width, np.int32)  # its position
        self.step = np.zeros(width, np.uint64)  # numbers used of the slot's random stream
        self.seed = np.zeros(width, np.uint64)
        self.free_sequences = deque(range(width + 1, 2 * width + 1))
        self.opened: deque[_Opened] = deque()
        self.filling: deque[_Filling] = deque()
        self.prefix = 0

    def run(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """Draw every wanted path; yields each at the step that ends it."""
        self.queue = deque(r for r in requests if r.wanted)
        self._read_prefix([r.prompt for r in self.queue])
        while True:
            yield from self._start_paths()
            self._open_questions()
            live = self._fill_batch()
            if not self.context.batch.size:
                return
            self.context.decode()
            yield from self._advance(live)

    # -- prompts ---------------------------------------------------------------------------

    def _read_prefix(self, prompts: Sequence[tuple[int, ...]]) -> None:
        self.prefix = shared_prefix(prompts)
        batch = self.context.batch
        for at in range(0, self.prefix, batch.capacity):
            chunk = np.asarray(prompts[0][at : min(at + batch.capacity, self.prefix)], np.int32)
            batch.clear()
            batch.add(chunk, np.arange(at, at + len(chunk), dtype=np.int32), 0, 0)
            self.context.decode()

    def _open_questions(self) -> None:
        """Begin reading prompts until the free slots are spoken for."""
        promised = sum(len(o.waiting) for o in self.opened)
        promised += sum(len(f.request.wanted) for f in self.filling)
        free = sum(s is None for s in self.slots)
        while self.queue and self.free_sequences and promised < free:
            request = self.queue.popleft()
            sequence = self.free_sequences.popleft()
            self.context.share(0, sequence)
            self.filling.append(_Filling(request, sequence, self.prefix))
            promised += len(request.wanted)

    def _fill_batch(self) -> NDArray[np.intp]:
        """One token per running path, then as much of the waiting prompts as fits."""
        batch = self.context.batch
        batch.clear()
        live = np.flatnonzero([s is not None for s in self.slots])
        batch.add(self.token[live], self.pos[live], live + 1, 1)
        rows = len(live)
        for filling in self.filling:
            filling.row = None
            prompt, at = filling.request.prompt, filling.done
            chunk = np.asarray(prompt[at : at + batch.capacity - batch.size], np.int32)
            if not len(chunk):
                break
            filling.done += len(chunk)
            out = np.zeros(len(chunk), np.int8)
            if filling.done == len(prompt):
                out[-1], filling.row, rows = 1, rows, rows + 1
            batch.add(chunk, np.arange(at, at + len(chunk), dtype=np.int32), filling.sequence, out)
        return live

    # -- paths -----------------------------------------------------------------------------

    def _start_paths(self) -> Iterator[Generated]:
        """Put waiting paths into free slots; their first token costs no decode."""
        for slot in [i for i, s in enumerate(self.slots) if s is None]:
            while self.slots[slot] is None and self.opened:
                yield from self._start_one(slot, self.opened[0])
                if not self.opened[0].waiting:
                    self._close_question(self.opened.popleft())

    def _start_one(self, slot: int, opened: _Opened) -> Iterator[Generated]:
        wanted = opened.request.wanted[opened.waiting.popleft()]
        self.context.share(opened.sequence, slot + 1)
        self.slots[slot] = _Slot(opened.request, wanted.path, wanted.seed)
        self.seed[slot], self.step[slot] = wanted.seed, 0
        self.pos[slot] = len(opened.request.prompt) - 1
        yield from self._take(np.array([slot]), opened.logits[None, :])

    def _close_question(self, opened: _Opened) -> None:
        self.context.drop(opened.sequence)
        self.free_sequences.append(opened.sequence)

    def _advance(self, live: NDArray[np.intp]) -> Iterator[Generated]:
        """Read the logits of a decoded batch: next tokens for paths, first ones for questions."""
        done = [f for f in self.filling if f.row is not None]
        logits = self.context.logits(len(live) + len(done))
        for f in done:
            assert f.row is not None
            waiting = deque(range(len(f.request.wanted)))
            self.opened.append(_Opened(f.request, f.sequence, logits[f.row].copy(), waiting))
            self.filling.remove(f)
        if len(live):
            yield from self._take(live, logits[: len(live)])

    def _take(self, slots: NDArray[np.intp], logits: NDArray[np.float32]) -> Iterator[Generated]:
        """Draw one token for each of ``slots`` and end the paths that are complete."""
        u = uniforms(self.seed[slots], self.step[slots])
        tokens, logprobs = draw(logits, u, self.sampling)
        self.token[slots] = tokens
        self.pos[slots] += 1
        self.step[slots] += np.uint64(1)
        for slot, token, logprob in zip(slots, tokens.tolist(), logprobs.tolist(), strict=True):
            ended = self._write(self.slots[slot], token, logprob)
            if ended is not None:
                self.slots[slot] = None
                self.context.drop(int(slot) + 1)
                yield ended

    def _write(self, slot: _Slot | None, token: int, logprob: float) -> Generated | None:
        """Append a token to a path; returns the path if that ends it."""
        assert slot is not None
        slot.tokens += 1
        if self.model.ends(token):
            return slot.finished(slot.text, slot.logprob + logprob, "eos")
        before = len(slot.text)
        slot.tail += self.model.piece(token)
        try:
            slot.text, slot.tail = slot.text + slot.tail.decode(), b""
        except UnicodeDecodeError:  # a character may be split over several tokens
            if len(slot.tail) >= 4:
                slot.text, slot.tail = slot.text + slot.tail.decode(errors="replace"), b""
        ended = self._stop(slot, before, logprob)
        slot.logprob += logprob
        if ended is None and slot.tokens >= self.sampling.max_tokens:
            return slot.finished(slot.text, slot.logprob, "length")
        return ended

    def _stop(self, slot: _Slot, before: int, logprob: float) -> Generated | None:
        """End a path at its answer sentence or at a run-on question.

        The token that shows that the sentence is over (the 3 in "is 3.5" would not) is dropped
        with its log-probability, unless part of it belongs to the answer.
        """
        answer = answer_start(slot.text)
        if answer is None:  # still thinking: no answer sentence in there is the answer
            return None
        start = max(answer, before - LOOK_BACK)
        end = answer_end(slot.text, self.trigger, start)
        reason: StopReason = "answer"
        if end is None:
            at = slot.text.find(RUN_ON, start)
            if at < 0:
                return None
            end, reason = at, "next_question"
        kept = slot.logprob + (logprob if end > before else 0.0)
        return slot.finished(slot.text[:end], kept, reason)
