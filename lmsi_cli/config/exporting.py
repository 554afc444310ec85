"""The settings of ``lmsi export``.

Knows no other command. In a config file:

    [export]
    to = "gguf"
    type = "Q4_K_M"
"""

from __future__ import annotations

from typing import Annotated, Literal

from lmsi_cli.config.options import Config, opt

Target = Literal["adapter", "gguf", "hf", "ollama", "parquet"]


class ExportConfig(Config, frozen=True, kw_only=True):
    """Settings of ``lmsi export``."""

    to: Annotated[
        Target,
        opt(
            "adapter alone, merged gguf or hf folder, ollama Modelfile; parquet: paths, votes and "
            "training examples instead."
        ),
    ] = "adapter"
    type: Annotated[
        str, opt("Type of the merged weights, by llama.cpp's names; not given: the base's own.")
    ] = ""
    scale: Annotated[float, opt("Adapter scale; 0: as chosen after training.", ge=0, le=100)] = 0.0
    merge: Annotated[
        bool, opt("ollama: merge; else base and adapter stay apart, which new versions refuse.")
    ] = True
