"""Every default of every command, defined once.

Each field's type holds its range, ``Meta(description=...)`` its help text and ``extra={"flag"}``
its spelling on the command line; the command line and ``lmsi.toml`` are both made from these
structs. Knows nothing of Typer, files or models. A config file, one table per command:

    [sample]
    paths = 16
    temperature = 0.7
"""

# ruff: noqa: F403, F405 - all that these modules define is meant for others
from __future__ import annotations

from lmsi_cli.config.commands import *
from lmsi_cli.config.options import *
from lmsi_cli.config.sampling import *
from lmsi_cli.config.training import *

TABLES: dict[str, type[Config]] = {
    "sample": SampleConfig,
    "vote": VoteConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
    "run": RunConfig,
    "export": ExportConfig,
    "questions": QuestionsConfig,
    "exemplars": ExemplarsConfig,
}
