"""`lmsi models`: what is available, and what a card or any GGUF file says of itself."""

from __future__ import annotations

from typing import Annotated

import typer

from lmsi_cli.cli.session import Json, show

app = typer.Typer(invoke_without_command=True)
Name = Annotated[
    str,
    typer.Argument(help="A name from the list, or the path of a GGUF file.", show_default=False),
]


@app.callback()
def models(context: typer.Context, json: Json = False) -> None:
    """Show the models that come with lmsi, or what a file says of itself.

    Example: lmsi models
    """
    if context.invoked_subcommand is None:
        _list(json)


@app.command("show")
def show_(name: Name, json: Json = False) -> None:
    """Print a model's card and its file's metadata.

    Example: lmsi models show tinymath
    """
    from lmsi_cli.catalog import card_text, find_model
    from lmsi_cli.engine.metadata import read_metadata
    from lmsi_cli.report.digest import Sheet

    model = find_model(name)
    meta = read_metadata(model.path)
    rows = tuple((k.replace("_", " "), _shown(v)) for k, v in meta.items())
    card = [card_text(model.card.name)] if model.card else []
    told = {"card": model.card, "file": str(model.path), "metadata": meta}
    show(told, json, *card, Sheet(title=str(model.path), rows=rows))


def _list(as_json: bool) -> None:
    from lmsi_cli.catalog import cards, find_model
    from lmsi_cli.report.digest import Sheet

    found = [find_model(name) for name in cards()]
    rows = tuple((m.card.name, m.card.summary) for m in found if m.card)
    show([m.card for m in found], as_json, Sheet(title="models", rows=rows))


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
