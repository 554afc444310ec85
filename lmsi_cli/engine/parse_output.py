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
from lmsi_cli.prompts import Task, asked, for_path, render, rotates
from lmsi_cli.records import Path, PromptFormat, Question
from lmsi_cli.thinking import answer_part

WORDS = 60  # characters of a question that are enough to find it in a file


def to_requests(
    engine: Engine,
    task: Task,
    question: Question,
    format: PromptFormat,
    wanted: Sequence[Wanted],
) -> list[Request]:
    """Ask for paths of one question, in one request per set of exemplars that they are shown.

    One with nothing wanted still shows what all prompts share.

    Args:
        engine: Encodes the prompts.
        task: With its templates; path ``k`` is shown template ``k`` modulo their number.
        question: Its id and words.
        format: How it is asked.
        wanted: The paths.
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
    """Read the answer of a generated text, after its thinking if it thinks.

    The question's own words tell its options, if it has any. A truncated text is read too, but
    will not vote.
    """
    said = answer_part(g.text)
    found = extract(said, task.kind, task.trigger, asked(task, question))
    thought = len(g.text) - len(said)  # positions begin after it
    start, end = (found.start + thought, found.end + thought) if found else (0, 0)
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
        answer_logprob=logprob_of(g.drawn, start, end) if found else None,
    )


def logprob_of(drawn: Sequence[Token], start: int, end: int) -> float | None:
    """Sum the log-probabilities of the tokens that share a character with ``text[start:end]``.

    Tokens that begin at the same place are the parts of one character (a minus sign may be three
    bytes in three tokens); they count together. None if the engine did not tell its tokens.
    """
    if not drawn:
        return None
    first = max((t.start for t in drawn if t.start <= start), default=0)
    return math.fsum(t.logprob for t in drawn if first <= t.start < end)
