"""From what an engine wrote to a path with its answer read.

Knows both sides, engine and answers, and nothing else:

    Generated("q7", 0, 91, " 2 + 2 = 4. The answer is 4.", ...) -> Path(predicted_answer="4", ...)
"""

from __future__ import annotations

import textwrap

from lmsi_cli.answers import extract
from lmsi_cli.engine.base import Engine, Generated, Request, Wanted
from lmsi_cli.prompts import Task, render
from lmsi_cli.records import Path, PromptFormat, Question
from lmsi_cli.thinking import answer_part

WORDS = 60  # characters of a question that are enough to find it in a file


def to_request(
    engine: Engine, task: Task, question: Question, format: PromptFormat, wanted: tuple[Wanted, ...]
) -> Request:
    """Ask for paths of one question; a question with nothing wanted costs nothing."""
    if not wanted:
        return Request(question.id, (), ())
    prompt = engine.encode_prompt(render(task, question.question, format))
    words = textwrap.shorten(question.question, WORDS, placeholder=" ...")
    return Request(question.id, tuple(prompt.ids), wanted, f'"{words}"', prompt.begun)


def to_path(generated: Generated, task: Task) -> Path:
    """Read the answer of a generated text, after its thinking if it thinks.

    A truncated text is read too, but will not vote.
    """
    found = extract(answer_part(generated.text), task.kind, task.trigger)
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
    )
