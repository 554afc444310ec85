"""Whether a task is sound: all that is wrong with it, in words, as a list.

Knows the fields of a task and the answer kinds; no files. A task holds ``exemplars``, or several
sets of them as ``templates``. A list for a file with two slips:

    ["unknown field `knd` (did you mean `kind`?)", "exemplar 1: answer: 'many' is not a number"]
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, TypeGuard, get_type_hints

import msgspec

from lmsi_cli.answers import KINDS, canonical, extract, listed
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Exemplar, Record, Template

_TYPES = get_type_hints(Task, include_extras=True)


def mistakes(fields: dict[str, Any]) -> list[str]:
    """All that keeps the fields of a file from being a sound task.

    Misspelt, missing and of a wrong type; an unknown kind; and exemplars that would teach a model
    a form which the reader of answers misreads.
    """
    has = {**fields, "exemplars": ()} if "templates" in fields else fields  # in each of them
    found = [*_names(has, Task)]
    found += ["chat: no field of a task; use --chat and --set few_shot"] * ("chat" in fields)
    for name in Task.__struct_fields__:
        if name in fields and name not in ("chat", "exemplars", "templates"):
            found += _wrong_type(name, fields[name], _TYPES[name])
    if isinstance(kind := fields.get("kind"), str) and kind not in KINDS:
        found.append(f"kind: unknown answer kind {kind!r}")
    found += _exemplars(fields.get("exemplars", []), "exemplars", _reader(fields))
    return [*found, *_templates(fields)] if "templates" in fields else found


def _templates(fields: dict[str, Any]) -> Iterator[str]:
    """All that is wrong with several sets of exemplars."""
    templates = fields["templates"]
    if "exemplars" in fields:
        yield "templates: a task has exemplars or templates, not both"
    if not _tables(templates) or not templates:
        yield "templates: expected tables, each headed [[templates]]"
        return
    task = _reader(fields)
    for number, template in enumerate(templates, 1):
        wrong = [*_names(template, Template)]
        if not wrong and not template["exemplars"]:
            wrong = ["exemplars: there is none"]
        if not wrong:
            wrong = [*_exemplars(template["exemplars"], "templates.exemplars", task)]
        yield from (f"template {number}: {told}" for told in wrong)


def _exemplars(exemplars: object, heading: str, task: Task | None) -> Iterator[str]:
    if not _tables(exemplars):
        yield f"exemplars: expected tables, each headed [[{heading}]]"
        return
    for number, exemplar in enumerate(exemplars, 1):
        yield from (f"exemplar {number}: {told}" for told in _exemplar(exemplar, task))


def _tables(value: object) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def wrong_exemplar(exemplar: Exemplar, task: Task) -> list[str]:
    """All that keeps an exemplar from standing in a task; none: it may."""
    return [*_exemplar(msgspec.to_builtins(exemplar), task)]


def _reader(fields: dict[str, Any]) -> Task | None:
    """A task with the fields that reading an answer needs; None if one of them is wrong."""
    needed: dict[str, Any] = {"name": "-", "exemplars": ()}
    needed |= {k: fields[k] for k in ("kind", "trigger", "percent") if k in fields}
    try:
        task = msgspec.convert(needed, Task)
    except msgspec.ValidationError:
        return None
    return task if task.kind in KINDS else None


def _exemplar(fields: dict[str, Any], task: Task | None) -> Iterator[str]:
    wrong = [*_names(fields, Exemplar)]
    for name in Exemplar.__struct_fields__:
        if name in fields:
            wrong += _wrong_type(name, fields[name], str)
            wrong += [f"{name}: is blank"] * (not str(fields[name]).strip())
    yield from wrong
    if task and not wrong:
        yield from _misread(task, msgspec.convert(fields, Exemplar))


def _names(fields: dict[str, Any], record: type[Record]) -> Iterator[str]:
    """Tell misspelt names with a suggestion, and missing ones that were not just misspelt."""
    known, meant = record.__struct_fields__, set[str]()
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, [k for k in known if k not in fields], 1)
            meant.update(near)
            yield f"unknown field `{name}`" + (f" (did you mean `{near[0]}`?)" if near else "")
    needed = [f.name for f in msgspec.structs.fields(record) if f.required]
    for name in needed:
        if name not in fields and name not in meant:
            yield f"missing required field `{name}`"


def _wrong_type(name: str, value: object, expected: Any) -> Iterator[str]:  # noqa: ANN401 - a type
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError as e:
        yield f"{name}: {e}"


def _misread(task: Task, exemplar: Exemplar) -> Iterator[str]:
    if task.kind == "choice" and not listed(exemplar.question):
        yield "question: lists no options; write (A), (B), ... one a line"
    said = asked(task, exemplar.question)
    gold = canonical(exemplar.answer, task.kind, said)
    if gold is None:
        yield f"answer: {exemplar.answer!r} is not a {task.kind}"
        return
    if task.trigger.strip().lower() in exemplar.rationale.lower():
        yield f"rationale: holds the trigger {task.trigger!r}, which is added for you"
        return
    sentence = f"{exemplar.rationale.strip()} {task.trigger.strip()} {exemplar.answer}."
    found = extract(sentence, task.kind, task.trigger, said)
    if found is None or found.value != gold:
        yield f"rationale: its text hides the answer {exemplar.answer!r}"
