"""How llama.cpp runs, how a token is drawn, and the settings of ``lmsi sample``.

Knows no other command. In a config file:

    [sample]
    paths = 16
    temperature = 0.7
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from lmsi_cli.config.options import DEFAULT_TASK, TEMPLATE_VAR, Config, Variables, opt, rare
from lmsi_cli.records import ChatChoice

KVMode = Literal["auto", "unified", "split"]
FlashMode = Literal["auto", "on", "off"]
FastCopy = Literal["auto", "on", "off"]
NO_STOP = "none"
# six decimals at most: nobody samples enough paths for more
STOP_PATTERN = rf"^(?:{NO_STOP}|beta:0?\.[5-9]\d{{0,5}}|window:(?:[2-9]|[1-9]\d{{1,2}}))\Z"
STOP_FORMS = (
    f"{NO_STOP}, beta:P with P from 0.5 to below 1 (beta:0.95), "
    "or window:W with W from 2 to 999 (window:5)"
)

Layers = Annotated[int, Meta(ge=0)] | Literal["all", "none"]


class EngineConfig(Config, frozen=True, kw_only=True):
    """How llama.cpp runs; nothing here changes what is asked of the model."""

    parallel: Annotated[int, rare("Paths decoded together.", zero="auto", ge=0, le=240)] = 0
    kv: Annotated[
        KVMode, rare("KV cache: one for all paths (unified), one for each (split), or auto.")
    ] = "auto"
    flash_attn: Annotated[FlashMode, rare("Fused attention: on, off, or auto.")] = "auto"
    ctx: Annotated[int, rare("KV cells for all paths together.", zero="auto", ge=0)] = 0
    threads: Annotated[
        int, opt("CPU threads; auto: the physical cores.", zero="auto", ge=0, le=512)
    ] = 0
    fast_copy: Annotated[
        FastCopy,
        rare("Sample from a copy in a faster type: auto (if it behaves the same), on or off."),
    ] = "auto"
    gpu_layers: Annotated[
        Layers, opt("Layers on the GPU: all, none or a number.", "-ngl/--gpu-layers")
    ] = "none"


ORIGINAL = EngineConfig(fast_copy="off")  # to test the file itself, not a copy

TEMPERATURE, HOTTEST = 0.7, 10


class FilterConfig(EngineConfig, frozen=True, kw_only=True):
    """Which tokens may be drawn, in llama.cpp's order: top-k, top-p, min-p; and how many."""

    top_k: Annotated[int, rare("Keep the k likeliest tokens; 0 keeps all.", ge=0)] = 40
    top_p: Annotated[
        float, rare("Keep the likeliest tokens of this total probability.", gt=0, le=1)
    ] = 1.0
    min_p: Annotated[
        float, rare("Drop tokens below this share of the likeliest one.", ge=0, le=1)
    ] = 0.0
    max_tokens: Annotated[int, rare("Longest path, in tokens.", ge=1)] = 256


class SamplingConfig(FilterConfig, frozen=True, kw_only=True):
    """How a token is drawn: at a temperature, from those that the filters leave."""

    temperature: Annotated[float, opt("Sampling temperature; 0 is greedy.", ge=0, le=HOTTEST)] = (
        TEMPERATURE
    )
    seed: Annotated[int, opt("Seed of the run; every path derives its own.", ge=0)] = 0


CHAT_HELP = "Ask in conversations: auto (if the file has a chat template), on or off."
PROMPT = opt(
    "How to ask: auto (a short trial chooses), a format (cot-few), a wording, or a TOML file of "
    "wordings; not given: the task's own words, or auto if there are 5 questions or more."
)
BUDGET = opt("Longest path, in tokens; auto: from the trial's paths.", zero="auto", ge=0)
FewShotChoice = Literal["auto", "turns", "message"]
FEW_SHOT = rare("Exemplars of a conversation: as turns, in one message, or auto (by the wording).")
SYSTEM = opt("System message of a conversation; not given: no such message.")


