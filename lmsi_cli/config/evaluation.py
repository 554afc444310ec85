"""The settings of ``lmsi eval``.

Knows no other command. In a config file; where several values are taken, one may stand alone:

    [eval]
    modes = ["cot", "sc", "direct"]
    temperature = [0.7, 1.0]
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from lmsi_cli.config.options import DEFAULT_TASK, opt, rare
from lmsi_cli.config.sampling import (
    DEFAULT,
    HOTTEST,
    LLAMA,
    TEMPERATURE,
    ApiKeyFile,
    BaseUrl,
    Concurrency,
    EngineChoice,
    FilterConfig,
    PerRequest,
    Retries,
    SamplingConfig,
    Timeout,
)
from lmsi_cli.records import ChatChoice, Mode

Temperature = Annotated[float, Meta(ge=0, le=HOTTEST)]
Scale = Annotated[float, Meta(gt=0, le=100)]
Seed = Annotated[int, Meta(ge=0)]


class EvalConfig(FilterConfig, frozen=True, kw_only=True):
    """Settings of ``lmsi eval``; the first mode, temperature and seed are the main ones."""

    modes: Annotated[
        tuple[Mode, ...],
        opt("What to measure, comma-separated; the first one's line decides.", min_length=1),
    ] = ("cot", "sc", "direct")
    paths: Annotated[int, opt("Paths per question for self-consistency.", "-n/--paths", ge=1)] = 5
    temperature: Annotated[
        tuple[Temperature, ...],
        opt("Temperatures of the sampled paths, comma-separated.", min_length=1),
    ] = (TEMPERATURE,)
    seed: Annotated[
        tuple[Seed, ...],
        opt("Seeds of the sampled paths, comma-separated; the first also resamples.", min_length=1),
    ] = (0,)
    prompt: Annotated[
        str, opt("How cot and sc ask: a format, a wording or a file; none: as sampled.")
    ] = ""
    max_tokens: Annotated[
        int, opt("Longest path, in tokens; auto: as sampled.", zero="auto", ge=0)
    ] = 0
    task: Annotated[str, opt("Answer kind and exemplars; auto: as sampled.")] = DEFAULT_TASK
    chat: Annotated[ChatChoice, rare("Ask in conversations: on, off, or auto: as sampled.")] = (
        "auto"
    )
    few_shot: Annotated[
        Literal["auto", "turns", "message"],
        rare("Exemplars of a conversation: as turns, in one message, or auto: as sampled."),
    ] = "auto"
    system: Annotated[str | None, rare("System message of a conversation; none: as sampled.")] = (
        None
    )
    scale: Annotated[
        tuple[Scale, ...],
        opt("Adapter scales, comma-separated; none: 1.", "--adapter-scale"),
    ] = ()
    limit: Annotated[int, opt("Only the first questions of each set; 0 takes all.", ge=0)] = 0
    engine: EngineChoice = LLAMA
    base_url: BaseUrl = DEFAULT.base_url
    concurrency: Concurrency = DEFAULT.concurrency
    per_request: PerRequest = DEFAULT.per_request
    timeout: Timeout = DEFAULT.timeout
    retries: Retries = DEFAULT.retries
    api_key_file: ApiKeyFile = DEFAULT.api_key_file
    model: Annotated[str, rare("The base's name on a server; none: as sampled.")] = ""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the sampled paths, each once."""
        return tuple(dict.fromkeys(self.seed))

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures of the sampled paths, each once."""
        return tuple(dict.fromkeys(self.temperature))

    def sampling(self, temperature: float, seed: int, max_tokens: int) -> SamplingConfig:
        """How one sitting draws its tokens."""
        shared = {name: getattr(self, name) for name in FilterConfig.__struct_fields__}
        return SamplingConfig(
            **{**shared, "max_tokens": max_tokens}, temperature=temperature, seed=seed
        )
