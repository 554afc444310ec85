r"""The paper's four formats: a question and a task in, prompt and completion text out.

Knows no tokens, chat templates, models or files. A prompt never ends in a space and a completion
begins with exactly one, so that their concatenation is the paper's Table 2 (Huang et al. 2022,
arXiv 2210.11610); the paper separates blocks with a newline, we with a blank line.

    render(task, "What is 6 * 7?", "cot-zero")
    -> "Q: What is 6 * 7?\nA: Let's think step by step."
    completion(task, path)
    -> " 6 * 7 = 42. The answer is 42."

A question is data. Its line ends are made ``\n`` and its outer blanks are dropped; everything
else, a forged "Q:" line included, stays as written: it can spoil only its own prompt, which holds
no other question, and altering it would be answering a different question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from msgspec import Meta

from lmsi_cli.answers import answer_end, before_run_on
from lmsi_cli.records import Exemplar, Path, PromptFormat, Question, Record, TrainExample


class Task(Record, frozen=True, kw_only=True):
    """How one kind of question is asked: exemplars, the words around them, the kind of answer.

    ``kind`` is a key of ``answers.KINDS``; ``chance`` is the share of right answers by guessing
    (0 to 1), ``None`` where guessing is hopeless.
    """

    name: Annotated[str, Meta(min_length=1)]
    kind: str
    exemplars: tuple[Exemplar, ...]
    trigger: Annotated[str, Meta(min_length=1)] = "The answer is"
    cot_cue: Annotated[str, Meta(min_length=1)] = "Let's think step by step."
    description: str = ""
    chance: Annotated[float, Meta(ge=0, le=1)] | None = None


def render(task: Task, question: str, format: PromptFormat) -> str:
    """Write the prompt for one question, as text that ends in "A:" or in the cue.

    Args:
        task: Supplies exemplars, trigger and cue.
        question: The question's own words.
        format: ``cot-few`` and ``direct-few`` put the exemplars in front, with and without their
            rationales; ``cot-zero`` ends in the cue; ``direct-zero`` is the bare question.
    """
    blocks = [_exemplar(task, e, format) for e in task.exemplars] if format.endswith("few") else []
    cue = f" {task.cot_cue.strip()}" if format == "cot-zero" else ""
    return "\n\n".join([*blocks, f"Q: {clean(question)}\nA:{cue}"])


def completion(task: Task, path: Path) -> str:
    """Write a path as the model shall learn it: one leading space, ending with its answer sentence.

    A path that never says the trigger (its answer came from a fallback rule) is kept whole up to a
    run-on question: these are the model's own words, and none are added.
    """
    text = before_run_on(path.text)
    return f" {text[: answer_end(text, task.trigger)].strip()}"


def direct_completion(task: Task, answer: str) -> str:
    """Write the bare answer sentence, `` The answer is 42.``, with its leading space."""
    return f" {task.trigger.strip()} {answer}."


def examples(
    task: Task,
    question: Question,
    paths: Sequence[Path],
    answer: str,
    formats: Iterable[PromptFormat],
) -> list[TrainExample]:
    """Write one question's training examples.

    Args:
        task: Supplies exemplars, trigger and cue.
        question: Only its id and its words are read, never a gold answer.
        paths: The kept paths; without any there is no example.
        answer: The answer that won the vote.
        formats: Which formats to write. The chain-of-thought ones get one example per path; the
            direct ones one per question, because per path they would repeat the same pair.
    """
    found: list[TrainExample] = []
    for format in formats:
        prompt = render(task, question.question, format)
        pairs: list[tuple[str, int | None]] = [(completion(task, p), p.path) for p in paths]
        if format.startswith("direct"):
            pairs = [(direct_completion(task, answer), None)] if paths else []
        found += [
            TrainExample(
                prompt=prompt, completion=text, format=format, question_id=question.id, path=index
            )
            for text, index in pairs
        ]
    return found


def clean(question: str) -> str:
    r"""Normalise line ends to ``\n`` and drop outer blanks; see the module's note on data."""
    return question.replace("\r\n", "\n").replace("\r", "\n").strip()


def _exemplar(task: Task, exemplar: Exemplar, format: PromptFormat) -> str:
    """Write a worked example as a ``Q: ... A: ...`` block, with or without its rationale."""
    rationale = f" {exemplar.rationale.strip()}" if format == "cot-few" else ""
    answer = direct_completion(task, exemplar.answer)
    return f"Q: {clean(exemplar.question)}\nA:{rationale}{answer}"
