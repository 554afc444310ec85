"""The settings of ``lmsi train``.

Knows no other command. In a config file:

    [train]
    rank = 16
    lr = 0.001
"""

from __future__ import annotations

from typing import Annotated

from lmsi_cli.config.options import Config, opt


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
    sweep: Annotated[
        bool, opt("Try adapter scales on questions that were not trained on, and keep the best.")
    ] = True
