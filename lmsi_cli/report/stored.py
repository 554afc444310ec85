"""Result files and the answers beside them, read back.

read_evaluation(Path("runs/a/eval/test-77d01e5c.result.json")) -> Evaluation(data="test", ...)
exams_of(RunDir("runs/a")) -> [Exam(evaluation=Evaluation(...), answers={"base": [...]})]
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records
from lmsi_cli.report.results import Answer, Evaluation, Variant
from lmsi_cli.run_folder import RESULT, RunDir


class Exam(NamedTuple):
    """One data set: its newest evaluation, and the answers of each model."""

    evaluation: Evaluation
    answers: dict[str, list[Answer]]


def read_evaluation(path: Path) -> Evaluation:
    """Read a result file.

    Raises:
        LmsiError: It is missing, or no result of `lmsi eval`.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except OSError as e:
        raise LmsiError(f"{path}: cannot be read: {e.strerror}") from e
    except msgspec.DecodeError as e:
        raise LmsiError(
            f"{path}: not a result of `lmsi eval`: {e}",
            hint="give a file that ends in .result.json, or a run folder",
        ) from None


def answers_of(variant: Variant, folder: Path) -> list[Answer]:
    """The answers of a variant from the files beside its result; empty if they are gone."""
    files = [folder / name for name in variant.answers if name]
    return [a for f in files if f.exists() for a in read_records(f, Answer)]


def exams_of(run: RunDir) -> list[Exam]:
    """The newest evaluation of each data set; those with a comparison first.

    Raises:
        LmsiError: A result file cannot be read.
    """
    files = sorted(run.eval_dir.glob(f"*{RESULT}"), key=lambda f: (f.stat().st_mtime, f.name))
    newest = {e.data: e for e in map(read_evaluation, files)}
    found = sorted(newest.values(), key=lambda e: not e.pairs)
    return [Exam(e, {v.model: answers_of(v, run.eval_dir) for v in e.mains}) for e in found]
