"""The settings of ``lmsi eval``.

Knows no other command. In a config file:

    [eval]
    modes = ["direct", "cot", "sc"]
"""

from __future__ import annotations

from typing import Annotated, Literal

from lmsi_cli.config.options import DEFAULT_TASK, opt
from lmsi_cli.config.sampling import SamplingConfig
from lmsi_cli.records import ChatChoice, Mode, PromptFormat


class EvalConfig(SamplingConfig, frozen=True, kw_only=True):
    """Settings of ``lmsi eval``."""

    modes: Annotated[tuple[Mode, ...], opt("What to measure, comma-separated.", min_length=1)] = (
        "direct",
        "cot",
        "sc",
    )
    paths: Annotated[int, opt("Paths per question for self-consistency.", "-n/--paths", ge=1)] = 5
    prompt: Annotated[PromptFormat, opt("Prompt format of the chain-of-thought modes.")] = (
        "cot-zero"
    )
    task: Annotated[str, opt("Answer kind and exemplars; auto: as sampled.")] = DEFAULT_TASK
    chat: Annotated[ChatChoice, opt("Ask in conversations: on, off, or auto: as sampled.")] = "auto"
    few_shot: Annotated[
        Literal["auto", "turns", "message"],
        opt("Exemplars of a conversation: as turns, in one message, or auto: as sampled."),
    ] = "auto"
    system: Annotated[str | None, opt("System message of a conversation; none: as sampled.")] = None
    scale: Annotated[
        float | None,
        opt("Adapter scale; not given: as chosen after training.", "--adapter-scale", gt=0),
    ] = None
    limit: Annotated[int, opt("Only the first questions; 0 takes all.", ge=0)] = 0
