"""Every default of every command, once.

Each field's type holds its range, ``Meta(description=...)`` its help text and ``extra={"flag"}``
its spelling on the command line; the command line and ``lmsi.toml`` are both made from these
structs. Knows nothing of Typer, files or models. A config file, one table per command:

    [sample]
    paths = 16
    temperature = 0.7
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from lmsi_cli.records import ChatChoice, FewShot, Mode, PromptFormat

KVMode = Literal["auto", "unified", "split"]
FlashMode = Literal["auto", "on", "off"]
DEFAULT_MODEL = "tinymath"
DEFAULT_TASK = "auto"
DEFAULT_KIND = "number"  # of `lmsi explain`, which knows no task
NO_STOP = "none"
# six decimals at most: nobody samples enough paths for more
STOP_PATTERN = rf"^(?:{NO_STOP}|beta:0?\.[5-9]\d{{0,5}}|window:(?:[2-9]|[1-9]\d{{1,2}}))\Z"
STOP_FORMS = (
    f"{NO_STOP}, beta:P with P from 0.5 to below 1 (beta:0.95), "
    "or window:W with W from 2 to 999 (window:5)"
)

MAJORITY, FITTED = "majority", "cisc:auto"
WEIGHT_PATTERN = (
    rf"^(?:{MAJORITY}|logprob|mean_logprob|{FITTED}"
    r"|cisc:(?=[\d.]*[1-9])\d{0,3}(?:\.\d{1,6}|(?<=\d)))\Z"
)
WEIGHT_FORMS = (
    f"{MAJORITY}, logprob, mean_logprob, cisc:T with T above 0 (cisc:0.5), or {FITTED} (needs "
    "--probe)"
)


def opt(help_: str, flag: str = "", forms: str = "", **limits: Any) -> Meta:  # noqa: ANN401
    """Describe one option: help text, flags (``-n/--paths``), range, and a pattern in words."""
    return Meta(description=help_, extra={"flag": flag, "forms": forms}, **limits)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every command's settings."""


Layers = Annotated[int, Meta(ge=0)] | Literal["all", "none"]
Criterion = Annotated[str, Meta(pattern=STOP_PATTERN)]


class EngineConfig(Config, frozen=True, kw_only=True):
    """How llama.cpp runs; nothing here changes what is asked of the model."""

    parallel: Annotated[
        int, opt("Paths decoded together; 0 chooses.", "-np/--parallel", ge=0, le=240)
    ] = 0
    kv: Annotated[
        KVMode, opt("One KV cache for all paths (unified), one for each (split), or auto.")
    ] = "auto"
    flash_attn: Annotated[
        FlashMode, opt("Fused attention: on, off, or auto.", "-fa/--flash-attn")
    ] = "auto"
    ctx: Annotated[int, opt("KV cells for all paths together; 0 chooses.", ge=0)] = 0
    threads: Annotated[int, opt("CPU threads; 0 takes the physical cores.", ge=0, le=512)] = 0
    gpu_layers: Annotated[
        Layers, opt("Layers on the GPU: all, none or a number.", "-ngl/--gpu-layers")
    ] = "none"


class SamplingConfig(EngineConfig, frozen=True, kw_only=True):
    """How a token is drawn, in llama.cpp's order: top-k, top-p, min-p, then temperature."""

    temperature: Annotated[float, opt("Sampling temperature; 0 is greedy.", ge=0, le=10)] = 0.7
    top_k: Annotated[int, opt("Keep the k likeliest tokens; 0 keeps all.", ge=0)] = 40
    top_p: Annotated[float, opt("Keep the likeliest tokens of this mass.", gt=0, le=1)] = 1.0
    min_p: Annotated[float, opt("Drop tokens below this share of the likeliest.", ge=0, le=1)] = 0.0
    max_tokens: Annotated[int, opt("Longest path, in tokens.", ge=1)] = 256
    seed: Annotated[int, opt("Seed of the run; every path derives its own.", ge=0)] = 0


CHAT = opt("Ask in conversations: auto (if the file has a chat template), on or off.")
FEW_SHOT = opt("Exemplars of a conversation: as turns, or all in one message.")
SYSTEM = opt("System message of a conversation; empty: none.")


class SampleConfig(SamplingConfig, frozen=True, kw_only=True):
    """Settings of ``lmsi sample``."""

    model: Annotated[str, opt("A GGUF file, or a name from `lmsi models`.", "-m/--model")] = (
        DEFAULT_MODEL
    )
    task: Annotated[str, opt("Answer kind and exemplars; auto: by the set or the model.")] = (
        DEFAULT_TASK
    )
    prompt: Annotated[PromptFormat, opt("Prompt format of the paths.")] = "cot-zero"
    chat: Annotated[ChatChoice, CHAT] = "auto"
    few_shot: Annotated[FewShot, FEW_SHOT] = "turns"
    system: Annotated[str, SYSTEM] = ""
    paths: Annotated[int, opt("Paths per question.", "-n/--paths", ge=1)] = 16
    stop: Annotated[
        str,
        opt(
            "Leave a question once it is decided: beta:0.95 or window:5.",
            forms=STOP_FORMS,
            pattern=STOP_PATTERN,
        ),
    ] = NO_STOP
    adapter: Annotated[str, opt("GGUF adapter that draws the paths; empty: the base does.")] = ""
    limit: Annotated[int, opt("Only the first questions; 0 takes all.", ge=0)] = 0


# Classes of paths, as voting/classes.py tells them: those that are trained on as a rule, if their
# paths vote, and those that are left out otherwise.
DropClass = Literal["sound", "unchecked", "corrected", "lucky"]
KeepClass = Literal["corrected", "lucky", "near-miss", "systematic", "rival", "other"]


