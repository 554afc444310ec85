"""The command `lmsi`: its commands, and the one place where an error becomes a line of text.

Knows which commands there are; each lives in a file of its own. Exit codes: 0, 1 (the user can
fix it), 2 (usage), 3 (no gain where one was required), 130 (interrupted), 143 (terminated).
Anything else that escapes is a bug and shows its traceback.

SIGTERM ends the process within two seconds and leaves its files whole. Python runs signal handlers
only between bytecodes, and a long decode or training step is a single call into C. So a thread
reads the wake-up pipe, which the C-level handler writes to at once: it gives the main thread
``GRACE`` seconds to unwind, then ends the process. Nothing is lost: the kernel already has the
line of every finished path, whole files are renamed into place, and the lock of the run folder
ends with the process.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lmsi_cli.atomic import refusal
from lmsi_cli.cli import (
    compare,
    evaluate,
    exemplars,
    export,
    init,
    inspect,
    questions,
    report,
    run,
    sample,
    train,
    vote,
)
from lmsi_cli.cli.console import err
from lmsi_cli.cli.options import HELP_ALL, Command, Group
from lmsi_cli.config import PREFIX, RARE, TABLES
from lmsi_cli.errors import LmsiError
from lmsi_cli.formats import printable
from lmsi_cli.training import processes

INTERRUPTED = 130
TERMINATED = 128 + signal.SIGTERM
GRACE = 1.2  # seconds to unwind; training since the last checkpoint may be lost
SHOW_CURSOR = "\x1b[?25h"  # a progress bar that is not taken down leaves it hidden
SWITCHES, VALUED = {"-q", "--quiet", "-v", "--verbose"}, {"--config", RARE}  # common options
OVERWRITE = "--overwrite"
DISCARDING = {"sample", "questions", "train", "run"}  # with it; others replace what is finished


class Terminated(KeyboardInterrupt):
    """SIGTERM as an exception: code that cleans up after Ctrl-C also cleans up after it."""


class _Group(Group):
    """Accepts common options anywhere; turns errors that the user can fix into messages."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - Typer's own signature
        ctx.meta[HELP_ALL] = HELP_ALL in args
        return super().parse_args(ctx, _common_first(args))

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer's own signature
        try:
            return super().invoke(ctx)
        except (LmsiError, OSError) as e:
            _tell(refusal(e) if isinstance(e, OSError) else e)
            raise typer.Exit(1) from None
        except KeyboardInterrupt as e:
            ended = isinstance(e, Terminated)
            err().print(_goes_on("terminated" if ended else "interrupted"), markup=False)
            raise typer.Exit(TERMINATED if ended else INTERRUPTED) from None


def _common_first(args: Sequence[str]) -> list[str]:
    """Move common options to the front, where the group looks: ``sample -q`` to ``-q sample``."""
    common, other, rest = list[str](), list[str](), iter(args)
    for arg in rest:
        name = arg.partition("=")[0]
        if arg == "--":
            return [*common, *other, arg, *rest]
        if name in VALUED:
            value = [] if "=" in arg else list(islice(rest, 1))
            (common if value or "=" in arg else other).extend([arg, *value])  # else: incomplete
        else:
            (common if arg in SWITCHES else other).append("--help" if arg == HELP_ALL else arg)
    return [*common, *other]


def _goes_on(how: str) -> str:
    """Say how the process ended, and that nothing is lost."""
    again = OVERWRITE in sys.argv and DISCARDING.intersection(sys.argv)
    without = f" without {OVERWRITE}" if again else ""
    return f"{how}; what was finished is saved, the same command{without} goes on"


def _tell(e: LmsiError) -> None:
    place, console = processes.place(), err()
    if place.rank and sys.__stderr__:  # the other processes print only this
        print(printable(f"process {place.rank + 1} of {place.world}: {e}"), file=sys.__stderr__)
        return
    console.print(printable(f"error: {e}"), style="red", markup=False, emoji=False)
    if e.hint:
        console.print(printable(f"hint: {e.hint}"), markup=False, emoji=False)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": PREFIX},
    epilog=f"`lmsi COMMAND {HELP_ALL}` shows all options and settings of a command.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lmsi {version('lmsi')}")
        raise typer.Exit


