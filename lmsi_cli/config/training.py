"""The settings of ``lmsi vote`` with its presets, and those of ``lmsi train``.

docs/training.md has the training settings' names in other tools. In a config file:

    [vote]
    min_share = 0.25
    [train]
    rank = 16
    lr = 0.001
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from lmsi_cli.config.options import Config, opt, rare
from lmsi_cli.records import FormatChoice

Preset = Literal["default", "paper"]


class VoteConfig(Config, frozen=True, kw_only=True):
    """Settings of ``lmsi vote``; the runs that the defaults come from are in ``docs/log.md``."""

    min_share: Annotated[
        float, opt("Drop questions whose winner has a smaller share.", ge=0, le=1)
    ] = 0.25
    min_votes: Annotated[int, opt("Drop questions whose winner has fewer votes.", ge=1)] = 2
    max_paths_per_question: Annotated[
        int, rare("At most this many paths a question; 0: all.", ge=0)
    ] = 4
    check_equations: Annotated[bool, opt("Paths that state a false equation do not vote.")] = True
    preset: Annotated[
        Preset, opt("Defaults of these settings: default, or paper (keeps every majority path).")
    ] = "default"
    formats: Annotated[
        tuple[FormatChoice, ...],
        opt(
            "Training formats, comma-separated; auto: a conversation's own, else all four.",
            min_length=1,
        ),
    ] = ("auto",)
    seed: Annotated[int, rare("Order of the training examples.", ge=0)] = 0
    pairs: Annotated[
        int, rare("Most preference pairs of a question, for train --loss scpo; 0: none.", ge=0)
    ] = 1
    pair_share: Annotated[
        float, rare("Pairs only if the winner has at least this share of the ballots.", ge=0, le=1)
    ] = 0.5


# Huang et al. 2022 (arXiv 2210.11610): the plain majority, and every one of its paths.
PAPER: dict[str, Any] = {
    "check_equations": False,
    "min_share": 0.0,
    "min_votes": 1,
    "max_paths_per_question": 0,
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": PAPER,
    "default": {f.name: f.default for f in msgspec.structs.fields(VoteConfig) if f.name in PAPER},
}


LAYER_FORMS = "all, or a number of layers from the last one"
LastLayers = Annotated[int, Meta(ge=1)] | Literal["all"]
Rate = Annotated[float, Meta(gt=0, le=1)] | Literal["auto"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
# These change speed and memory, and the results only by rounding. So an interrupted run may resume
# with other values.
SPEED_ONLY = ("checkpoint_every", "device", "row_tokens", "gradient_checkpointing")


class TrainConfig(Config, frozen=True, kw_only=True):
    """Settings of ``lmsi train``."""

    rank: Annotated[int, opt("LoRA rank.", ge=1, le=4096)] = 16
    alpha: Annotated[float, rare("LoRA alpha; the scale is alpha / rank.", gt=0, le=65536)] = 32.0
    dropout: Annotated[float, rare("LoRA dropout.", ge=0, lt=1)] = 0.0
    target: Annotated[str, rare("Matrices to adapt: all, attn, mlp, or names.")] = "all"
    lr: Annotated[Rate, opt("Peak learning rate; auto: by the model's size.")] = "auto"
    epochs: Annotated[float, opt("Passes over the training examples.", gt=0, le=1_000_000)] = 1.0
    max_steps: Annotated[int, opt("Stop after this many steps; 0: as the epochs say.", ge=0)] = 0
    batch_size: Annotated[int, opt("Examples per step.", ge=1)] = 8
    warmup: Annotated[float, rare("Share of steps that warm up.", ge=0, le=1)] = 0.05
    weight_decay: Annotated[float, rare("AdamW weight decay.", ge=0, le=1)] = 0.0
    max_length: Annotated[
        int, opt("Longest example in tokens; longer ones are counted and left out.", ge=16)
    ] = 2048
    dtype: Annotated[
        Literal["auto", "bf16", "fp32"],
        rare("auto, bf16 or fp32; auto takes bf16 where the device multiplies it natively."),
    ] = "auto"
    checkpoint_every: Annotated[int, rare("Steps between checkpoints.", ge=1)] = 100
    seed: Annotated[int, opt("Seed of initialisation and order.", ge=0)] = 0
    layers: Annotated[
        LastLayers, opt("Layers to adapt: all, or a number from the last.", forms=LAYER_FORMS)
    ] = "all"
    schedule: Annotated[
        Literal["cosine", "linear", "constant"],
        rare("How the learning rate falls after the warm-up: cosine, linear or constant."),
    ] = "cosine"
    max_grad_norm: Annotated[
        float, rare("Clip gradients to this norm; 0: do not clip.", ge=0, le=1_000_000)
    ] = 1.0
    row_tokens: Annotated[
        int,
        rare("Tokens in a forward pass (micro-batch); 0: by the model's size.", ge=0, le=1 << 20),
    ] = 0
    rslora: Annotated[bool, rare("Scale by alpha / sqrt(rank), for high ranks.")] = False
    device: Annotated[
        DeviceName, opt("auto, cpu, cuda or mps; auto takes a GPU that torch can use.")
    ] = "auto"
    val_share: Annotated[
        float,
        opt(
            "Share of the questions to validate on (8 to 64; none if fewer than 80).", ge=0, le=0.5
        ),
    ] = 0.0
    eval_every: Annotated[int, rare("Steps between validations; 0: about ten a run.", ge=0)] = 0
    patience: Annotated[
        int, rare("Stop after this many validations without a lower loss; 0: never.", ge=0)
    ] = 0
    alarms: Annotated[
        bool, rare("Stop if training destroys the model, and keep the last good adapter.")
    ] = True
    gradient_checkpointing: Annotated[
        Literal["auto", "on", "off"],
        rare("Keep fewer activations, a third slower: on, off, or auto (only if needed)."),
    ] = "auto"
    loss: Annotated[
        Literal["auto", "sft", "scpo"],
        opt(
            "sft: learn the kept paths; scpo: prefer them to the least supported ones; auto: by "
            "the model's size."
        ),
    ] = "auto"
    beta: Annotated[
        float, rare("For scpo: how firmly the adapter is held to the base.", gt=0, le=1000)
    ] = 0.5
    rpo_alpha: Annotated[
        float, rare("For scpo: weight of also learning the chosen path; 0: none.", ge=0, le=1000)
    ] = 1.0
    init: Annotated[
        str, rare("Adapter folder to start from (RUN/adapter); not given: a fresh adapter.")
    ] = ""
