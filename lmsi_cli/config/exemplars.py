"""The settings of ``lmsi exemplars``.

Knows no other command. In a config file:

    [exemplars]
    shots = 4
    templates = 20
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from lmsi_cli.config.options import DEFAULT_MODEL, DEFAULT_TASK, opt
from lmsi_cli.config.sampling import CHAT, FilterConfig, SampleConfig, SamplingConfig
from lmsi_cli.records import ChatChoice


class ExemplarsConfig(SamplingConfig, frozen=True, kw_only=True):
    """Settings of ``lmsi exemplars``; the runs behind its defaults are in ``docs/exemplars.md``."""

    model: Annotated[str, opt("A GGUF file, or a name from `lmsi models`.", "-m/--model")] = (
        DEFAULT_MODEL
    )
    task: Annotated[str, opt("Answer kind and words; auto: by the set or the model.")] = (
        DEFAULT_TASK
    )
    prompt: Annotated[
        Literal["cot-zero", "cot-zero-2"],
        opt("How rationales are asked for: cot-zero, or cot-zero-2 with its second stage."),
    ] = "cot-zero"
    chat: Annotated[ChatChoice, CHAT] = "auto"
    paths: Annotated[
        int, opt("Paths per seed; 1: the greedy one, as in the paper.", "-n/--paths", ge=1)
    ] = 16
    shots: Annotated[int, opt("Exemplars of a template.", ge=1)] = 4
    templates: Annotated[int, opt("Templates, which paths take in turn.", ge=1)] = 1
    min_share: Annotated[
        float, opt("Leave out seeds whose winner has a smaller share.", ge=0, le=1)
    ] = 0.5
    check_equations: Annotated[
        bool, opt("Paths that state a false equation do not vote; of one path it never counts.")
    ] = True
    limit: Annotated[int, opt("Only the first seeds; 0 takes all.", ge=0)] = 0

    @property
    def needed(self) -> int:
        """Exemplars in all."""
        return self.shots * self.templates

    def sampling(self) -> SampleConfig:
        """How the rationales are drawn; a single path greedily."""
        names = (*FilterConfig.__struct_fields__, "temperature", "seed", "model", "task", "prompt")
        shared: dict[str, Any] = {n: getattr(self, n) for n in (*names, "chat", "paths", "limit")}
        return SampleConfig(**shared | ({"temperature": 0.0} if self.paths == 1 else {}))