@app.callback()
def lmsi(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            allow_from_autoenv=False,
            help="Print the version.",
        ),
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file of settings; flags override it.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            RARE,
            metavar="NAME=VALUE",
            envvar=f"{PREFIX}_SET",
            help="Set a setting of this command, or of another: sample.top_k=20. May be repeated.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what is chosen, and why.")
    ] = False,
) -> None:
    """Improve a language model on your laptop with questions alone, without their answers.

    Sample many chains of thought per question, let them vote, train a small adapter on the
    majority, and measure whether it helped.

    `--config`, `--set`, `--quiet` and `--verbose` may also follow a command's name.
    """
    # the commands read --config, --set and --quiet from this context: ``options.configured``
    processes.check(ctx.invoked_subcommand)
    for name, flag in (("settings", RARE), ("config", "--config")):
        source = ctx.get_parameter_source(name)  # a variable of the shell is for all commands
        if ctx.invoked_subcommand not in TABLES and source and source.name == "COMMANDLINE":
            message = f"{flag}: `lmsi {ctx.invoked_subcommand}` has no settings"
            raise LmsiError(message, hint="leave it out")
    if verbose:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("lmsi_cli").setLevel(logging.INFO)  # not what libraries say


COMMANDS: dict[str, Callable[..., None]] = {
    "init": init.init,
    "run": run.run,
    "sample": sample.sample,
    "vote": vote.vote,
    "train": train.train,
    "eval": evaluate.evaluate,
    "questions": questions.questions,
    "watch": inspect.watch,
    "exemplars": exemplars.exemplars,
    "export": export.export,
    "report": report.report,
    "compare": compare.compare,
    "show": inspect.show,
    "explain": inspect.explain,
    "doctor": inspect.doctor,
}
for name, command in COMMANDS.items():
    app.command(name, cls=Command)(command)
app.add_typer(inspect.tasks_app, name="tasks")
app.add_typer(inspect.models_app, name="models")


def main() -> None:
    """Run the command line, with its signal handling."""
    with _one_voice(), at_once(processes.place().world > 1):
        obey(_goes_on("terminated"))
        app()


@contextmanager
def _one_voice() -> Iterator[None]:
    """Silence all but the first of the processes that train together; tracebacks still show."""
    if processes.place().rank == 0:
        yield
        return
    with Path(os.devnull).open("w") as no, redirect_stdout(no), redirect_stderr(no):
        yield


def obey(words: str) -> None:
    """Handle SIGTERM from here on (Windows has none); call this once, in the main thread.

    Args:
        words: Printed for the user if the main thread does not unwind in time.
    """
    if sys.platform == "win32":
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGTERM, _raise)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_late, args=(reader, words), daemon=True).start()


def _raise(_number: int, _frame: object) -> NoReturn:
    raise Terminated


def _end_late(reader: int, words: str) -> None:
    """Wait for SIGTERM, and end the process if it has not ended by itself soon after."""
    while os.read(reader, 1) != bytes([signal.SIGTERM]):
        continue
    time.sleep(GRACE)
    os.write(2, f"{SHOW_CURSOR if os.isatty(2) else ''}{words}\n".encode())
    os._exit(TERMINATED)


@contextmanager
def at_once(several: bool) -> Iterator[None]:
    """Exit a failed process, if it is one of several, without shutting Python down.

    A thread of torch.distributed may still return from a broken exchange; if it needs Python
    during shutdown, it aborts the process, with exit code 134 instead of 1.
    """
    try:
        yield
    except SystemExit as e:
        if several and isinstance(e.code, int) and e.code:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(e.code)
        raise
