r"""What `lmsi sample` would ask, without asking: the form, the first prompt, and token counts.

Knows questions, a vocabulary and the prompts made of both; needs no weights and writes nothing.
The first prompt is spelt from its ids: a control token is told from a text that looks like one.

    Preview(chat=True, why="the file has a chat template", folds_system=False, questions=400,
            prompt=(Piece(text="<|im_start|>", mark=True), Piece(text="user\nTom has", mark=False),
            ...), ids=(151644, 872, ...), shortest=96, median=118.0, longest=164, shared_prefix=3)
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from lmsi_cli.engine.base import Encoded
from lmsi_cli.engine.cache_layout import shared_prefix
from lmsi_cli.engine.encode import ChatMode, Encoder
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import TWO_STAGES, Task, render, rotates, second_words
from lmsi_cli.records import Prompt, Question, Record


class Piece(Record, frozen=True, kw_only=True):
    """A stretch of a prompt; ``mark``: one token that stands for no text of the messages."""

    text: str
    mark: bool


class Preview(Record, frozen=True, kw_only=True):
    """The prompts of a run; lengths and ``shared_prefix`` (common to all prompts) in tokens.

    ``folds_system``: the template knows no system message, so its text opens the first turn.
    ``begun``: what the prompt's end already says of the reply, an opened thinking block.
    ``second``: the words of the first question's second stage, if there is one; ``templates``: how
    many different prompts the paths of a question take in turn, of which the first are counted.
    """

    chat: bool
    why: str
    folds_system: bool
    begun: str
    prompt: tuple[Piece, ...]
    ids: tuple[int, ...]
    questions: int
    shortest: int
    median: float
    longest: int
    shared_prefix: int
    second: str = ""
    templates: int = 1


def preview(
    questions: Sequence[Question], encoder: Encoder, task: Task, choice: ChatMode
) -> Preview:
    """Write all prompts and count their tokens.

    Args:
        questions: All of the run.
        encoder: The model's vocabulary and template.
        task: How the questions are asked; already made a conversation if ``choice`` says so.
        choice: Conversation or plain text, and why.

    Raises:
        LmsiError: There are no questions, or the chat template refuses the prompt.
    """
    prompts = [render(task, q.question, task.format) for q in questions]
    if not prompts:
        raise LmsiError("no questions to show a prompt for")
    encoder = encoder.given(task.variables)
    encoded = [encoder.prompt(p) for p in prompts]
    lengths = [len(e.ids) for e in encoded]
    return Preview(
        chat=choice.chat,
        why=choice.why,
        folds_system=_folds(prompts[0], encoder),
        begun=encoded[0].begun,
        prompt=tuple(Piece(text=t, mark=m) for t, m in encoder.runs(encoded[0].ids) if t),
        ids=tuple(encoded[0].ids),
        questions=len(prompts),
        shortest=min(lengths),
        median=statistics.median(lengths),
        longest=max(lengths),
        shared_prefix=_shared(encoded),
        second=second_words(task, questions[0].question) if task.format == TWO_STAGES else "",
        templates=rotates(task, task.format),
    )


def _folds(prompt: Prompt, encoder: Encoder) -> bool:
    return not isinstance(prompt, str) and encoder.frame(prompt).folds


def _shared(encoded: Sequence[Encoded]) -> int:
    """Tokens that the KV cache holds once for all prompts."""
    return shared_prefix([tuple(e.ids) for e in encoded])
