"""One path: how it is requested, written token by token and ended, and how its answer is read.

Knows tokens, text and a watch, but no logits or cache: any engine may compute the tokens. A path
ends at an end token of the model, after its answer sentence, where it moves on to another question
or speaker, or at its limit:

    slot = Slot(request, path=0, seed=91)
    writer.write(slot, 284, -0.1)  # None: it goes on
    writer.write(slot, 17, -0.02)  # Generated("q7", path=0, text=" ... The answer is 4.", ...)
    to_path(generated, task)  # Path(predicted_answer="4", ...)
"""

from __future__ import annotations

import codecs
import math
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from lmsi_cli.answers import answer_end, next_turn
from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Engine, Generated, Request, Token, Wanted, Watch
from lmsi_cli.engine.checks import NotNumbersError
from lmsi_cli.engine.llama import LlamaModel
from lmsi_cli.prompts import Task, answer_in, for_path, render, rotates
from lmsi_cli.records import Path, PromptFormat, Question, StopReason
from lmsi_cli.thinking import answer_start

RUN_ON = "\nQ:"  # the model starts asking itself the next question
UTF8 = codecs.getincrementaldecoder("utf-8")  # a character may be split over several tokens
WORDS = 60  # characters of a question that are enough to find it in a file
LOOK_BACK = 400  # characters before the newest token at which an answer sentence may begin


class Slot:
    """One running path."""

    def __init__(self, request: Request, path: int, seed: int) -> None:
        self.request, self.path, self.seed = request, path, seed
        self.text, self.decode = request.begun, UTF8(errors="replace").decode
        self.tokens = 0
        self.drawn: list[Token] = []

    def finished(self, reason: StopReason, end: int | None = None) -> Generated:
        """The path as it leaves the engine, cut before character ``end``.

        A token is kept if it begins before the cut; later ones only showed that the path is over
        (after "is 3." a newline shows it, a 5 does not).
        """
        kept = tuple(t for t in self.drawn if end is None or t.start < end)
        logprob = math.fsum(t.logprob for t in kept) if self.drawn else None
        path = self.request.question_id, self.path, self.seed, self.text[:end]
        return Generated(*path, self.tokens, logprob, reason, kept)


class Writer(ABC):
    """Appends tokens to paths; a watch may call some of the paths needless."""

    def __init__(
        self, model: LlamaModel, sampling: SamplingConfig, trigger: str, watch: Watch | None = None
    ) -> None:
        self.model, self.sampling, self.trigger, self.watch = model, sampling, trigger, watch

    def needed(self, request: Request, waiting: Sequence[int]) -> int:
        """Count the waiting paths of a question that are certainly needed."""
        if self.watch is None:
            return len(waiting)
        end = self.watch.needed(request.question_id)
        return sum(request.wanted[i].path < end for i in waiting)

    def hand_over(self, ended: Sequence[Generated]) -> Iterator[Generated]:
        """Yield all paths that one step ended, and only then cancel those of decided questions."""
        yield from ended
        if self.watch is not None:
            touched = {g.question_id for g in ended}
            for slot in self.cancel({q for q in touched if self.watch.decided(q)}):
                self.watch.cancelled(slot.request.question_id, slot.path, slot.tokens)

    @abstractmethod
    def cancel(self, decided: set[str]) -> list[Slot]:
        """Drop all running and waiting paths of these questions; returns those that ran."""

    def write(self, slot: Slot, token: int, logprob: float) -> Generated | None:
        """Append a token to a path; returns the path if that ends it.

        NotNumbersError: the log-probability is NaN or infinite, as a single NaN logit makes it.
        """
        if not math.isfinite(logprob):
            raise NotNumbersError(slot.request.question_id)
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
        if answer is None:  # still thinking: an answer sentence does not count
            return None
        start = max(answer, before - LOOK_BACK)
        trigger = self.trigger  # empty: the text is no answer, so no sentence ends it
        if trigger and (end := answer_end(slot.text, trigger, start)) is not None:
            return slot.finished("answer", end)
        at = next_turn(slot.text, start, answer)
        return None if at is None else slot.finished("next_question", at)


def to_requests(
    engine: Engine,
    task: Task,
    question: Question,
    format: PromptFormat,
    wanted: Sequence[Wanted],
) -> list[Request]:
    """Build the requests for a question's paths, one per set of exemplars that they are shown.

    Path ``k`` is shown the task's template ``k`` modulo their number. A request with nothing wanted
    still shows what all prompts share.
    """
    turns = rotates(task, format)
    found = []
    for turn in range(turns):
        own = tuple(w for w in wanted if w.path % turns == turn)
        written = render(for_path(task, turn), question.question, format)
        ids, begun = engine.encode_prompt(written, task.variables)
        words = f'"{textwrap.shorten(question.question, WORDS, placeholder=" ...")}"'
        asked = (begun, turn, written, task.variables)
        found.append(Request(question.id, tuple(ids), own, words, *asked))
    return found


def to_path(g: Generated, task: Task, question: str = "") -> Path:
    """Read the answer in a generated text, after its thinking if there is any.

    The question's own words name its options, if it has any. A truncated text is read too, but
    will not vote.
    """
    found = answer_in(g.text, task, question)
    return Path(
        question_id=g.question_id,
        path=g.path,
        seed=g.seed,
        text=g.text,
        num_generated_tokens=g.tokens,
        logprob=g.logprob,
        stop_reason=g.stop_reason,
        predicted_answer=found.value if found else None,
        extract_rule=found.rule if found else None,
        mean_logprob=None if g.logprob is None or not g.drawn else g.logprob / len(g.drawn),
        answer_logprob=logprob_of(g.drawn, found.start, found.end) if found else None,
    )


def logprob_of(drawn: Sequence[Token], start: int, end: int) -> float | None:
    """Sum the log-probabilities of the tokens that share a character with ``text[start:end]``.

    Tokens that begin at the same place are the parts of one character (a minus sign may be three
    bytes in three tokens); they count together. None if the engine reported no tokens.
    """
    if not drawn:
        return None
    first = max((t.start for t in drawn if t.start <= start), default=0)
    return math.fsum(t.logprob for t in drawn if first <= t.start < end)
