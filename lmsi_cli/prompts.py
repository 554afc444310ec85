r"""The paper's four formats: how to write prompts, and the completions to learn.

Knows no tokens, chat templates, models or files. A plain prompt never ends in a space and its
completion begins with exactly one, so that their concatenation is the paper's Table 2 (Huang et
al. 2022, arXiv 2210.11610); the paper separates blocks with a newline, we with a blank line.

    render(task, "What is 6 * 7?", "cot-zero")
    -> "Q: What is 6 * 7?\nA: Let's think step by step."
    completion(task, path)
    -> " 6 * 7 = 42. The answer is 42."

A chat model gets messages (``Task.chat``) with instructions, which it was trained to follow.

    render(chat_task, "What is 6 * 7?", "direct-zero")
    -> (Message(role="user", content="What is 6 * 7?\n\nReply with one short ..."),)

A question is data. Line ends become ``\n`` and outer blanks are dropped; everything else, even a
forged "Q:" line, stays as written: it can spoil only its own prompt, which holds no other question,
and an altered text would be a different question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from lmsi_cli.answers import Asked, Extraction, answer_end, before_run_on, extract, listed
from lmsi_cli.config import Variables, values_of
from lmsi_cli.records import (
    Exemplar,
    FewShot,
    FormatChoice,
    Message,
    Path,
    Preference,
    Prompt,
    PromptFormat,
    Question,
    Record,
    Template,
    TrainExample,
)
from lmsi_cli.thinking import answer_part

PAPER: tuple[PromptFormat, ...] = ("cot-few", "direct-few", "cot-zero", "direct-zero")


class Chat(Record, frozen=True, kw_only=True):
    """How a chat model is asked: exemplars as turns or in one message, and a system text or "".

    ``variables`` are those of its template.
    """

    few_shot: FewShot
    system: str
    variables: Variables = ()


class Task(Record, frozen=True, kw_only=True):
    """How one kind of question is asked: exemplars, the words around them, the kind of answer.

    ``kind`` is a key of ``answers.KINDS``; ``chance`` is the share of right answers by guessing
    (0 to 1), ``None`` where guessing is hopeless. ``percent`` makes 50% the same answer as 0.5 and
    1/2; otherwise a percent sign is a unit like any other. ``cot_request`` and ``direct_request``
    tell a chat model how to end, without a placeholder for the answer, which small models would
    copy; base models never see them. ``chat`` is set by the model and the command line, never by a
    task file. With several ``templates``, a question's paths use them in turn (``for_path``);
    ``exemplars`` are those of the first. ``sentence`` is how exemplars and training examples state
    their answer. ``prompt`` is the format of the prompts for paths; if a task file leaves it open,
    a trial may choose it (``tasks/wording.py``).
    """

    name: Annotated[str, Meta(min_length=1)]
    kind: str
    exemplars: tuple[Exemplar, ...]
    trigger: Annotated[str, Meta(min_length=1)] = "The answer is"
    cot_cue: Annotated[str, Meta(min_length=1)] = "Let's think step by step."
    cot_request: str = '{cue} Then finish with "{trigger}" and the answer alone.'
    direct_request: str = 'Reply with one short sentence only: "{trigger}" and the answer.'
    sentence: str = "{trigger} {answer}."
    description: str = ""
    chance: Annotated[float, Meta(ge=0, le=1)] | None = None
    percent: bool = False
    chat: Chat | None = None
    templates: tuple[Template, ...] = ()
    prompt: PromptFormat | None = None

    @property
    def format(self) -> PromptFormat:
        """The format of the paths, once it is settled."""
        return self.prompt or "cot-zero"

    @property
    def variables(self) -> Variables:
        """Values for the chat template, if there is one."""
        return self.chat.variables if self.chat else ()


def for_path(task: Task, path: int) -> Task:
    """The task with the exemplars for path number ``path`` of a question."""
    if not task.templates:
        return task
    own = task.templates[path % len(task.templates)]
    return msgspec.structs.replace(task, exemplars=own.exemplars)


def rotates(task: Task, format: PromptFormat) -> int:
    """How many different prompts the paths of one question have."""
    return max(1, len(task.templates)) if format.endswith("few") else 1


def asked(task: Task, question: str) -> Asked:
    """What the answer reader needs to know about a question and its task."""
    choices = listed(clean(question)) if task.kind == "choice" else ()
    return Asked(choices, task.percent, question)


def answer_in(text: str, task: Task, question: str) -> Extraction | None:
    """Read the answer to a question in a path's text, after its thinking if there is any."""
    said = answer_part(text)
    found = extract(said, task.kind, task.trigger, asked(task, question))
    thought = len(text) - len(said)
    return found and found._replace(start=found.start + thought, end=found.end + thought)


def render(task: Task, question: str, format: PromptFormat) -> Prompt:
    """Write the prompt for one question: text that ends in "A:" or in the cue, or messages.

    ``cot-few`` and ``direct-few`` put the exemplars in front, with and without their rationales;
    ``cot-zero`` ends in the cue; ``direct-zero`` is the bare question.
    """
    if task.chat is not None:
        return tuple(_conversation(task, task.chat, clean(question), format))
    cue = f" {task.cot_cue.strip()}" if format == "cot-zero" else ""
    blocks = [f"Q: {asks}\nA: {says}" for asks, says in _turns(task, format)]
    return "\n\n".join([*blocks, f"Q: {clean(question)}\nA:{cue}"])


