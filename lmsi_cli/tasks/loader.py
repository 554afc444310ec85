"""Tasks by name or by file: the TOML files beside this module, or a person's own.

Knows nothing of models or prompts beyond the record they fill. A task is one file:

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

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from lmsi_cli.answers import KINDS
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.tasks.checking import mistakes

_FOLDER = Path(__file__).parent


def task_names() -> list[str]:
    """List the names of the tasks that come with the package."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def task_file(name: str) -> Path:
    """Where the file of a task that comes with the package lies."""
    return _FOLDER / f"{name}.toml"


def summaries() -> list[Task]:
    """All tasks of the package, unchecked: listing them needs no package that one of them needs."""
    return [msgspec.convert(read_toml(task_file(name)), Task) for name in task_names()]


def load_task(name_or_path: str) -> Task:
    """Load a task by its name, or from a file if the name ends in ``.toml`` or has a folder.

    Raises:
        LmsiError: There is no such task, or its file is not a sound task; names file and field.
    """
    return _read(find_task(name_or_path))


def find_task(name_or_path: str) -> Path:
    """Find a task's file; see ``load_task``."""
    if name_or_path in task_names():
        return task_file(name_or_path)
    path = Path(name_or_path)
    hint = f"tasks: {', '.join(task_names())}; or give the path of a .toml file"
    if path.suffix != ".toml" and len(path.parts) < 2:
        raise LmsiError(f"no task {name_or_path!r}", hint=hint)
    if not path.is_file():
        raise LmsiError(f"{path}: no such file", hint=hint)
    return path


def _read(path: Path) -> Task:
    """Decode and check one file; tell of all its mistakes at once."""
    fields = read_toml(path)
    found = mistakes(fields)
    if not found:
        return task_from(fields)
    told = found[0]
    if len(found) > 1:
        numbered = (f"({i}) {m}" for i, m in enumerate(found, 1))
        told = f"{len(found)} mistakes: {'; '.join(numbered)}"
    raise LmsiError(f"{path}: {told}", hint=_hint(told))


def task_from(fields: dict[str, Any]) -> Task:
    """A task of sound fields; where one set of exemplars is asked for, it is the first template's.

    Raises:
        msgspec.ValidationError: They are not sound; see ``mistakes``.
    """
    first = {"exemplars": fields["templates"][0]["exemplars"]} if fields.get("templates") else {}
    return msgspec.convert({**fields, **first}, Task)


def read_toml(path: Path) -> dict[str, Any]:
    """The fields of a TOML file.

    Raises:
        LmsiError: It cannot be read, or is none.
    """
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as e:
        raise LmsiError(f"{path}: cannot be read: {e.strerror}") from None
    except ValueError as e:
        raise LmsiError(f"{path}: not a TOML file: {e}") from None


def _hint(told: str) -> str:
    if "kind" in told:
        return f"kinds: {', '.join(sorted(KINDS))}"
    if "hides" in told or "trigger" in told:
        return "leave the answer sentence out of the rationale; it is added for you"
    return "`lmsi tasks show number` prints a sound task"
