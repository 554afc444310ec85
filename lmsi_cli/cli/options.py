"""Commands made from config structs: one option per field, help and range from its type.

Knows Typer and the structs' metadata, and the names that a shell completes (`lmsi
--install-completion` writes its script); nothing of what a command does. So a default, a range and
a help text exist once, in ``config/``, and a command's function stays short:

    @configured(SampleConfig)
    def sample(questions: str, out: Path, settings: SampleConfig) -> None: ...
"""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable, Sequence
from glob import escape, glob
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from typer.core import TyperCommand, TyperGroup

from lmsi_cli.catalog import at_hand, cards
from lmsi_cli.config import EVERYDAY, PANELS, PREFIX, RARE, TABLES, Config
from lmsi_cli.errors import LmsiError
from lmsi_cli.hub import is_model
from lmsi_cli.records import UNREADABLE
from lmsi_cli.settings import EMPTY, flags, resolve, with_preset
from lmsi_cli.tasks.loader import task_names

Function = Callable[..., None]
Tables = dict[str, dict[str, Any]]
ONLY = inspect.Parameter.KEYWORD_ONLY
HELP_ALL = "--help-all"


def configured(kind: type[Config]) -> Callable[[Function], Function]:
    """Give a command one option per field of ``kind`` and pass it the resolved struct.

    The command's parameter ``settings`` receives the struct; ``quiet`` and ``tables``, if it has
    them, the --quiet flag and all tables of the config file, the environment and --set.
    """
    names, injected = kind.__struct_fields__, ("settings", "tables", "quiet")
    table = next(name for name, its in TABLES.items() if its is kind)

    def wrap(command: Function) -> Function:
        own = inspect.signature(command, eval_str=True).parameters

        def run(ctx: typer.Context, **given: Any) -> None:  # noqa: ANN401 - any option
            common = ctx.find_root().params
            typed = {name: given.pop(name) for name in names if name in given}
            tables = read_tables(common["config"])
            by_name = _set(common["settings"] or (), table)
            for layer in (environment(), by_name):
                for name, values in layer.items():
                    tables[name] = {**tables.get(name, {}), **with_preset(values)}
            # one layer, so that a typed preset does not override settings typed beside it
            typed = {**by_name.get(table, {}), **{k: v for k, v in typed.items() if v is not None}}
            more: dict[str, Any] = {"tables": tables, "quiet": common["quiet"]}
            more["settings"] = resolve(kind, tables.get(table, {}), typed)
            command(**given, **{name: more[name] for name in injected if name in own})

        parameters = [p for p in own.values() if p.name not in injected] + _options(kind)
        parameters.append(inspect.Parameter("ctx", ONLY, annotation=typer.Context))
        signature = inspect.Signature([p.replace(kind=ONLY) for p in parameters])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return wrap


def _set(given: Sequence[str], table: str) -> Tables:
    """Settings by table from ``NAME=VALUE``, or ``TABLE.NAME=VALUE`` for another command's."""
    found: Tables = {}
    for setting in given:
        name, equals, value = setting.partition("=")
        place, dot, inner = name.rpartition(".")
        if not equals or not inner or (dot and place not in TABLES):
            hint = f"tables: {', '.join(TABLES)}"
            raise LmsiError(f"{RARE} {setting}: expected NAME=VALUE or TABLE.NAME=VALUE", hint)
        there, inner = place or table, inner.replace("-", "_")
        resolve(TABLES[there], {inner: value}, where=RARE)
        found.setdefault(there, {})[inner] = value
    return found


def environment() -> Tables:
    """Settings by table from variables such as ``LMSI_SAMPLE_PATHS``; empty ones are ignored."""
    found: Tables = {}
    for table, kind in TABLES.items():
        for name in kind.__struct_fields__:
            variable = _variable(table, name)
            if value := os.environ.get(variable):
                resolve(kind, {name: value}, where=f"{variable}:")
                found.setdefault(table, {})[name] = value
    return found


class Group(TyperGroup):
    """A group of commands whose help page does not name the variable of each option."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, D102 - Typer's own
        show(self.params, hidden=False)
        super().format_help(ctx, formatter)


class Command(TyperCommand):
    """A command whose --help shows everyday options; --help-all shows all, and all settings."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, D102 - Typer's own
        if ctx.meta.get(HELP_ALL):
            self.open()
        elif self.name in TABLES:
            more = ", ".join(
                max(p.opts, key=len) for p in self.params if getattr(p, "hidden", False)
            )
            also = f"Also: {more}. " if more else ""
            self.epilog = f"{also}All options and settings: {ctx.command_path} {HELP_ALL}"
        show(self.params, hidden=True)
        super().format_help(ctx, formatter)

    def open(self) -> None:
        """Show everything on the help page."""
        show(self.params, hidden=False)
        if self.name in TABLES:
            self.epilog = _further(self.name)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:  # noqa: ANN401, D102 - Typer's own
        show(self.params, hidden=False)
        return super().shell_complete(ctx, incomplete)