def completion(task: Task, path: Path) -> Prompt:
    """Write a path as the model should learn it: without its thinking, ending with its answer.

    A path that never says the trigger (its answer came from a fallback rule) is kept whole up to a
    run-on question: nothing is added to the model's own words.
    """
    text = before_run_on(answer_part(path.text))
    return _said(task, text[: answer_end(text, task.trigger)].strip())


def rationale_of(task: Task, path: Path) -> str:
    """A path's words before the sentence that states its answer."""
    text = before_run_on(answer_part(path.text))
    place = text.lower().find(task.trigger.strip().lower())
    if place < 0:
        return text.strip()
    ends = (text.rfind(end, 0, place) + 1 for end in (". ", "! ", "? ", "\n"))
    return text[: max(ends)].strip()


def direct_completion(task: Task, answer: str) -> Prompt:
    """Write the bare answer sentence: ``The answer is 42.``."""
    return _said(task, _sentence(task, answer))


def formats_of(task: Task, wanted: Sequence[FormatChoice]) -> tuple[PromptFormat, ...]:
    """The formats to write; ``auto`` stands for the paper's four in plain text.

    In a conversation it stands for the run's own format: a chat model knows the others already,
    and each would cost as much training again.
    """
    own = PAPER if task.chat is None else (task.format,)
    found = [f for name in wanted for f in (own if name == "auto" else (name,))]
    return tuple(dict.fromkeys(found))


def examples(
    task: Task,
    question: Question,
    paths: Sequence[Path],
    answer: str,
    formats: Iterable[PromptFormat],
) -> list[TrainExample]:
    """Write one question's training examples; never reads its gold answer.

    ``paths`` are the kept ones, with the ``answer`` that won the vote; without any there is no
    example. The chain-of-thought formats get one example per path; the direct ones one per
    question, because per path they would repeat the same pair.
    """
    if not paths:
        return []
    reasoned: list[tuple[Prompt, int | None]] = [(completion(task, p), p.path) for p in paths]
    direct: list[tuple[Prompt, int | None]] = [(direct_completion(task, answer), None)]
    return [
        TrainExample(
            prompt=prompt,
            completion=text,
            format=format,
            question_id=question.id,
            path=index,
            chat_template_kwargs=values_of(task.variables),
        )
        for format in formats
        for prompt in [render(task, question.question, format)]
        for text, index in (direct if format.startswith("direct") else reasoned)
    ]


def preferences(
    task: Task,
    question: Question,
    pairs: Iterable[tuple[Path, Path, float]],
    formats: Sequence[PromptFormat],
) -> list[Preference]:
    """Write one question's pairs, in each of the formats that holds a rationale.

    ``pairs`` have the better path, the worse one, and how much the pair counts.
    """
    return [
        Preference(
            prompt=render(task, question.question, format),
            chosen=good,
            rejected=bad,
            weight=weight,
            format=format,
            question_id=question.id,
            chosen_path=chosen.path,
            rejected_path=rejected.path,
            chat_template_kwargs=values_of(task.variables),
        )
        for chosen, rejected, weight in pairs
        for good, bad in [(completion(task, chosen), completion(task, rejected))]
        for format in formats
        if format.startswith("cot")
    ]


def clean(question: str) -> str:
    r"""Normalise line ends to ``\n`` and drop outer blanks; see the module's note on data."""
    return question.replace("\r\n", "\n").replace("\r", "\n").strip()


def _said(task: Task, text: str) -> Prompt:
    """Put a completion in its form: after one space, or as the assistant's message."""
    return f" {text}" if task.chat is None else (Message(role="assistant", content=text),)


def _sentence(task: Task, answer: str) -> str:
    return task.sentence.replace("{trigger}", task.trigger.strip()).replace("{answer}", answer)


def _turns(task: Task, format: PromptFormat) -> Iterator[tuple[str, str]]:
    """The exemplars as question and reply, with or without the rationale; none for zero-shot."""
    for e in task.exemplars if format.endswith("few") else ():
        rationale = f"{e.rationale.strip()} " if format == "cot-few" else ""
        yield clean(e.question), rationale + _sentence(task, e.answer)


def _conversation(task: Task, chat: Chat, question: str, format: PromptFormat) -> Iterator[Message]:
    """Write the messages for one question, the system's first."""
    if chat.system.strip():
        yield Message(role="system", content=chat.system.strip())
    turns = list(_turns(task, format))
    if chat.few_shot == "message" and turns:
        blocks = [f"Q: {asks}\nA: {says}" for asks, says in turns]
        turns, question = [], "\n\n".join([*blocks, f"Q: {question}"])
    for asks, says in turns:
        yield _asked(task, asks, format)
        yield Message(role="assistant", content=says)
    yield _asked(task, question, format)


def _asked(task: Task, text: str, format: PromptFormat) -> Message:
    """Add the instructions for a chat model: the cue if it should reason, and how to end."""
    asked = task.direct_request
    if format.startswith("cot"):
        asked = task.cot_request.replace("{cue}", task.cot_cue.strip())
    asked = asked.replace("{trigger}", task.trigger.strip()).strip()
    words = asked if "{question}" in asked else f"{{question}}\n\n{asked}"
    return Message(role="user", content=words.replace("{question}", text).strip())