Preset = Literal["default", "paper"]


class VoteConfig(Config, frozen=True, kw_only=True):
    """Settings of ``lmsi vote``; the runs that the defaults come from are in ``docs/log.md``."""

    min_share: Annotated[
        float, opt("Drop questions whose winner has a smaller share.", ge=0, le=1)
    ] = 0.25
    min_votes: Annotated[int, opt("Drop questions whose winner has fewer votes.", ge=1)] = 2
    weight: Annotated[
        str,
        opt(
            "How much a ballot counts: majority, logprob, mean_logprob, cisc:T or cisc:auto.",
            forms=WEIGHT_FORMS,
            pattern=WEIGHT_PATTERN,
        ),
    ] = MAJORITY
    max_paths_per_question: Annotated[
        int, opt("At most this many paths a question; 0: all.", ge=0)
    ] = 4
    check_equations: Annotated[bool, opt("Paths that state a false equation do not vote.")] = True
    preset: Annotated[
        Preset, opt("Where the other settings begin: default, or paper (every majority path).")
    ] = "default"
    min_margin: Annotated[
        float, opt("Drop questions whose winner leads by a smaller share.", ge=0, le=1)
    ] = 0.0
    max_length_ratio: Annotated[
        float,
        opt("Drop paths so many times longer or shorter than their median; 0: none.", ge=0),
    ] = 0.0
    max_repetition: Annotated[
        float, opt("Drop paths of which a larger share repeats itself; 1: none.", ge=0, le=1)
    ] = 1.0
    same_script: Annotated[
        bool, opt("Drop paths that change to a script foreign to their question.")
    ] = False
    supported: Annotated[
        bool, opt("Drop paths whose answer is not what their last equation comes to.")
    ] = False
    max_likeness: Annotated[
        float, opt("Drop paths more like another one than this; 1: none.", ge=0, le=1)
    ] = 1.0
    distinct_equations: Annotated[bool, opt("One path per distinct list of equations.")] = False
    drop: Annotated[
        tuple[DropClass, ...], opt("Classes of paths not to train on, comma-separated.")
    ] = ()
    keep: Annotated[
        tuple[KeepClass, ...],
        opt("Classes to train on though they would be left out, each path as it was written."),
    ] = ()
    formats: Annotated[
        tuple[PromptFormat, ...], opt("Training formats, comma-separated.", min_length=1)
    ] = ("cot-few", "direct-few", "cot-zero", "direct-zero")
    seed: Annotated[int, opt("Order of the training examples.", ge=0)] = 0


# Huang et al. 2022 (arXiv 2210.11610): the plain majority, and every one of its paths.
PAPER: dict[str, Any] = {
    "check_equations": False,
    "weight": MAJORITY,
    "min_share": 0.0,
    "min_votes": 1,
    "min_margin": 0.0,
    "max_length_ratio": 0.0,
    "max_repetition": 1.0,
    "same_script": False,
    "supported": False,
    "distinct_equations": False,
    "max_likeness": 1.0,
    "max_paths_per_question": 0,
    "drop": (),
    "keep": (),
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": PAPER,
    "default": {f.name: f.default for f in msgspec.structs.fields(VoteConfig) if f.name in PAPER},
}


class TrainConfig(Config, frozen=True, kw_only=True):
    """Settings of ``lmsi train``."""

    rank: Annotated[int, opt("LoRA rank.", ge=1)] = 16
    alpha: Annotated[float, opt("LoRA alpha; the scale is alpha / rank.", gt=0)] = 32.0
    dropout: Annotated[float, opt("LoRA dropout.", ge=0, lt=1)] = 0.0
    target: Annotated[str, opt("Layers to adapt: all, attn, mlp, or names.")] = "all"
    lr: Annotated[float, opt("Peak learning rate.", gt=0)] = 1e-3
    epochs: Annotated[float, opt("Passes over the training examples.", gt=0)] = 1.0
    max_steps: Annotated[int, opt("Stop after this many steps; 0: by epochs.", ge=0)] = 0
    batch_size: Annotated[int, opt("Examples per step.", ge=1)] = 8
    warmup: Annotated[float, opt("Share of steps that warm up.", ge=0, le=1)] = 0.05
    weight_decay: Annotated[float, opt("AdamW weight decay.", ge=0)] = 0.0
    max_length: Annotated[
        int, opt("Longest example in tokens; longer ones are counted and left out.", ge=16)
    ] = 2048
    dtype: Annotated[str, opt("auto, bf16 or fp32; auto takes bf16 where the CPU has it.")] = "auto"
    checkpoint_every: Annotated[int, opt("Steps between checkpoints.", ge=1)] = 100
    seed: Annotated[int, opt("Seed of initialisation and order.", ge=0)] = 0


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
    scale: Annotated[float, opt("Adapter scale.", "--adapter-scale", gt=0)] = 1.0
    limit: Annotated[int, opt("Only the first questions; 0 takes all.", ge=0)] = 0


class RunConfig(Config, frozen=True, kw_only=True):
    """Settings of ``lmsi run``; the stages' own tables in the config file hold the rest."""

    model: Annotated[
        str | None, opt("A GGUF file or a name; not given: as [sample].", "-m/--model")
    ] = None
    rounds: Annotated[
        int, opt("Rounds; each samples with the last adapter, trains the base.", ge=1)
    ] = 1
    chat: Annotated[ChatChoice, opt("Ask in conversations: on, off, or auto: as [sample].")] = (
        "auto"
    )
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


TABLES: dict[str, type[Config]] = {
    "sample": SampleConfig,
    "vote": VoteConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
    "run": RunConfig,
}
