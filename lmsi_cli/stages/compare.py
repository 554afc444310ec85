"""Find two evaluations on disk and compare them; runs no model and writes nothing.

A place is a result file, or a run folder with the name of a data set. Of several results on one
data set the newest counts.

    compare(Path("runs/a"), Path("runs/b"), data="test") -> Opposed(evaluation=..., flips=...)
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from lmsi_cli.errors import LmsiError
from lmsi_cli.reporting.distillation import OWN_STUDENT, Distillation, distillation
from lmsi_cli.reporting.pairwise import Opposed, Side, opposed
from lmsi_cli.reporting.results import Evaluation, answers_of, newest_results, read_evaluation
from lmsi_cli.run_folder import RunDir, teacher_of

ALONE = "was measured without an adapter, so there is nothing to compare"
UNTRAINED = "the student was measured without an adapter"


def compare(a: Path, b: Path, data: str = "", line: str = "") -> Opposed:
    """Compare the last models of two evaluations, or the base and the last model of a single one.

    ``line`` is the one whose flips are listed; by default the deciding one.

    LmsiError as ``find_result``; there is no such line; they have no question in common.
    """
    files = [find_result(place, data) for place in (a, b)]
    same = files[0].samefile(files[1])
    sides = []
    for place, file, number in zip((a, b), files, (0 if same else -1, -1), strict=True):
        e = _trained(place, file, ALONE) if same else read_evaluation(file)
        variant = e.mains[number]
        sides.append(Side(str(place), e, variant, answers_of(variant, file.parent)))
    return opposed(sides[0], sides[1], line)


def distilled(
    teacher: Path, student: Path, data: str = "", line: str = "", own: Path | None = None
) -> Distillation:
    """Teacher and student, each before and after training, on the same questions.

    ``own`` is the place of the student's model trained on its own paths, if there is one. Without
    an adapter the teacher was not trained. ``line`` is by default the deciding one of the student.

    LmsiError as ``find_result``; the student is untrained or had another teacher; or questions,
    models or ways of asking differ.
    """
    one = read_evaluation(find_result(teacher, data))
    other = _trained(student, find_result(student, data), UNTRAINED)
    origin = teacher_of(RunDir(student)) if student.is_dir() else None
    if origin and one.source and one.source.get("sha256") != origin["model_sha256"]:
        raise LmsiError(
            f"{student}: learned from the votes of {origin['run']}, not from those of "
            f"{one.source.get('file')}",
            hint=f"`lmsi compare {quote(origin['run'])} {quote(str(student))} --distilled`",
        )
    who = {"teacher": Side(str(teacher), one, one.mains[0])}
    if len(one.mains) > 1:
        who["trained teacher"] = Side(str(teacher), one, one.mains[-1])
    who["student"] = Side(str(student), other, other.mains[0])
    who["trained student"] = Side(str(student), other, other.mains[-1])
    if own:
        found = _trained(own, find_result(own, data), UNTRAINED)
        if found.source.get("sha256") != other.source.get("sha256"):
            raise LmsiError(
                f"{own}: measures {found.source.get('file')}, and the student of {student} is "
                f"{other.source.get('file')}",
                hint="--own takes a run of the student's own file",
            )
        who[OWN_STUDENT] = Side(str(own), found, found.mains[-1])
    return distillation(who, line or other.primary)


def _trained(place: Path, file: Path, problem: str) -> Evaluation:
    """Read an evaluation of a model with its adapter; LmsiError: the problem of one without."""
    e = read_evaluation(file)
    if len(e.mains) < 2:
        hint = f"`lmsi eval {quote(str(place))}` after it was trained"
        raise LmsiError(f"{place}: {problem}", hint)
    return e


def find_result(place: Path, data: str = "") -> Path:
    """The result file of a place; LmsiError: none, or ``data`` does not say which of several."""
    if place.is_file():
        return place
    found = newest_results(RunDir(place))
    names = ", ".join(sorted(found))
    if not found:
        hint = f"run `lmsi eval {quote(str(place))} --data FILE` first"
        raise LmsiError(f"{place}: no evaluation in it", hint)
    if not data and len(found) > 1:
        raise LmsiError(f"{place}: evaluations on {names}", hint="say which: --data NAME")
    name = data or next(iter(found))
    if name not in found:
        raise LmsiError(f"{place}: no evaluation on {name}", hint=f"there are: {names}")
    return found[name]
