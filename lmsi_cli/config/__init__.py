"""Every default of every command, once.

Each field's type holds its range, ``Meta(description=...)`` its help text and ``extra={"flag"}``
its spelling on the command line; the command line and ``lmsi.toml`` are both made from these
structs. Knows nothing of Typer, files or models. A config file, one table per command:

    [sample]
    paths = 16
    temperature = 0.7
"""

from __future__ import annotations

from lmsi_cli.config.commands import (
    REPOSITORY,
    EvalConfig,
    ExemplarsConfig,
    ExportConfig,
    QuestionsConfig,
    RunConfig,
)
from lmsi_cli.config.options import (
    DEFAULT_KIND,
    DEFAULT_TASK,
    EVERYDAY,
    PANELS,
    PREFIX,
    RARE,
    Config,
    Variables,
    name_of,
    values_of,
)
from lmsi_cli.config.sampling import (
    LLAMA,
    NO_STOP,
    OPENVINO,
    ORIGINAL,
    SERVER,
    STOP_FORMS,
    STOP_PATTERN,
    EngineConfig,
    EngineName,
    FastCopy,
    Layers,
    SampleConfig,
    SamplingConfig,
    ServerConfig,
    serving,
)
from lmsi_cli.config.training import (
    PAPER,
    PRESETS,
    SPEED_ONLY,
    TrainConfig,
    VoteConfig,
)

__all__ = [
    "DEFAULT_KIND",
    "DEFAULT_TASK",
    "EVERYDAY",
    "LLAMA",
    "NO_STOP",
    "OPENVINO",
    "ORIGINAL",
    "PANELS",
    "PAPER",
    "PREFIX",
    "PRESETS",
    "RARE",
    "REPOSITORY",
    "SERVER",
    "SPEED_ONLY",
    "STOP_FORMS",
    "STOP_PATTERN",
    "TABLES",
    "Config",
    "EngineConfig",
    "EngineName",
    "EvalConfig",
    "ExemplarsConfig",
    "ExportConfig",
    "FastCopy",
    "Layers",
    "QuestionsConfig",
    "RunConfig",
    "SampleConfig",
    "SamplingConfig",
    "ServerConfig",
    "TrainConfig",
    "Variables",
    "VoteConfig",
    "name_of",
    "serving",
    "values_of",
]

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
