"""Answers of another program in, an evaluation out that can be compared with ours.

Knows the samples of lm-evaluation-harness as ``tasks/harness.py`` reads them. Texts are read by
our own reader of answers and marked anew; the harness's marks are kept beside, and it is counted
where they differ. The files are those of ``lmsi eval``:

    eval/imported-samples_gsm8k-3f0a91c2.answers.jsonl  eval/samples_gsm8k-3f0a91c2.result.json
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lmsi_cli.answers import extract
from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import DEFAULT_TASK, EvalConfig
from lmsi_cli.jsonl import write_records
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Mode
from lmsi_cli.reporting.comparison import compared
from lmsi_cli.reporting.grading import Candidate, Way, graded, line_of, ungraded
from lmsi_cli.reporting.results import Answer, Evaluation, Imported
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.asking import GENERIC_TASK, task_of
from lmsi_cli.tasks.golds import gold_answers
from lmsi_cli.tasks.harness import Sample, read_samples
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.readers import set_name, split_source
from lmsi_cli.thinking import answer_part

PROGRAM = "lm-evaluation-harness"
NAME = "imported"


def import_samples(run: RunDir, source: str, settings: EvalConfig) -> tuple[Evaluation, Path]:
    """Mark another program's samples and write them as an evaluation of a run folder.

    Args:
        run: Held by the caller (``locked``).
        source: The file, with the set's name before a colon where it is a known one.
        settings: Task and limit; where a question has one text, the first mode is what it counts
            as. Several are sampled paths.

    Returns:
        The evaluation and its file.

    Raises:
        LmsiError: The file holds no samples, a right answer is not of the task's kind, or a write
            fails.
    """
    samples = read_samples(source)[: settings.limit or None]
    task, name = _task(run, source, settings.task), set_name(source)
    questions = [s.question for s in samples]
    gold = gold_answers(questions, task)
    paths = max(len(s.texts) for s in samples)
    mode: Mode = "sc" if paths > 1 else settings.modes[0]
    answers = [a for s in samples for a in _answers(s, task, gold[s.question.id], mode)]
    content = msgspec.json.encode([answers, msgspec.to_builtins(task), list(gold.items())])
    key = hashlib.sha256(content).hexdigest()[:8]
    kept = run.eval_answers(f"{NAME}-{name}-{key}")
    blank = ungraded(name, questions, gold, task, line_of(mode, paths))
    sittings = [(Way(0.0, 0, mode != "sc"), kept.name, answers)]
    found = compared([graded(blank, [(Candidate(NAME, None, {}), sittings)])])[0]
    imported = _imported(split_source(source)[1], samples, found.variants[0].figures[0].scores)
    result = msgspec.structs.replace(found, imported=imported)
    write_records(kept, answers)
    target = run.eval_result(f"{name}-{key}")
    write_atomic(target, msgspec.json.format(msgspec.json.encode(result)))
    return result, target


def _task(run: RunDir, source: str, name: str) -> Task:
    """The task by name; by default the set's, else the run's, else numbers."""
    layout = split_source(source)[0]
    if name != DEFAULT_TASK or layout is not None:
        return load_task(layout if name == DEFAULT_TASK and layout else name)
    return task_of(run) if "sample" in run.load_settings() else load_task(GENERIC_TASK)


def _answers(sample: Sample, task: Task, gold: str, mode: Mode) -> list[Answer]:
    """Read each text; what it cost is not known."""
    question = sample.question
    asked_question = asked(task, question.question)
    found = [extract(answer_part(t), task.kind, task.trigger, asked_question) for t in sample.texts]
    return [
        Answer(
            question_id=question.id,
            mode=mode,
            path=i,
            text=text,
            predicted_answer=answer.value if answer else None,
            correct=answer is not None and answer.value == gold,
            num_generated_tokens=0,
            seconds=0.0,
        )
        for i, (text, answer) in enumerate(zip(sample.texts, found, strict=True))
    ]


def _imported(file: str, samples: Sequence[Sample], scores: Sequence[float]) -> Imported:
    """The harness's marks that every question has, and how often they differ from ours."""
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
