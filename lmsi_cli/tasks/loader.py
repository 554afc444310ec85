"""Tasks by name or by file: the TOML files beside this module, or the user's own.

Knows nothing of models or prompts beyond the record they fill. Also checks questions against their
task: options where it needs them, right answers of its kind. A task is one file:

    name = "number"
    kind = "number"

    [[exemplars]]
    question = "What is 6 * 7?"
    rationale = "6 * 7 = 42."
    answer = "42"

Several sets of exemplars, which the paths of a question take in turn, are ``[[templates]]``, each
with ``[[templates.exemplars]]`` of its own.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lmsi_cli.answers import KINDS, canonical, extract, listed
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import UNREADABLE, Exemplar, Question, Record, Template

_FOLDER = Path(__file__).parent
SOUND = "`lmsi tasks show number` prints a sound task"
AnyRecord = TypeVar("AnyRecord", bound=Record)


def task_names() -> list[str]:
    """List the names of the tasks that come with the package."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def summaries() -> list[Task]:
    """All tasks of the package, unchecked: listing them must not need a task's optional package."""
    return [msgspec.convert(read_toml(find_task(name)), Task) for name in task_names()]


def load_task(name_or_path: str) -> Task:
    """Load a task by its name, or from a file if the name ends in ``.toml`` or has a folder.

    LmsiError: there is no such task, or its file is not a sound task; names file and field.
    """
    path = find_task(name_or_path)
    fields = read_toml(path)
    templates = fields.get("templates")
    if "chat" in fields:
        raise LmsiError(f"{path}: chat: no field of a task; use --chat and --set few_shot", SOUND)
    if templates and "exemplars" in fields:
        raise LmsiError(f"{path}: templates: a task has exemplars or templates, not both", SOUND)
    if isinstance(templates, list) and templates and isinstance(templates[0], dict):
        # Where a single set of exemplars is needed, it is the first template's.
        fields["exemplars"] = templates[0].get("exemplars", ())
    task = converted(fields, Task, str(path), SOUND)
    if task.kind not in KINDS:
        hint = f"kinds: {', '.join(sorted(KINDS))}"
        raise LmsiError(f"{path}: kind: unknown answer kind {task.kind!r}", hint=hint)
    if wrong := next(_mistakes(task), ""):
        raise LmsiError(f"{path}: {wrong}", SOUND)
    return task


def find_task(name_or_path: str) -> Path:
    """Find a task's file; see ``load_task``."""
    if name_or_path in task_names():
        return _FOLDER / f"{name_or_path}.toml"
    path = Path(name_or_path)
    hint = f"tasks: {', '.join(task_names())}; or give the path of a .toml file"
    if path.suffix != ".toml" and len(path.parts) < 2:
        raise LmsiError(f"no task {name_or_path!r}", hint=hint)
    if not path.is_file():
        raise LmsiError(f"{path}: no such file", hint=hint)
    return path


def _mistakes(task: Task) -> Iterator[str]:
    """Find exemplars that would teach a model a form that the answer reader misreads."""
    sets = {f"template {n}: ": t.exemplars for n, t in enumerate(task.templates, 1)}
    for place, exemplars in (sets or {"": task.exemplars}).items():
        if sets and not exemplars:
            yield f"{place}exemplars: there is none"
        for n, exemplar in enumerate(exemplars, 1):
            if wrong := wrong_exemplar(exemplar, task):
                yield f"{place}exemplar {n}: {wrong}"


def wrong_exemplar(exemplar: Exemplar, task: Task) -> str:
    """What is wrong with an exemplar of a task; empty if nothing is."""
    for name in Exemplar.__struct_fields__:
        if not getattr(exemplar, name).strip():
            return f"{name}: is blank"
    if task.kind == "choice" and not listed(exemplar.question):
        return "question: lists no options; write (A), (B), ... one a line"
    said = asked(task, exemplar.question)
    gold = canonical(exemplar.answer, task.kind, said)
    if gold is None:
        return f"answer: {exemplar.answer!r} is not a {task.kind}"
    if task.trigger.strip().lower() in exemplar.rationale.lower():
        return f"rationale: holds the trigger {task.trigger!r}, which is added for you"
    sentence = f"{exemplar.rationale.strip()} {task.trigger.strip()} {exemplar.answer}."
    found = extract(sentence, task.kind, task.trigger, said)
    if found is None or found.value != gold:
        return f"rationale: its text hides the answer {exemplar.answer!r}"
    return ""


def converted(fields: Any, kind: type[AnyRecord], where: str, hint: str) -> AnyRecord:  # noqa: ANN401
    """Make a record from the fields of a TOML file.

    LmsiError: a field is unknown, missing or of a wrong type; says where, and suggests a name.
    """
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as e:
        unknown = re.search(r"unknown field `(.*?)`", str(e))
        known = {*kind.__struct_fields__, *Template.__struct_fields__, *Exemplar.__struct_fields__}
        near = difflib.get_close_matches(unknown[1], sorted(known), 1) if unknown else []
        meant = f" (did you mean `{near[0]}`?)" if near else ""
        message = str(e).removeprefix("Object contains ")
        raise LmsiError(f"{where}: {message}{meant}", hint=hint) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The fields of a TOML file; LmsiError: it cannot be read, or is not valid TOML."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as e:
        raise LmsiError(f"{path}: cannot be read: {e.strerror}") from None
    except UNREADABLE as e:
        raise LmsiError(f"{path}: not a TOML file: {e}") from None


DATED = "a spreadsheet takes 1/2 for a date: format the column as text there, and type it again"
# As spreadsheets write 1/2 and 3/2004.
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)\.?"
_DATED = re.compile(
    rf"\d{{1,2}}[-./ ]{{1,2}}{_MONTH}|{_MONTH}[-./ ]{{1,2}}\d{{1,4}}", re.IGNORECASE
)


def check_options(questions: Sequence[Question], task: Task) -> None:
    """Refuse questions that list no options if the task's answers are options; counts them."""
    if task.kind != "choice":
        return
    bare = [q.id for q in questions if not asked(task, q.question).choices]
    if bare:
        raise LmsiError(
            f"question {bare[0]!r} lists no options, and {task.name} is a task of choices"
            f" ({len(bare)} of {len(questions)} questions)",
            hint="write (A) ..., (B) ... below the question, one a line; or choose another --task",
        )


def gold_answers(questions: Sequence[Question], task: Task) -> dict[str, str]:
    """Canonical right answers by question id; LmsiError: some are not of the task's kind."""
    check_options(questions, task)
    # These two kinds would read a month as a unit or a product.
    dated = {q.id for q in questions if task.kind in ("number", "latex") and _is_dated(q)}
    known = (
        (q.id, canonical(q.answer or "", task.kind, asked(task, q.question))) for q in questions
    )
    gold = {i: value for i, value in known if value is not None and i not in dated}
    if wrong := [q for q in questions if q.id not in gold]:
        raise LmsiError(
            f"question {wrong[0].id!r}: its answer {wrong[0].answer!r} is not a {task.kind}"
            f" ({len(wrong)} of {len(questions)} questions)",
            hint=DATED if _is_dated(wrong[0]) else "correct the answer, or choose another --task",
        )
    return gold


def _is_dated(question: Question) -> bool:
    """Say whether an answer is a day or a month, which a spreadsheet makes of a fraction."""
    return bool(_DATED.fullmatch((question.answer or "").strip()))
