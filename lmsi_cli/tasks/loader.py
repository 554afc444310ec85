"""Tasks by name or by file: the TOML files beside this module, or a person's own.

Knows nothing of models or prompts beyond the record they fill. A task is one file:

    name = "number"
    kind = "number"

    [[exemplars]]
    question = "What is 6 * 7?"
    rationale = "6 * 7 = 42."
    answer = "42"
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from lmsi_cli.answers import KINDS, canonical, extract
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.records import Exemplar

_FOLDER = Path(__file__).parent


def task_names() -> list[str]:
    """List the names of the tasks that come with the package."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def load_task(name_or_path: str) -> Task:
    """Load a task by its name, or from a file if the name ends in ``.toml`` or has a folder.

    Raises:
        LmsiError: There is no such task, or its file is not a sound task; names file and field.
    """
    if name_or_path in task_names():
        return _read(_FOLDER / f"{name_or_path}.toml")
    path = Path(name_or_path)
    hint = f"tasks: {', '.join(task_names())}; or give the path of a .toml file"
    if path.suffix != ".toml" and len(path.parts) < 2:
        raise LmsiError(f"no task {name_or_path!r}", hint=hint)
    if not path.is_file():
        raise LmsiError(f"{path}: no such file", hint=hint)
    return _read(path)


def _read(path: Path) -> Task:
    """Decode and check one file."""
    try:
        task = msgspec.toml.decode(path.read_bytes(), type=Task)
    except OSError as e:
        raise LmsiError(f"{path}: cannot be read: {e.strerror}") from None
    except msgspec.ValidationError as e:
        fields = ", ".join(Task.__struct_fields__)
        raise LmsiError(f"{path}: {e}", hint=f"fields: {fields}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise LmsiError(f"{path}: not a TOML file: {e}") from None
    if task.chat is not None:
        raise LmsiError(f"{path}: chat: no field of a task", hint="use --chat and --few-shot")
    if task.kind not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise LmsiError(f"{path}: kind: unknown answer kind {task.kind!r}", hint=f"kinds: {known}")
    for number, exemplar in enumerate(task.exemplars, 1):
        _check(task, exemplar, f"{path}: exemplar {number}")
    return task


def _check(task: Task, exemplar: Exemplar, where: str) -> None:
    """Refuse an exemplar that would teach the model a form that the extractor misreads."""
    gold = canonical(exemplar.answer, task.kind)
    if gold is None:
        raise LmsiError(f"{where}: answer: {exemplar.answer!r} is not a {task.kind}")
    sentence = f"{exemplar.rationale.strip()} {task.trigger.strip()} {exemplar.answer}."
    found = extract(sentence, task.kind, task.trigger)
    if found is None or found.value != gold:
        raise LmsiError(
            f"{where}: rationale: its text hides the answer {exemplar.answer!r}",
            hint=f"leave out {task.trigger!r}; that sentence is added for you",
        )
