r"""From what an engine wrote to a path with its answer read, in one stage or in two.

Knows both sides, engine and answers, and nothing else:

    Generated("q7", 0, 91, " 2 + 2 = 4. The answer is 4.", ...) -> Path(predicted_answer="4", ...)

In two stages the rationale, the words that ask for its answer and the reply to them are one text:

    " 2 + 2 = 4.\nTherefore, the answer (arabic numerals) is 4."
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from lmsi_cli.answers import CUT_OFF, Extraction, before_run_on, extract, extract_second
from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Encoded, Engine, Follow, Generated, Request, Token, Wanted
from lmsi_cli.prompts import (
    TWO_STAGES,
    Task,
    answer_prompt,
    asked,
    for_path,
    render,
    rotates,
    second_words,
)
from lmsi_cli.records import Path, PromptFormat, Question
from lmsi_cli.thinking import answer_part

WORDS = 60  # characters of a question that are enough to find it in a file
REPLY = 32  # tokens of a second stage in plain text; as Kojima et al. 2022
SLACK = 16  # tokens that a rationale may grow by when it is spelt anew


def to_requests(
    engine: Engine,
    task: Task,
    question: Question,
    format: PromptFormat,
    wanted: Sequence[Wanted],
    longest: int = SamplingConfig().max_tokens,
) -> list[Request]:
    """Ask for paths of one question, in one request per set of exemplars that they are shown.

    One with nothing wanted still shows what all prompts share.

    Args:
        engine: Encodes the prompts.
        task: With its templates; path ``k`` is shown template ``k`` modulo their number.
        question: Its id and words.
        format: How it is asked.
        wanted: The paths.
        longest: Tokens that a chat model, which may think again, has for its second stage.
    """
    turns = rotates(task, format)
    found = []
    for turn in range(turns):
        own = tuple(w for w in wanted if w.path % turns == turn)
        written = render(for_path(task, turn), question.question, format)
        ids, begun = engine.encode_prompt(written, task.variables)
        words = f'"{textwrap.shorten(question.question, WORDS, placeholder=" ...")}"'
        follow = None
        if format == TWO_STAGES:
            follow = _follow(engine, task, question.question, len(ids), longest)
        asked = (begun, follow, turn, written, task.variables)
        found.append(Request(question.id, tuple(ids), own, words, *asked))
    return found


def _follow(engine: Engine, task: Task, question: str, prompt: int, longest: int) -> Follow:
    """The second stage of one question; ``prompt`` is the first one's length in tokens."""
    words = second_words(task, question)

    def ask(text: str) -> Encoded:
        prompt = answer_prompt(task, question, rationale(text))
        encoded = engine.encode_prompt(prompt, task.variables)
        return encoded._replace(begun=words) if isinstance(prompt, str) else encoded

    talks = task.chat is not None
    limit = longest if talks else REPLY
    room = len(ask(".").ids) - prompt + limit + SLACK
    return Follow(ask, task.trigger if talks else words, limit, room)


def rationale(text: str) -> str:
    """What of a first stage the second one goes on from."""
    return before_run_on(text).rstrip()


def to_path(generated: Generated, task: Task, question: str = "") -> Path:
    """Read the answer of a generated text, after its thinking if it thinks.

    The question's own words tell its options, if it has any. A truncated text is read too, but
    will not vote. In two stages it is the second one that may be truncated.
    """
    read = _in_one if generated.first is None else _in_two
    whole, found = read(generated, task, question)
    mean = None if whole.logprob is None or not whole.drawn else whole.logprob / len(whole.drawn)
    return Path(
        question_id=whole.question_id,
        path=whole.path,
        seed=whole.seed,
        text=whole.text,
        num_generated_tokens=whole.tokens,
        logprob=whole.logprob,
        stop_reason=whole.stop_reason,
        predicted_answer=found.value if found else None,
        extract_rule=found.rule if found else None,
        mean_logprob=mean,
        answer_logprob=logprob_of(whole.drawn, found.start, found.end) if found else None,
    )


def _in_one(g: Generated, task: Task, question: str) -> tuple[Generated, Extraction | None]:
    said = answer_part(g.text)
    found = extract(said, task.kind, task.trigger, asked(task, question))
    thought = len(g.text) - len(said)  # positions begin after it
    if found:
        found = found._replace(start=found.start + thought, end=found.end + thought)
    return g, found


def _in_two(g: Generated, task: Task, question: str) -> tuple[Generated, Extraction | None]:
    """Join a rationale, the words after it and the reply, of which its thinking is left out."""
    assert g.first is not None
    head, words = rationale(g.first.text), second_words(task, question)
    reply, begins = g.text or words, 0
    opening = f"{head}\n"
    if task.chat is not None:
        reply = answer_part(g.text).strip()
        begins, opening = g.text.rfind(reply), f"{opening}{words} "
    text, shift = opening + reply, len(opening) - begins
    drawn = [t for t in g.first.drawn if t.start < len(head)]
    drawn += [t._replace(start=t.start + shift) for t in g.drawn if t.start >= begins]
    found = extract_second(
        text, task.kind, asked(task, question), task.second_trigger, task.trigger
    )
    if found and g.first.stop_reason == "length":
        found = found._replace(rule=CUT_OFF)
    whole = g._replace(
        text=text,
        drawn=tuple(drawn),
        logprob=math.fsum(t.logprob for t in drawn or (*g.first.drawn, *g.drawn)),
        tokens=g.first.tokens + g.tokens,
        # whole if text follows it
        stop_reason="answer" if found and found.end < len(text) else g.stop_reason,
    )
    return whole, found


def logprob_of(drawn: Sequence[Token], start: int, end: int) -> float | None:
    """Sum the log-probabilities of the tokens that share a character with ``text[start:end]``.

    Tokens that begin at the same place are the parts of one character (a minus sign may be three
    bytes in three tokens); they count together. None if the engine did not tell its tokens.
    """
    if not drawn:
        return None
    first = max((t.start for t in drawn if t.start <= start), default=0)
    return math.fsum(t.logprob for t in drawn if first <= t.start < end)
