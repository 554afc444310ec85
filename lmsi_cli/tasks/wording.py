r"""Wordings: the words around a question, and how its answer is to be written.

A model can be right on 3% or on 28% of a set, depending on the words alone. So wordings are data:
they are measured (``benchmarks/wordings``), and a trial can choose one (``stages/trial.py``). Those
of each answer kind lie in ``wordings/``, the best one first; the user's own file looks the same:

    [[wordings]]
    name = "boxed"
    cot_request = 'Please reason step by step, and put your final answer within \boxed{}.'
    sentence = '{trigger} $\boxed{{answer}}$.'
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import msgspec
from msgspec import Meta

from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.records import FewShot, PromptFormat, Record
from lmsi_cli.tasks.loader import converted, read_toml

AUTO = "auto"
FORMATS = get_args(PromptFormat)
_FOLDER = Path(__file__).parent / "wordings"
_WORDS = ("cot_cue", "cot_request", "direct_request", "sentence")
_PLAIN = Task(name="-", kind="text", exemplars=())


class Wording(Record, frozen=True, kw_only=True):
    """One way to ask.

    ``chat`` says which models it is for: those asked in conversations, or those asked in plain
    text. ``prompt`` and ``few_shot`` set the prompt's form; all other fields replace the task's.
    """

    name: Annotated[str, Meta(min_length=1)]
    chat: bool = True
    prompt: PromptFormat = "cot-zero"
    few_shot: FewShot = "turns"
    cot_cue: Annotated[str, Meta(min_length=1)] = _PLAIN.cot_cue
    cot_request: str = _PLAIN.cot_request
    direct_request: str = _PLAIN.direct_request
    sentence: str = _PLAIN.sentence


def worded(task: Task, wording: Wording) -> Task:
    """The task with the words and format of a wording."""
    words = {name: getattr(wording, name) for name in _WORDS}
    return msgspec.structs.replace(task, prompt=wording.prompt, **words)


def candidates(prompt: str, task: Task, chat: bool) -> list[Wording]:
    """The wordings that a setting of ``--prompt`` leaves to choose from, the best one first.

    Args:
        prompt: Empty or ``auto``: all; a format, the name of a wording, or a file of wordings.
        task: If it has words of its own, they are the first wording.
        chat: Whether the model is asked in conversations.

    Raises:
        LmsiError: There is no such format, wording or file; or the file is not sound.
    """
    own = [of_task(task, chat)]
    if task.prompt is None and own == [of_task(_PLAIN, chat)]:
        own = []  # the task leaves the words to lmsi
    if prompt == "" and own:
        return own
    if prompt.endswith(".toml"):
        return read_wordings(Path(prompt))
    file = _FOLDER / f"{task.kind}.toml"
    file = file if file.exists() else _FOLDER / "text.toml"
    known = own + [w for w in read_wordings(file) if w.chat == chat]
    if prompt in ("", AUTO):
        return known
    if prompt in FORMATS:
        best = next((w for w in known if w.prompt == prompt), known[0])
        return [msgspec.structs.replace(best, prompt=prompt)]
    if named := [w for w in known if w.name == prompt]:
        return named
    names = ", ".join(w.name for w in known)
    form = "conversations" if chat else "plain text"
    raise LmsiError(
        f"--prompt {prompt}: no such format or wording",
        hint=f"auto; a format: {', '.join(FORMATS)}; a wording for {form}: {names}; or FILE.toml",
    )


def of_task(task: Task, chat: bool) -> Wording:
    """The words and the format of a task."""
    words = {name: getattr(task, name) for name in _WORDS}
    return Wording(name="task", chat=chat, prompt=task.format, **words)


def read_wordings(file: Path) -> list[Wording]:
    """Read and check a file of wordings.

    Raises:
        LmsiError: It is missing or not TOML, or an entry is not sound; names entry and field.
    """
    fields = read_toml(file)
    entries = fields.get("wordings")
    hint = f"fields of a wording: {', '.join(Wording.__struct_fields__)}"
    if not isinstance(entries, list) or not entries or len(fields) > 1:
        raise LmsiError(f"{file}: expected entries headed [[wordings]] and nothing else", hint)
    found = [converted(e, Wording, f"{file}: wording {i}", hint) for i, e in enumerate(entries, 1)]
    names = [w.name for w in found]
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise LmsiError(f"{file}: two wordings are called {twice!r}", "give each its own name")
    return found
