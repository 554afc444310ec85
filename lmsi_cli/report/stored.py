"""Result files and the answers beside them, read back; those of older versions, too.

Knows both shapes of the file. An older one held the answers themselves and two fixed models; its
figures are computed again from the answers.

    read_evaluation(Path("runs/a/eval/test-77d01e5c.result.json")) -> Evaluation(data="test", ...)
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object, read_records
from lmsi_cli.records import Mode, Record
from lmsi_cli.report.comparison import compared
from lmsi_cli.report.figures import ORDER, line_of
from lmsi_cli.report.marking import Marking, Model, Way
from lmsi_cli.report.results import BASE, Answer, Evaluation, Labelled, Variant


class _Older(Record, frozen=True, kw_only=True):
    """A result file before there were variants; its ``lines`` and shares are computed again."""

    data: str
    n: int
    lines: msgspec.Raw
    mean_share: msgspec.Raw
    gold: dict[str, str]
    answers: dict[str, tuple[Answer, ...]]
    skipped: tuple[str, ...] = ()


def read_evaluation(path: Path) -> Evaluation:
    """Read a result file.

    Raises:
        LmsiError: It is missing, or no result of `lmsi eval`.
    """
    try:
        data = path.read_bytes()
        if "variants" in read_object(path):
            return msgspec.json.decode(data, type=Evaluation)
        return _renewed(msgspec.json.decode(data, type=_Older))
    except OSError as e:
        raise LmsiError(f"{path}: cannot be read: {e.strerror}") from e
    except msgspec.ValidationError as e:
        raise LmsiError(
            f"{path}: not a result of `lmsi eval`: {e}",
            hint="give a file that ends in .result.json, or a run folder",
        ) from None


def answers_of(variant: Variant, folder: Path) -> list[Answer]:
    """The answers of a variant from the files beside its result; empty if they are gone."""
    files = [folder / name for name in variant.answers if name]
    return [a for f in files if f.exists() for a in read_records(f, Answer)]


def _renewed(old: _Older) -> Evaluation:
    """Bring an older result to the record of today."""
    found = [a for own in old.answers.values() for a in own]
    paths = 1 + max((a.path for a in found), default=0)
    modes = {a.mode for a in found}
    first: Mode = next((m for m in (*ORDER[1:], ORDER[0]) if m in modes), "cot")
    questions = [Labelled(id=q, question="", gold=g) for q, g in old.gold.items()]
    marking = Marking(old.data, questions, line_of(first, paths))
    for name, own in old.answers.items():
        adapter = None if name == BASE else name
        marking.add(Model(name, adapter), [(Way(0.0, 0, True), "", own)])
    result = msgspec.structs.replace(marking.result("", ""), skipped=old.skipped)
    return compared([result])[0]
