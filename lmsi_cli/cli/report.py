"""`lmsi report`: a run folder in, one page with its results out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lmsi_cli.atomic import write_atomic
from lmsi_cli.cli.session import Json, Overwrite, RunFolder, show
from lmsi_cli.errors import LmsiError
from lmsi_cli.formats import printable
from lmsi_cli.reporting import digest as digests
from lmsi_cli.run_folder import RunDir

Text = Annotated[bool, typer.Option("--text", help="Show it in the terminal; write no file.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Write Markdown to stdout.")]
Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="The HTML file.", show_default="RUN/report.html"),
]


def report(
    run: RunFolder,
    out: Out = None,
    text: Text = False,
    markdown: Markdown = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a run's report: one HTML file that needs no network.

    For an unfinished run it shows the results so far.

    Example: lmsi report runs/first
    """
    from lmsi_cli.stages.report import read_run

    if text + markdown + json > 1:
        raise LmsiError("--text, --markdown and --json are three forms", hint="give one of them")
    if out and (text or markdown or json):
        raise LmsiError(f"--out {out}: only the page is written to a file",
                        hint="without --out, and `> FILE` behind the command")  # fmt: skip
    folder = RunDir(run)
    digest = read_run(folder)
    if markdown:
        sys.stdout.write(digests.markdown(digest))
    elif text or json:
        show(digest, json, digest)
    else:
        target = out or folder.report
        write_page(digest, target, overwrite or out is None)
        sys.stdout.write(f"{printable(str(target))}  {target.stat().st_size / 2**20:.2f} MiB\n")


def write_page(digest: digests.Digest, target: Path, overwrite: bool) -> None:
    """Write a report's HTML page; LmsiError: ``target`` is a folder, or a file to keep."""
    if target.is_dir() or (target.exists() and not overwrite):
        raise LmsiError(f"{target}: is there already", hint="another --out, or --overwrite")
    from importlib.metadata import version

    write_atomic(target, digests.page(digest, version("lmsi")))
