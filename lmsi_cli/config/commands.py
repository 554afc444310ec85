"""The settings of ``lmsi eval``, ``run``, ``questions``, ``exemplars`` and ``export``.

Their paths are drawn as [sample] says, except for the settings here; those of exemplars take only
the model from there. In a config file, where a setting that takes several values also accepts a
single one:

    [eval]
    modes = ["cot", "sc", "direct"]
    temperature = [0.7, 1.0]
    [run]
    rounds = 3
    [questions]
    seeds = 10
    [exemplars]
    templates = 20
    [export]
    to = "gguf"
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from lmsi_cli.config.options import DEFAULT_TASK, Config, opt, rare
from lmsi_cli.config.sampling import (
    CHAT_HELP,
    DEFAULT,
    HOTTEST,
    LLAMA,
    TEMPERATURE,
    ApiKeyFile,
    BaseUrl,
    Concurrency,
    EngineChoice,
    FewShotChoice,
    FilterConfig,
    Layers,
    PerRequest,
    Retries,
    SampleConfig,
    SamplingConfig,
    Timeout,
)
from lmsi_cli.records import ChatChoice, Mode

REPOSITORY = r"[a-zA-Z0-9][\w.-]*/[a-zA-Z0-9][\w.-]*"  # as hubs name models
Target = Literal["adapter", "gguf", "hf", "ollama", "parquet"]
Model = Annotated[
    str | None, opt("A GGUF file or a name; not given: as in [sample].", "-m/--model")
]
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
        opt(
            "Seeds of the sampled paths, comma-separated; the table shows the first, the changes "
            "average all.",
            min_length=1,
        ),
    ] = (0,)
    prompt: Annotated[
        str, opt("How cot and sc ask: a format, a wording or a file; not given: as in the run.")
    ] = ""
    max_tokens: Annotated[
        int, opt("Longest path, in tokens; auto: as in the run.", zero="auto", ge=0)
    ] = 0
    task: Annotated[str, opt("Answer kind and exemplars; auto: as in the run.")] = DEFAULT_TASK
    chat: Annotated[ChatChoice, rare("Ask in conversations: on, off, or auto (as in the run).")] = (
        "auto"
    )
    few_shot: Annotated[
        FewShotChoice,
        rare("Exemplars of a conversation: as turns, in one message, or auto (as in the run)."),
    ] = "auto"
    system: Annotated[
        str | None, rare("System message of a conversation; not given: as in the run.")
    ] = None
    scale: Annotated[tuple[Scale, ...], rare("Adapter scales, comma-separated; none: 1.")] = ()
    limit: Annotated[int, opt("Only the first questions of each set; 0 takes all.", ge=0)] = 0
    engine: EngineChoice = LLAMA
    base_url: BaseUrl = DEFAULT.base_url
    concurrency: Concurrency = DEFAULT.concurrency
    per_request: PerRequest = DEFAULT.per_request
    timeout: Timeout = DEFAULT.timeout
    retries: Retries = DEFAULT.retries
    api_key_file: ApiKeyFile = DEFAULT.api_key_file
    model: Annotated[str, rare("The base's name on a server; not given: as in the run.")] = ""

    def sampling(self, temperature: float, seed: int, max_tokens: int) -> SamplingConfig:
        """How tokens are drawn at one temperature and seed."""
        shared = {name: getattr(self, name) for name in FilterConfig.__struct_fields__}
        shared |= {"temperature": temperature, "seed": seed, "max_tokens": max_tokens}
        return SamplingConfig(**shared)


class RunConfig(Config, frozen=True, kw_only=True):
    """Settings of ``lmsi run``; the stages' own tables in the config file hold the rest."""

    model: Model = None
    rounds: Annotated[
        int, opt("Number of rounds; each samples with the last good adapter.", ge=1)
    ] = 1
    paths: Annotated[
        int | None, opt("Paths per question; not given: as in [sample].", "-n/--paths")
    ] = None
    limit: Annotated[int | None, opt("Only the first questions; not given: as in [sample].")] = None
    seed: Annotated[int | None, opt("Seed of all stages; not given: each stage's own.")] = None
    threads: Annotated[int | None, opt("CPU threads; not given: as in [sample].")] = None
    gpu_layers: Annotated[
        Layers | None,
        opt(
            "Layers on the GPU: all, none or a number; not given: as in [sample].",
            "-ngl/--gpu-layers",
        ),
    ] = None
    round_temperature: Annotated[
        tuple[Temperature, ...],
        rare("Temperature of each round, comma-separated; later rounds keep the last one."),
    ] = ()
    continue_from_last: Annotated[
        bool, rare("Start training from the last good round's adapter instead of the base.")
    ] = False