EngineName = Literal["auto", "llama", "openvino", "openai"]
AUTO: EngineName = "auto"
LLAMA: EngineName = "llama"
SERVER: EngineName = "openai"
OPENVINO: EngineName = "openvino"
EngineChoice = Annotated[
    EngineName,
    opt("What samples: llama (llama.cpp), openvino, auto (the faster one), or openai (a server)."),
]
BaseUrl = Annotated[str, opt("For --engine openai: the server's address, with its /v1.")]
Concurrency = Annotated[int, rare("Requests to a server at the same time.", ge=1, le=1024)]
PerRequest = Annotated[
    int,
    rare("Paths in one request to a server; 1: each has its own seed; 0: all, if it can.", ge=0),
]
Timeout = Annotated[float, rare("Seconds to wait for a server's reply.", gt=0, le=86_400)]
Retries = Annotated[
    int, rare("How often a failed request is tried again, after growing waits.", ge=0, le=100)
]
ApiKeyFile = Annotated[
    str, rare("A file with the server's key that only you may read; not given: LMSI_API_KEY.")
]


class ServerConfig(Config, frozen=True, kw_only=True):
    """How a server is reached and asked; nothing here changes what is asked of the model."""

    base_url: BaseUrl = ""
    concurrency: Concurrency = 8
    per_request: PerRequest = 0
    timeout: Timeout = 600.0
    retries: Retries = 8
    api_key_file: ApiKeyFile = ""


DEFAULT = ServerConfig()


def serving(settings: Config) -> ServerConfig:
    """The part of a command's settings that is about its server."""
    return msgspec.convert(settings, ServerConfig, from_attributes=True)


class SampleConfig(SamplingConfig, frozen=True, kw_only=True):
    """Settings of ``lmsi sample``."""

    model: Annotated[
        str,
        opt(
            "A GGUF file, or a name: hf:OWNER/REPO:QUANT, ollama:NAME, one of `lmsi models`, or a "
            "server's.",
            "-m/--model",
        ),
    ] = "tinymath"
    task: Annotated[str, opt("Answer kind and exemplars; auto: as the set or the model says.")] = (
        DEFAULT_TASK
    )
    prompt: Annotated[str, PROMPT] = ""
    max_tokens: Annotated[int, BUDGET] = 0
    chat: Annotated[ChatChoice, opt(CHAT_HELP)] = "auto"
    few_shot: Annotated[FewShotChoice, FEW_SHOT] = "auto"
    system: Annotated[str, SYSTEM] = ""
    template_var: Annotated[Variables, TEMPLATE_VAR] = ()
    paths: Annotated[int, opt("Paths per question.", "-n/--paths", ge=1, le=1 << 16)] = 16
    stop: Annotated[
        str,
        opt(
            "Leave a question once it is decided: beta:0.95 or window:5.",
            forms=STOP_FORMS,
            pattern=STOP_PATTERN,
        ),
    ] = NO_STOP
    adapter: Annotated[str, rare("GGUF adapter to sample with; not given: the base alone.")] = ""
    limit: Annotated[int, opt("Only the first questions; 0 takes all.", ge=0)] = 0
    engine: EngineChoice = LLAMA
    base_url: BaseUrl = DEFAULT.base_url
    concurrency: Concurrency = DEFAULT.concurrency
    per_request: PerRequest = DEFAULT.per_request
    timeout: Timeout = DEFAULT.timeout
    retries: Retries = DEFAULT.retries
    api_key_file: ApiKeyFile = DEFAULT.api_key_file
    cluster: Annotated[
        str, opt("Sample with Ray workers: local, auto or HOST:PORT; not given: in this process.")
    ] = ""
    workers: Annotated[
        int, rare("Largest number of cluster workers.", zero="as many as fit", ge=0, le=100_000)
    ] = 0
