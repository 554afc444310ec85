"""What the commands share: the model, the task, the run folder and the way results are shown.

Knows how a command line's values become open things; nothing of any one command.

    with opened(settings) as (engine, model): ...
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from lmsi_cli.catalog import Model, find_model
from lmsi_cli.cli.asking import Asking, sampled
from lmsi_cli.cli.beacon import Beacon
from lmsi_cli.cli.console import err, out, watcher
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Progress, Question
from lmsi_cli.resume import check_model
from lmsi_cli.rounds.kept import kept_round
from lmsi_cli.run_folder import RunDir, locked, sha256_file, teacher_of
from lmsi_cli.tasks.readers import read_questions

if TYPE_CHECKING:  # the engine is imported by the commands that run it
    from lmsi_cli.engine.engine import LlamaEngine
    from lmsi_cli.engine.llama import LlamaModel
    from lmsi_cli.report.text import Part

RunFolder = Annotated[Path, typer.Argument(help="The run folder.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Discard what the folder holds.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Go on in spite of what would be refused.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@contextmanager
def shown(quiet: bool) -> Iterator[Progress]:
    """A progress view of what leaves nothing behind."""
    view = watcher(quiet)
    try:
        yield view
    finally:
        view.stop()


@contextmanager
def watched(quiet: bool, run: RunDir) -> Iterator[Progress]:
    """A progress view that is taken down whatever happens; `lmsi watch` sees the same."""
    view = watcher(quiet)
    beacon = Beacon(view, run, sys.argv[1:])
    ended = "interrupted"
    try:
        yield beacon
        ended = "done"
    except LmsiError as e:
        ended = str(e)
        raise
    finally:
        view.stop()
        beacon.end(ended)


def identity(model: Model, asking: Asking) -> dict[str, Any]:
    """What a run is tied to besides its settings: hashes, and versions for the record."""
    from importlib.metadata import version

    return {
        "model": str(model.path.absolute()),
        "model_sha256": sha256_file(model.path),
        **asking.named,
        "llama_cpp_python": version("llama-cpp-python"),
    }


def about(model: Model, engine: LlamaEngine) -> dict[str, Any]:
    """What an evaluation's record says of its model, and versions."""
    from importlib.metadata import version

    info = engine.info
    source = {
        "file": model.path.name,
        "sha256": sha256_file(model.path),
        "tokenizer_sha256": _vocabulary_hash(engine.model),
        "architecture": info.architecture,
        "parameters": info.parameters,
        "bytes": info.bytes,
    }
    versions = {"lmsi": version("lmsi"), "llama_cpp_python": version("llama-cpp-python")}
    return {"source": source, "versions": versions}


def _vocabulary_hash(model: LlamaModel) -> str:
    """Tell tokenizers apart by the spellings of their tokens."""
    import hashlib

    words = (model.piece(token) for token in range(model.n_vocab))
    return hashlib.sha256(b"\0".join(words)).hexdigest()


def questions_in(source: str) -> list[Question]:
    """Read a question file; says on stderr what of it could not be taken as it was meant."""
    return read_questions(source, lambda told: err().print(told, markup=False))


def labelled_sets(files: Sequence[str]) -> dict[str, Sequence[Question]]:
    """Read labelled sets; their names, which name the results, must differ.

    Raises:
        LmsiError: A file is no labelled set, is given twice, or two have one name.
    """
    from lmsi_cli.tasks.readers import read_labelled, set_name

    found: dict[str, Sequence[Question]] = {}
    for place, file in enumerate(files):
        name = set_name(file)
        if file in files[:place]:
            raise LmsiError(f"{file}: --data names it twice", hint="name each file once")
        if name in found:
            raise LmsiError(f"{file}: another --data file is called {name} too", hint="rename one")
        found[name] = read_labelled(file)
    return found


def chosen_round(run: RunDir, number: int | None = None) -> RunDir:
    """The round whose adapter a command takes; says so where that is not the folder itself.

    Args:
        run: A run folder.
        number: Of the round; not given: the one that is kept.

    Raises:
        LmsiError: There is no such round.
    """
    found = kept_round(run) if number is None else run.round(number)
    if number is not None and not found.root.is_dir():
        raise LmsiError(f"{found.root}: no such round", hint=f"`lmsi report {run.root}` lists them")
    if number is None and found.root != run.root:
        told = f"{found.root}: its adapter is taken, that of the round that is kept"
        err().print(told, markup=False)
    return found


def model_of(run: RunDir) -> Model:
    """The model that drew a run's paths, still the same file.

    Args:
        run: A run folder that ``lmsi sample`` has begun.

    Raises:
        LmsiError: The folder holds no run, or the file is gone or has changed.
    """
    saved = sampled(run)
    if saved.get("engine") == "openai":
        raise LmsiError(
            f"{run.root}: its paths were drawn by a server ({saved['model']} on "
            f"{saved.get('server')}), so there is no model file",
            hint=f"`lmsi eval {run.root} --engine openai` measures it; "
            f"`lmsi train {run.root} --student FILE` lets a model file learn from its votes",
        )
    model = Path(saved["model"])
    if not model.is_file():
        raise LmsiError(
            f"{model}: the model of {run.root} is no longer there",
            hint=f"tell where it is now: `{_again(run)}`",
        )
    check_model(run, model, sha256_file(model))
    return find_model(str(model))


def _again(run: RunDir) -> str:
    """The command that takes a run folder up again with its model in another place."""
    if told := teacher_of(run):
        return f"lmsi train {told['run']} --student MODEL -o {run.root}"
    return f"lmsi sample {run.questions} -m MODEL -o {run.root}"


def show(result: msgspec.Struct | list[Any] | dict[str, Any], as_json: bool, *parts: Part) -> None:
    """Print a result on stdout, as JSON or as tables and sentences."""
    if as_json:
        sys.stdout.write(msgspec.json.encode(result, order="sorted").decode() + "\n")
        return
    from lmsi_cli.report.text import rendered

    for part in rendered(*parts):
        out().print(part)


__all__ = [
    "Force",
    "Json",
    "Overwrite",
    "Quiet",
    "RunFolder",
    "about",
    "chosen_round",
    "identity",
    "labelled_sets",
    "locked",
    "model_of",
    "questions_in",
    "show",
    "shown",
    "watched",
]
