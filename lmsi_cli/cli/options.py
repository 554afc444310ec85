"""Commands made from config structs: one option per field, help and range from its type.

Knows Typer and the structs' metadata; nothing of what a command does. So a default, a range and a
help text exist once, in ``config/``, and a command's function stays short:

    @configured(SampleConfig)
    def sample(questions: str, out: Path, settings: SampleConfig) -> None: ...
"""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from lmsi_cli.config import TABLES, Config
from lmsi_cli.errors import LmsiError
from lmsi_cli.settings import flags, resolve

Command = Callable[..., None]
Tables = dict[str, dict[str, Any]]
SETTINGS = "settings"  # the parameter that receives the resolved struct
OTHERS = "tables"  # the parameter, if there is one, that receives all tables of the config file
EMPTY = "none"  # an empty list, as it is typed and shown
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A TOML file of defaults; flags win.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what is chosen, and why.")]


def configured(kind: type[Config]) -> Callable[[Command], Command]:
    """Give a command one option per field of ``kind`` and pass it the resolved struct."""
    names = kind.__struct_fields__
    table = next(name for name, its in TABLES.items() if its is kind)

    def wrap(command: Command) -> Command:
        def run(config: Path | None = None, verbose: bool = False, **given: Any) -> None:  # noqa: ANN401 - any option
            if verbose:
                logging.basicConfig(format="%(message)s")
                logging.getLogger("lmsi_cli").setLevel(logging.INFO)  # not what libraries say
            typed = _lists(kind, {name: given.pop(name) for name in names})
            tables = read_tables(config)
            given[SETTINGS] = resolve(kind, tables.get(table, {}), typed)
            if any(p.name == OTHERS for p in own):
                given[OTHERS] = tables
            command(**given)

        own = list(inspect.signature(command, eval_str=True).parameters.values())
        parameters = [p for p in own if p.name not in (SETTINGS, OTHERS)]
        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in parameters]
        parameters += [*_options(kind), _keyword("config", ConfigFile)]
        parameters += [_keyword("verbose", Verbose).replace(default=False)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return wrap


def read_tables(file: Path | None) -> Tables:
    """All tables of a config file, each checked against its command.

    Raises:
        LmsiError: The file is missing, is no TOML, or has an unknown table or key.
    """
    if file is None:
        return {}
    known = ", ".join(f"[{name}]" for name in TABLES)
    try:
        tables: Tables = msgspec.toml.decode(file.read_bytes())
    except OSError as e:
        raise LmsiError(
            f"{file}: cannot be read: {e.strerror}", hint="--config takes a TOML file"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise LmsiError(f"{file}: not a TOML file: {e}", hint=f"tables: {known}") from None
    for name, values in tables.items():
        if not isinstance(values, dict):
            raise LmsiError(
                f"{file}: setting '{name}' is in no table", hint=f"put it below one of {known}"
            )
        if name not in TABLES:
            raise LmsiError(f"{file}: unknown table [{name}]", hint=f"tables: {known}")
        resolve(TABLES[name], values, where=f"{file} [{name}]")
    return tables


def _lists(kind: type[Config], typed: dict[str, Any]) -> dict[str, Any]:
    """Split the comma-separated flags of list fields; ``none`` is an empty list.

    Those of repeated flags are lists already.
    """
    listed = {f.name for f in msgspec.structs.fields(kind) if isinstance(f.default, tuple)}
    return {
        name: _parts(value) if name in listed and isinstance(value, str) else value
        for name, value in typed.items()
    }


def _parts(value: str) -> list[str]:
    return [] if value in ("", EMPTY) else [part.strip() for part in value.split(",")]


def _options(kind: type[Config]) -> list[inspect.Parameter]:
    """One option per field; an absent flag is None, so that a config file can fill it."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = []
    for field in msgspec.structs.fields(kind):
        type_, meta = typing.get_args(hints[field.name])
        found.append(_option(field.name, type_, meta, field.default))
    return found


def _option(name: str, type_: Any, meta: Any, default: Any) -> inspect.Parameter:  # noqa: ANN401
    dashed = name.replace("_", "-")
    spelt = [f"--{dashed}/--no-{dashed}"] if type_ is bool else flags(name, meta)
    # Typer would put parentheses around a default that only the config knows
    zero = meta.extra["zero"]
    told = f"{meta.description}  [default: {zero if zero and not default else _shown(default)}]"
    option = typer.Option(*spelt, help=told, show_default=False)
    found = (t for t in (bool, int, float) if t in (type_, *typing.get_args(type_)))
    scalar = str if zero else next(found, str)
    kind = list[str] if (meta.extra or {}).get("repeated") else scalar
    return _keyword(name, Annotated[kind | None, option])


def _shown(default: Any) -> str:  # noqa: ANN401 - any default
    """A default as it would be typed."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ",".join(map(_shown, default)) or EMPTY
    if isinstance(default, float):
        return f"{default:g}"
    if default is None:  # a table of the config file may hold it
        return "not given"
    return "none" if default == "" else str(default)


def _keyword(name: str, annotation: Any) -> inspect.Parameter:  # noqa: ANN401 - a type
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )
