r"""Answers of lm-evaluation-harness, from the files that its `--log_samples` writes.

Knows the layout of ``samples_TASK_DATE.jsonl``: one line per question and filter, the same texts
in each (lm_eval/evaluator.py, versions 0.4 to 0.4.9). ``doc`` is the entry of the data set as its
authors publish it, ``resps`` holds the texts before any filter, one list per request:

    {"doc_id": 0, "doc": {"question": "...", "answer": "... #### 18"}, "target": "... #### 18",
     "arguments": {"gen_args_0": {"arg_0": "Question: ...\nAnswer:", "arg_1": {"until": [...]}}},
     "resps": [[" 9 * 2 = 18.\n#### 18"]], "filtered_resps": ["18"], "filter": "strict-match",
     "metrics": ["exact_match"], "doc_hash": "..", "exact_match": 1.0}
    -> Sample(question=Question(id="q-..", ...), texts=(" 9 * 2 = 18. ...",),
              marks={"strict-match exact_match": 1.0})
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from math import isfinite
from typing import Any, NamedTuple

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question
from lmsi_cli.tasks.entries import Row
from lmsi_cli.tasks.readers import FIELDS, PASSAGES, json_lines, question_of, split_source

KNOWN = ("doc", "resps")
NO_TEXT = "its answers are likelihoods of given choices, not texts"
LAYOUT_HINT = "name the layout of its data set: --import gsm8k:FILE"
HINT = "give a samples_*.jsonl that lm-evaluation-harness wrote with --log_samples"


class Sample(NamedTuple):
    """One question with all texts that were written for it, and the harness's own marks."""

    question: Question
    texts: tuple[str, ...]
    marks: dict[str, float]


def read_samples(source: str) -> list[Sample]:
    """Read a file of samples, one per question in the file's order.

    Args:
        source: A file, or ``SET:FILE`` if ``doc`` is in the layout of a published set; otherwise
            it needs the fields ``question`` and ``answer``.

    Raises:
        LmsiError: A line is no such sample, holds likelihoods, has no right answer, or says
            another thing of a question than an earlier one.
    """
    layout, file = split_source(source)
    found: dict[str, Sample] = {}
    for row in json_lines(file):
        new = _sample(row, layout)
        seen = found.setdefault(new.question.id, new)
        if seen[:2] != new[:2]:
            raise LmsiError(
                f"{row.where}: question {new.question.id!r} was there before, with another text "
                "or answer",
                hint="give the samples of one task and one run",
            )
        seen.marks.update(new.marks)
    if not found:
        raise LmsiError(f"{file}: no samples in it", hint=HINT)
    return list(found.values())


def _sample(row: Row, layout: str | None) -> Sample:
    missing = [name for name in KNOWN if name not in row.fields]
    if missing:
        raise LmsiError(f"{row.where}: no field '{missing[0]}'", hint=HINT)
    question = question_of(Row(row.where, _entry(row, layout)), layout)
    if question.answer is None:
        raise LmsiError(f"{row.where}: no right answer in its doc", hint=LAYOUT_HINT)
    return Sample(question, tuple(_texts(row)), _marks(row.fields))


def _entry(row: Row, layout: str | None) -> dict[str, Any]:
    """The entry of the data set; without a layout the prompt and the target fill its gaps.

    A passage stands in the prompt already.
    """
    doc = row.fields["doc"]
    if not isinstance(doc, dict):
        raise LmsiError(f"{row.where}: field 'doc': expected an object", hint=HINT)
    if layout is not None:
        return doc
    own = FIELDS if "question" in doc else set(FIELDS) - set(PASSAGES)
    plain = {k: v for k, v in doc.items() if k in own}
    return {"question": _prompt(row.fields), "answer": row.fields.get("target"), **plain}


def _prompt(fields: dict[str, Any]) -> object:
    """What the model was shown; older files hold lists, newer ones named arguments."""
    prompt = fields.get("arguments")
    while isinstance(prompt, list | dict) and prompt:
        prompt = next(iter(prompt.values() if isinstance(prompt, dict) else prompt))
    return prompt or ""


def _texts(row: Row) -> Iterator[str]:
    """All texts of a question: several requests, each with its repeats."""
    resps = row.fields["resps"]
    for answers in resps if isinstance(resps, list) else [resps]:
        for text in answers if isinstance(answers, list) else [answers]:
            if not isinstance(text, str):
                raise LmsiError(
                    f"{row.where}: {NO_TEXT}", hint="import a task that generates its answers"
                )
            yield text


def _marks(fields: dict[str, Any]) -> dict[str, float]:
    """The metrics of a line that have a value, under its filter; older files name no metrics."""
    named = fields.get("metrics")
    names: Iterable[Any] = named if isinstance(named, list) else ("exact_match", "acc")
    filter_ = fields.get("filter", "none")
    values = {name: fields.get(name) for name in names if isinstance(name, str)}
    return {
        f"{filter_} {name}": float(value)
        for name, value in values.items()
        if isinstance(value, int | float | Decimal) and isfinite(value)
    }
