"""What the site has besides the pages of docs/: README, ARCHITECTURE, and a page of all commands.

A hook of MkDocs (mkdocs.yml). The page of commands is made by Typer's own writer, from the code.
"""

from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from lmsi_cli.cli.main import app
from lmsi_cli.cli.options import Command

ROOT = Path(__file__).parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    pages = {
        "index.md": (ROOT / "README.md").read_text(encoding="utf-8"),
        "ARCHITECTURE.md": (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"),
        "commands.md": commands(),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401 - MkDocs' own
    """Turn links between the folders of the repository into links between pages."""
    return markdown.replace("](docs/", "](").replace("](../ARCHITECTURE", "](ARCHITECTURE")


def commands() -> str:
    """The reference of all commands, as Markdown."""
    command = typer.main.get_command(app)
    for one in command.commands.values():
        if isinstance(one, Command):
            one.open()
    return get_docs_for_click(obj=command, ctx=typer.Context(command), name="lmsi")
