"""`lmsi init`: choose a model and questions, and write a commented config file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from lmsi_cli.atomic import write_atomic
from lmsi_cli.catalog import find_model
from lmsi_cli.cli import console
from lmsi_cli.cli.options import complete_models
from lmsi_cli.config import EVERYDAY, RARE, TABLES
from lmsi_cli.errors import LmsiError
from lmsi_cli.hub import PREFIX
from lmsi_cli.tasks.readers import read_questions

Questions = Annotated[
    str | None, typer.Argument(help="A file of questions, or SET:FILE; if left out, asked for.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="A GGUF file or a name; if left out, asked for.",
        autocompletion=complete_models,
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="The config file.")]
STAGES = ("sample", "vote", "train", "eval")
DEFAULT = Path("lmsi.toml")


def init(questions: Questions = None, model: Model = None, out: Out = DEFAULT) -> None:
    """Choose a model and questions, write them to a config file, and print the next command.

    Example: lmsi init questions.jsonl -m model.gguf
    """
    if out.exists():
        raise LmsiError(f"{out}: is there already", hint="give another one with -o, or delete it")
    model = _settled("model", model, "-m MODEL", _check_model, complete_models())
    questions = _settled("questions", questions, "QUESTIONS", read_questions, [])
    write_atomic(out, "\n".join(_lines(model, questions)))
    run = str(Path("runs") / Path(questions).stem)
    command = shlex.join(["lmsi", "sample", questions, "-o", run, "--config", str(out)])
    console.out().print(f"{out} is written; next: {command}", markup=False, soft_wrap=True)


def _settled(
    what: str, given: str | None, flag: str, check: Callable[[str], object], found: Sequence[str]
) -> str:
    """Check what was given; if nothing was, ask at the terminal until an answer is valid."""
    if given is not None:
        check(given)
        return given
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise LmsiError(f"no {what} given, and no terminal to ask on", hint=f"give {flag}")
    screen = console.err()
    for number, name in enumerate(found, 1):
        screen.print(f"{number:3}  {name}", markup=False)
    ways = "a number, a name or a file" if found else "a file"
    while True:
        try:
            said = screen.input(f"{what} ({ways}): ", markup=False).strip()
            named = dict(enumerate(found, 1)).get(int(said) if said.isdigit() else 0, said)
            check(named)
            return named
        except LmsiError as e:
            screen.print(f"{e}", style="red", markup=False)
        except EOFError:
            raise KeyboardInterrupt from None


def _check_model(given: str) -> None:
    """Check that a model exists; one on the hub is looked up only when it is used."""
    if not given.startswith(PREFIX):
        find_model(given)


def _lines(model: str, questions: str) -> Iterator[str]:
    """The lines of a config file: the model, and as comments the defaults of other settings."""
    yield f"# Settings of lmsi, for --config; flags win over them. The questions: {questions!r}."
    yield "# A line that begins with # shows what holds without it; --help-all shows all settings."
    for stage in STAGES:
        yield f"\n[{stage}]"
        for name, (_, meta, default) in TABLES[stage].described().items():
            if name in EVERYDAY and meta.extra["flag"] != RARE:
                chosen, mark = (model, "") if name == "model" else (default, "# ")
                value = msgspec.json.encode(chosen).decode()  # plain values: the same in TOML
                yield f"{mark}{name} = {value}  # {meta.description}"
    yield ""
