"""Commands made from config structs: one option per field, help and range from its type.

Knows Typer and the structs' metadata; nothing of what a command does. So a default, a range and a
help text exist once, in ``config.py``, and a command's function stays short:

    @configured(SampleConfig)
    def sample(questions: str, out: Path, settings: SampleConfig) -> None: ...
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from lmsi_cli.config import TABLES, Config, resolve
from lmsi_cli.errors import LmsiError

Command = Callable[..., None]
Tables = dict[str, dict[str, Any]]
SETTINGS = "settings"  # the parameter that receives the resolved struct
OTHERS = "tables"  # the parameter, if there is one, that receives all tables of the config file
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A TOML file of defaults; flags win.")
]


def configured(kind: type[Config]) -> Callable[[Command], Command]:
    """Give a command one option per field of ``kind`` and pass it the resolved struct."""
    names = kind.__struct_fields__
    table = next(name for name, its in TABLES.items() if its is kind)

    def wrap(command: Command) -> Command:
        def run(config: Path | None = None, **given: Any) -> None:  # noqa: ANN401 - any option
            flags = _lists(kind, {name: given.pop(name) for name in names})
            tables = read_tables(config)
            given[SETTINGS] = resolve(kind, tables.get(table, {}), flags)
            if any(p.name == OTHERS for p in own):
                given[OTHERS] = tables
            command(**given)

        own = list(inspect.signature(command, eval_str=True).parameters.values())
        parameters = [p for p in own if p.name not in (SETTINGS, OTHERS)]
        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in parameters]
        parameters += [*_options(kind), _keyword("config", ConfigFile)]
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
    try:
        tables: Tables = msgspec.toml.decode(file.read_bytes(), type=Tables)
    except OSError as e:
        raise LmsiError(f"{file}: {e.strerror}", hint="--config takes a TOML file") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise LmsiError(f"{file}: {e}", hint="one table per command, as in [sample]") from None
    for name, values in tables.items():
        if name not in TABLES:
            raise LmsiError(f"{file}: unknown table [{name}]", hint=f"tables: {', '.join(TABLES)}")
        resolve(TABLES[name], values, where=f"{file} [{name}]")
    return tables


def _lists(kind: type[Config], flags: dict[str, Any]) -> dict[str, Any]:
    """Split the comma-separated flags of list fields."""
    listed = {f.name for f in msgspec.structs.fields(kind) if isinstance(f.default, tuple)}
    return {
        name: [part.strip() for part in value.split(",")] if name in listed and value else value
        for name, value in flags.items()
    }


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
    flags = [f for f in meta.extra["flag"].split("/") if f] or [f"--{dashed}"]
    if type_ is bool:
        flags = [f"--{dashed}/--no-{dashed}"]
    option = typer.Option(
        *flags, help=meta.description, show_default=_shown(default), rich_help_panel="Settings"
    )
    scalar = next((t for t in (bool, int, float) if t in (type_, *typing.get_args(type_))), str)
    return _keyword(name, Annotated[scalar | None, option])


def _shown(default: Any) -> str:  # noqa: ANN401 - any default
    """A default as it would be typed."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, float):
        return f"{default:g}"
    return "none" if default in (None, "") else str(default)


def _keyword(name: str, annotation: Any) -> inspect.Parameter:  # noqa: ANN401 - a type
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )
