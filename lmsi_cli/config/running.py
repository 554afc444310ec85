"""The settings of ``lmsi run``; those of its stages stand in their own tables.

Knows no other command. In a config file:

    [run]
    rounds = 1
"""

from __future__ import annotations

from typing import Annotated

from lmsi_cli.config.evaluation import Temperature
from lmsi_cli.config.options import Config, opt
from lmsi_cli.config.sampling import STOP_FORMS, Criterion, Layers
from lmsi_cli.config.variables import FORMS, Variables
from lmsi_cli.records import ChatChoice


class RunConfig(Config, frozen=True, kw_only=True):
    """Settings of ``lmsi run``; the stages' own tables in the config file hold the rest."""

    model: Annotated[
        str | None, opt("A GGUF file or a name; not given: as [sample].", "-m/--model")
    ] = None
    rounds: Annotated[int, opt("Rounds; each samples with the last good adapter.", ge=1)] = 1
    chat: Annotated[ChatChoice, opt("Ask in conversations: on, off, or auto: as [sample].")] = (
        "auto"
    )
    template_var: Annotated[
        Variables | None,
        opt("Set a variable of the chat template; not given: as [sample].", "", FORMS, True),
    ] = None
    paths: Annotated[
        int | None, opt("Paths per question; not given: as [sample].", "-n/--paths")
    ] = None
    stop: Annotated[
        Criterion | None,
        opt("Leave a question once it is decided; not given: as [sample].", forms=STOP_FORMS),
    ] = None
    limit: Annotated[int | None, opt("Only the first questions; not given: as [sample].")] = None
    seed: Annotated[int | None, opt("Seed of all stages; not given: each its own.")] = None
    parallel: Annotated[
        int | None,
        opt("Paths decoded together; not given: as [sample].", "-np/--parallel"),
    ] = None
    threads: Annotated[int | None, opt("CPU threads; not given: as [sample].")] = None
    gpu_layers: Annotated[
        Layers | None,
        opt(
            "Layers on the GPU: all, none or a number; not given: as [sample].",
            "-ngl/--gpu-layers",
        ),
    ] = None
    round_temperature: Annotated[
        tuple[Temperature, ...],
        opt("Temperature of each round, comma-separated; the last goes on; none: as [sample]."),
    ] = ()
    continue_from_last: Annotated[
        bool, opt("Train on from the last good round's adapter instead of from the base.")
    ] = False