class QuestionsConfig(SamplingConfig, frozen=True, kw_only=True):
    """Settings of ``lmsi questions``; ``docs/methods.md`` says where the defaults come from.

    The temperature and the filters apply to the text of the questions; paths have those of
    [sample].
    """

    temperature: Annotated[
        float, opt("Temperature of the questions; paths have that of [sample].", ge=0, le=HOTTEST)
    ] = 1.0
    max_tokens: Annotated[int, rare("Longest question, in tokens.", ge=1)] = 256
    model: Model = None
    number: Annotated[int, opt("Questions to keep.", "-n/--number", ge=1)] = 100
    seeds: Annotated[int, opt("Seed questions to take from the file, at random.", ge=1)] = 10
    paths: Annotated[int, opt("Paths that vote on each question.", "--paths", ge=1)] = 8
    min_share: Annotated[
        float, opt("Drop questions whose winner has a smaller share of all paths.", ge=0, le=1)
    ] = 0.5


class ExemplarsConfig(SamplingConfig, frozen=True, kw_only=True):
    """Settings of ``lmsi exemplars``; the runs behind its defaults are in ``docs/methods.md``."""

    temperature: Annotated[float, rare("Sampling temperature; 0 is greedy.", ge=0, le=HOTTEST)] = (
        TEMPERATURE
    )
    model: Model = None
    task: Annotated[str, opt("Answer kind and words; auto: as the set or the model says.")] = (
        DEFAULT_TASK
    )
    chat: Annotated[ChatChoice, rare(CHAT_HELP)] = "auto"
    paths: Annotated[
        int, opt("Paths per seed question; 1: a greedy one, as in the paper.", "-n/--paths", ge=1)
    ] = 16
    shots: Annotated[int, opt("Exemplars in a template.", ge=1)] = 4
    templates: Annotated[int, opt("Number of templates; paths use them in turn.", ge=1)] = 1
    min_share: Annotated[
        float, rare("Leave out seeds whose winner has a smaller share.", ge=0, le=1)
    ] = 0.5
    limit: Annotated[int, opt("Only the first seeds; 0 takes all.", ge=0)] = 0

    @property
    def needed(self) -> int:
        """Number of exemplars in all templates."""
        return self.shots * self.templates

    def sampling(self) -> SampleConfig:
        """How the rationales are drawn; a single path is drawn greedily."""
        names = (*FilterConfig.__struct_fields__, "temperature", "seed", "model", "task")
        shared: dict[str, Any] = {n: getattr(self, n) for n in (*names, "chat", "paths", "limit")}
        return SampleConfig(
            prompt="cot-zero", **shared | ({"temperature": 0.0} if self.paths == 1 else {})
        )


class ExportConfig(Config, frozen=True, kw_only=True):
    """Settings of ``lmsi export``."""

    to: Annotated[
        Target,
        opt("What to write: adapter alone, merged gguf, hf or ollama, or the records as parquet."),
    ] = "adapter"
    type: Annotated[
        str, opt("Type of the merged weights, as llama.cpp names it; not given: the base's.")
    ] = ""
    base_name: Annotated[
        str,
        opt(
            "Name of the base on the hub, OWNER/NAME; not given: as its file says.",
            forms="OWNER/NAME, as on the Hugging Face hub",
            pattern=rf"^(?:{REPOSITORY})\Z",
        ),
    ] = ""
