"""From what an engine wrote to a path with its answer read.

Knows both sides, engine and answers, and nothing else:

    Generated("q7", 0, 91, " 2 + 2 = 4. The answer is 4.", ...) -> Path(predicted_answer="4", ...)
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from lmsi_cli.answers import extract
from lmsi_cli.engine.base import Engine, Generated, Request, Token, Wanted
from lmsi_cli.prompts import Task, asked, render
from lmsi_cli.records import Path, PromptFormat, Question
from lmsi_cli.thinking import answer_part

WORDS = 60  # characters of a question that are enough to find it in a file


def to_request(
    engine: Engine, task: Task, question: Question, format: PromptFormat, wanted: tuple[Wanted, ...]
) -> Request:
    """Ask for paths of one question; one with nothing wanted still shows what all prompts share."""
    written = render(task, question.question, format)
    prompt = engine.encode_prompt(written)
    words = textwrap.shorten(question.question, WORDS, placeholder=" ...")
    return Request(question.id, tuple(prompt.ids), wanted, f'"{words}"', prompt.begun, written)


def to_path(generated: Generated, task: Task, question: str = "") -> Path:
    """Read the answer of a generated text, after its thinking if it thinks.

    The question's own words tell its options, if it has any. A truncated text is read too, but
    will not vote.
    """
    found = extract(answer_part(generated.text), task.kind, task.trigger, asked(task, question))
    thought = len(generated.text) - len(answer_part(generated.text))  # positions begin after it
    return Path(
        question_id=generated.question_id,
        path=generated.path,
        seed=generated.seed,
        text=generated.text,
        num_generated_tokens=generated.tokens,
        logprob=generated.logprob,
        stop_reason=generated.stop_reason,
        predicted_answer=found.value if found else None,
        extract_rule=found.rule if found else None,
        mean_logprob=_mean(generated),
        answer_logprob=(
            logprob_of(generated.drawn, thought + found.start, thought + found.end)
            if found
            else None
        ),
    )


def _mean(generated: Generated) -> float | None:
    if generated.logprob is None or not generated.drawn:
        return None
    return generated.logprob / len(generated.drawn)


def logprob_of(drawn: Sequence[Token], start: int, end: int) -> float | None:
    """Sum the log-probabilities of the tokens that share a character with ``text[start:end]``.

    Tokens that begin at the same place are the parts of one character (a minus sign may be three
    bytes in three tokens); they count together. None if the engine did not tell its tokens.
    """
    if not drawn:
        return None
    first = max((t.start for t in drawn if t.start <= start), default=0)
    return math.fsum(t.logprob for t in drawn if first <= t.start < end)
