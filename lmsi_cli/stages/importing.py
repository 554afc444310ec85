r"""Answers of lm-evaluation-harness in, an evaluation comparable with ours out.

The file is what its `--log_samples` writes, ``samples_TASK_DATE.jsonl``: one line per question and
filter, the texts the same for each filter (lm_eval/evaluator.py, versions 0.4 to 0.4.9). ``doc`` is
the entry of the data set as its authors publish it. ``resps`` holds the texts before any filter,
one list per request:

    {"doc_id": 0, "doc": {"question": "...", "answer": "... #### 18"}, "target": "... #### 18",
     "arguments": {"gen_args_0": {"arg_0": "Question: ...\nAnswer:", "arg_1": {"until": [...]}}},
     "resps": [[" 9 * 2 = 18.\n#### 18"]], "filtered_resps": ["18"], "filter": "strict-match",
     "metrics": ["exact_match"], "doc_hash": "..", "exact_match": 1.0}

Our own answer reader reads the texts and marks them again. The harness's marks are kept, and the
disagreements counted. The files are those of ``lmsi eval``:

    eval/imported-samples_gsm8k-3f0a91c2.answers.jsonl  eval/samples_gsm8k-3f0a91c2.result.json
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.config import DEFAULT_TASK, EvalConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import write_records, write_struct
from lmsi_cli.records import Mode, Question
from lmsi_cli.reporting.comparison import compared
from lmsi_cli.reporting.grading import Candidate, Way, graded, line_of, ungraded
from lmsi_cli.reporting.results import Evaluation, Imported
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.asking import GENERIC_TASK, task_of
from lmsi_cli.stages.evaluate import marked, unread
from lmsi_cli.tasks.entries import Row
from lmsi_cli.tasks.loader import gold_answers, load_task
from lmsi_cli.tasks.readers import FIELDS, PASSAGES, json_lines, question_of, set_name, split_source

NO_TEXT = "its answers are likelihoods of given choices, not texts"
LAYOUT_HINT = "name the layout of its data set: --import gsm8k:FILE"
HINT = "give a samples_*.jsonl that lm-evaluation-harness wrote with --log_samples"


class Sample(NamedTuple):
    """One question with all texts that answer it, and the harness's own marks."""

    question: Question
    texts: tuple[str, ...]
    marks: dict[str, float]


def read_samples(source: str) -> list[Sample]:
    """Read a file of samples, one per question in the file's order.

    ``source`` is a file, or ``SET:FILE`` if ``doc`` is in the layout of a published set; otherwise
    ``doc`` needs the fields ``question`` and ``answer``.

    LmsiError: a line is no such sample, holds likelihoods, has no right answer, or contradicts an
    earlier line on the same question.
    """
    layout, file = split_source(source)
    found: dict[str, Sample] = {}
    for row in json_lines(file):
        for name in ("doc", "resps"):
            if name not in row.fields:
                raise LmsiError(f"{row.where}: no field '{name}'", hint=HINT)
        question = question_of(Row(row.where, _entry(row, layout)), layout)
        if question.answer is None:
            raise LmsiError(f"{row.where}: no right answer in its doc", hint=LAYOUT_HINT)
        new = Sample(question, tuple(_texts(row)), _marks(row.fields))
        if not new.texts:
            raise LmsiError(f"{row.where}: no reply in its resps", hint=HINT)
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


def _entry(row: Row, layout: str | None) -> dict[str, Any]:
    """The entry of the data set; without a layout the prompt and the target fill its gaps.

    If the prompt fills in for the question, it already holds any passage.
    """
    doc = row.fields["doc"]
    if not isinstance(doc, dict):
        raise LmsiError(f"{row.where}: field 'doc': expected an object", hint=HINT)
    if layout is not None:
        return doc
    own = FIELDS if "question" in doc else set(FIELDS) - set(PASSAGES)
    prompt: Any = row.fields.get("arguments")
    while isinstance(prompt, list | dict) and prompt:  # lists in older files, names in newer ones
        prompt = next(iter(prompt.values() if isinstance(prompt, dict) else prompt))
    plain = {k: v for k, v in doc.items() if k in own}
    return {"question": prompt or "", "answer": row.fields.get("target"), **plain}


def _texts(row: Row) -> Iterator[str]:
    """All texts of a question: several requests, each with its repeats."""
    resps = row.fields["resps"]
    for answers in resps if isinstance(resps, list) else [resps]:
        for text in answers if isinstance(answers, list) else [answers]:
            if not isinstance(text, str):
                hint = "import a task that generates its answers"
                raise LmsiError(f"{row.where}: {NO_TEXT}", hint)
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


PROGRAM = "lm-evaluation-harness"
NAME = "imported"


def import_samples(run: RunDir, source: str, settings: EvalConfig) -> tuple[Evaluation, Path]:
    """Mark another program's samples and write them as an evaluation of a run folder.

    The caller holds ``run`` (``locked``); ``source`` is as in ``read_samples``. Of the settings,
    task and limit count; the task is by default the set's, else the run's, else ``number``. If
    every question has one text, it counts as the first of ``modes``; otherwise all texts count as
    sampled paths. Returns the evaluation and its file.

    LmsiError: the file holds no samples, a right answer is not of the task's kind, or a write
    fails.
    """
    samples, name = read_samples(source)[: settings.limit or None], set_name(source)
    layout, file = split_source(source)
    named = layout if settings.task == DEFAULT_TASK else settings.task
    own = not named and "sample" in run.load_settings()
    task = task_of(run) if own else load_task(named or GENERIC_TASK)
    questions = [s.question for s in samples]
    gold = gold_answers(questions, task)
    paths = max(len(s.texts) for s in samples)
    mode: Mode = "sc" if paths > 1 else settings.modes[0]
    answers = [
        marked(unread(mode, q.id, i, text), q, task, gold[q.id])
        for q, texts, _ in samples
        for i, text in enumerate(texts)
    ]
    content = msgspec.json.encode([answers, msgspec.to_builtins(task), list(gold.items())])
    key = hashlib.sha256(content).hexdigest()[:8]
    kept = run.eval_answers(f"{NAME}-{name}-{key}")
    blank = ungraded(name, questions, gold, task, line_of(mode, paths))
    sittings = [(Way(0.0, 0, mode != "sc"), kept.name, answers)]
    found = compared([graded(blank, [(Candidate(NAME, None, {}), sittings)])])[0]
    imported = _imported(file, samples, found.variants[0].figures[0].scores)
    result = msgspec.structs.replace(found, imported=imported)
    write_records(kept, answers)
    target = run.eval_result(f"{name}-{key}")
    write_struct(target, result)
    return result, target


def _imported(file: str, samples: Sequence[Sample], scores: Sequence[float]) -> Imported:
    """The harness's marks that all questions have, and how often they differ from ours."""
    names = [n for n in samples[0].marks if all(n in s.marks for s in samples)]
    marks = {n: tuple(s.marks[n] for s in samples) for n in names}
    return Imported(
        file=file,
        program=PROGRAM,
        marks=marks,
        disagreements={
            n: sum(abs(a - b) > 0.5 for a, b in zip(scores, row, strict=True))
            for n, row in marks.items()
        },
    )
