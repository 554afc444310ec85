"""One path as it is written token by token, and where it ends; whatever computes the tokens.

Knows tokens, text and a watch; no logits and no cache. A path ends with the model's own end, at its
answer sentence, where it goes on to another question or speaker, or at its limit:

    slot = Slot(request, path=0, seed=91, begun="")
    writer.write(slot, 284, -0.1)  # None: it goes on
    writer.write(slot, 17, -0.02)  # Generated("q7", path=0, text=" ... The answer is 4.", ...)
"""

from __future__ import annotations

import codecs
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from lmsi_cli.answers import answer_end, next_turn
from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Generated, Request, Token, Watch
from lmsi_cli.engine.llama import LlamaModel
from lmsi_cli.records import StopReason
from lmsi_cli.thinking import answer_start

RUN_ON = "\nQ:"  # the model starts asking itself the next question
UTF8 = codecs.getincrementaldecoder("utf-8")  # a character may be split over several tokens
LOOK_BACK = 400  # characters before the newest token that an answer sentence may reach back


class Slot:
    """One running path."""

    def __init__(self, request: Request, path: int, seed: int, begun: str) -> None:
        self.request, self.path, self.seed = request, path, seed
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
        )


class Writer(ABC):
    """Appends tokens to paths, of which a watch may call some needless."""

    def __init__(
        self, model: LlamaModel, sampling: SamplingConfig, trigger: str, watch: Watch | None = None
    ) -> None:
        self.model, self.sampling, self.trigger, self.watch = model, sampling, trigger, watch

    def needed(self, request: Request, waiting: Sequence[int]) -> int:
        """Count the waiting paths of a question that are needed for certain."""
        if self.watch is None:
            return len(waiting)
        end = self.watch.needed(request.question_id)
        return sum(request.wanted[i].path < end for i in waiting)

    def hand_over(self, ended: Sequence[Generated]) -> Iterator[Generated]:
        """Yield the paths that one step ended; asks only then, so that none of them is lost."""
        yield from ended
        if self.watch is not None:
            touched = {g.question_id for g in ended}
            for slot in self.cancel({q for q in touched if self.watch.decided(q)}):
                self.watch.cancelled(slot.request.question_id, slot.path, slot.tokens)

    @abstractmethod
    def cancel(self, decided: set[str]) -> list[Slot]:
        """Give up all that runs or waits for these questions; returns what ran."""

    def write(self, slot: Slot, token: int, logprob: float) -> Generated | None:
        """Append a token to a path; returns the path if that ends it."""
        slot.tokens += 1
        before = len(slot.text)
        slot.drawn.append(Token(token, before, logprob))
        if self.model.ends(token):
            return slot.finished("eos")
        slot.text += slot.decode(self.model.piece(token))
        ended = self._stop(slot, before)
        cut = ended is None and slot.tokens >= self.sampling.max_tokens
        return slot.finished("length") if cut else ended

    def _stop(self, slot: Slot, before: int) -> Generated | None:
        """End a path at its answer sentence, or where it goes on to another question or speaker."""
        answer = answer_start(slot.text)
        if answer is None:  # still thinking: no answer sentence in there is the answer
            return None
        start = max(answer, before - LOOK_BACK)
        trigger = self.trigger  # empty: text that is no answer runs to its limit
        if trigger and (end := answer_end(slot.text, trigger, start)) is not None:
            return slot.finished("answer", end)
        at = next_turn(slot.text, start, answer)
        return None if at is None else slot.finished("next_question", at)
