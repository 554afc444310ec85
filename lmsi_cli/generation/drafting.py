r"""What a model is shown so that it writes one more question, and what it wrote.

Knows seed questions and how a task is asked; nothing of tokens, files or what becomes of a draft. A
base model goes on with a list, a chat model is told to:

    draft_prompt(["What is 1 + 2?", "What is 3 * 4?"], None)
    -> "Q: What is 1 + 2?\n\nQ: What is 3 * 4?\n\nQ:"

One line of ``drafts.jsonl``; ``prompt`` is the prompt's number, ``shown`` the ids of its seeds:

    {"num_generated_tokens": 9, "path": 0, "prompt": 3, "seed": 812733, "shown": ["q7", "q2"],
     "stop_reason": "eos", "text": " What is 5 - 4?"}
"""

from __future__ import annotations

from collections.abc import Sequence

from lmsi_cli.prompts import Chat, clean
from lmsi_cli.records import Message, Prompt, Record, StopReason

REQUEST = (
    "Write one new question of the same kind. It must not repeat any of these; change what it is "
    "about. Write the question alone, without its answer."
)


class Draft(Record, frozen=True, kw_only=True):
    """One text that a model wrote where a question was due, as it left the engine."""

    prompt: int
    path: int
    seed: int
    shown: tuple[str, ...]
    text: str
    num_generated_tokens: int
    stop_reason: StopReason


def draft_prompt(shown: Sequence[str], chat: Chat | None) -> Prompt:
    """Write a prompt whose continuation is a question.

    Args:
        shown: The seed questions, in the order in which they stand; at least one.
        chat: How a conversation is held; ``None`` for plain text.
    """
    blocks = [f"Q: {clean(question)}" for question in shown]
    if chat is None:
        return "\n\n".join([*blocks, "Q:"])
    system = [Message(role="system", content=chat.system.strip())] if chat.system.strip() else []
    text = "\n\n".join(["Here are some questions.", *blocks, REQUEST])
    return (*system, Message(role="user", content=text))