def show(options: Sequence[Any], hidden: bool) -> None:
    """Hide the less common options from a help page or, if not ``hidden``, show them all."""
    for option in options:
        option.hidden, option.show_envvar = hidden and option.hidden, False


def _further(table: str) -> str:
    """The Markdown below all options: settings without a flag, and environment variables."""
    described = TABLES[table].described()
    rare = [
        f"- {RARE} {name}: {_help(meta, default)}"
        for name, (_, meta, default) in described.items()
        if meta.extra["flag"] == RARE
    ]
    first = next(iter(described))
    head = [f"Settings without a flag, {RARE} NAME=VALUE:\n"] if rare else []
    variables = f"Each has a variable, too, which flags and {RARE} beat: {_variable(table, first)}."
    return "\n".join([*head, *rare, "\n\n" + variables])


def _variable(table: str, name: str) -> str:
    return f"{PREFIX}_{table}_{name}".upper()


def read_tables(file: Path | None) -> Tables:
    """All tables of a config file, each checked against its command."""
    if file is None:
        return {}
    known = ", ".join(f"[{name}]" for name in TABLES)
    try:
        tables: Tables = msgspec.toml.decode(file.read_bytes())
    except OSError as e:
        hint = "--config takes a TOML file"
        raise LmsiError(f"{file}: cannot be read: {e.strerror}", hint) from None
    except UNREADABLE as e:
        raise LmsiError(f"{file}: not a TOML file: {e}", hint=f"tables: {known}") from None
    for name, values in tables.items():
        if not isinstance(values, dict):
            hint = f"put it below one of {known}"
            raise LmsiError(f"{file}: setting '{name}' is in no table", hint)
        if name not in TABLES:
            raise LmsiError(f"{file}: unknown table [{name}]", hint=f"tables: {known}")
        resolve(TABLES[name], values, where=f"{file} [{name}]")
    return tables


def _options(kind: type[Config]) -> list[inspect.Parameter]:
    """One option per field with a flag; if absent it is None, so that a config file can fill it."""
    found = []
    for name, (type_, meta, default) in kind.described().items():
        if meta.extra["flag"] == RARE:
            continue
        dashed = name.replace("_", "-")
        option = typer.Option(
            *([f"--{dashed}/--no-{dashed}"] if type_ is bool else flags(name, meta)),
            help=_help(meta, default),
            rich_help_panel=next((p for p, names in PANELS.items() if name in names), None),
            hidden=name not in EVERYDAY,
            allow_from_autoenv=False,  # ``environment`` reads it, so that --set can override it
            autocompletion=COMPLETED.get(name),
        )
        kinds = (t for t in (bool, int, float) if t in (type_, *typing.get_args(type_)))
        scalar = str if meta.extra["zero"] else next(kinds, str)
        typed = list[str] if meta.extra["repeated"] else scalar
        parameter = inspect.Parameter(name, ONLY, default=None)
        found.append(parameter.replace(annotation=Annotated[typed | None, option]))
    return found


def _help(meta: Any, default: Any) -> str:  # noqa: ANN401 - any default
    """A setting's help and default; Typer would put a default given as text in parentheses."""
    zero = meta.extra["zero"]
    if meta.extra["repeated"] and not default:
        default = None  # the flag takes one value, so ``none`` would be one
    return f"{meta.description}  [default: {zero if zero and not default else _shown(default)}]"


def _shown(default: Any) -> str:  # noqa: ANN401 - any default
    """A default as it would be typed."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(map(_shown, default)) or EMPTY
    if isinstance(default, float):
        return f"{default:g}"
    # None: a table of the config file may hold it
    return "not given" if default in (None, "") else str(default)


def complete_models() -> list[str]:
    """Models that come with lmsi, those of other programs, and GGUF files in this folder."""
    here = (file.name for file in Path().glob("*.gguf"))
    return sorted({*cards(), *(found.name for found in at_hand()), *filter(is_model, here)})


def complete_runs(incomplete: str) -> list[str]:
    """Run folders here and one level below; if there are none, the shell completes file names."""
    start = escape(incomplete)  # a Path would lose a leading ./
    found = glob(f"{start}*/run.toml") + glob(f"{start}*/*/run.toml")  # noqa: PTH207
    return sorted(file.removesuffix("/run.toml") for file in found)


COMPLETED = {"model": complete_models, "task": task_names}
