"""`lmsi show`: one question of a run, with its paths, its ballots and its vote."""

from __future__ import annotations

from typing import Annotated

import typer

from lmsi_cli.cli.session import Json, RunFolder
from lmsi_cli.cli.session import show as print_
from lmsi_cli.stages.asking import task_of

QuestionId = Annotated[
    str, typer.Option("--question", help="A question's id; the first one if left out.")
]


def show(run: RunFolder, question: QuestionId = "", json: Json = False) -> None:
    """Show one question's paths with the answers marked, the ballots and the vote.

    Example: lmsi show runs/first --question q7
    """
    from lmsi_cli.cli.tables import shown_parts
    from lmsi_cli.run_folder import open_run
    from lmsi_cli.stages.show import show_question

    folder = open_run(run)
    found = show_question(folder, task_of(folder), question)
    print_(found, json, *shown_parts(found))
