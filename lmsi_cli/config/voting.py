"""The settings of ``lmsi vote``, and its presets.

Knows no other command. In a config file:

    [vote]
    min_share = 0.25
    max_paths_per_question = 8
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from lmsi_cli.config.options import Config, opt, rare
from lmsi_cli.records import TrainFormat

Preset = Literal["default", "paper"]


class VoteConfig(Config, frozen=True, kw_only=True):
    """Settings of ``lmsi vote``; the runs that the defaults come from are in ``docs/log.md``."""

    min_share: Annotated[
        float, opt("Drop questions whose winner has a smaller share.", ge=0, le=1)
    ] = 0.25
    min_votes: Annotated[int, opt("Drop questions whose winner has fewer votes.", ge=1)] = 2
    max_paths_per_question: Annotated[
        int, opt("At most this many paths a question; 0: all.", ge=0)
    ] = 4
    check_equations: Annotated[bool, opt("Paths that state a false equation do not vote.")] = True
    preset: Annotated[
        Preset, opt("Where the other settings begin: default, or paper (every majority path).")
    ] = "default"
    formats: Annotated[
        tuple[TrainFormat, ...], opt("Training formats, comma-separated.", min_length=1)
    ] = ("cot-few", "direct-few", "cot-zero", "direct-zero")
    seed: Annotated[int, rare("Order of the training examples.", ge=0)] = 0
    pairs: Annotated[
        int, rare("Preference pairs of a question, at most, for train --loss scpo; 0: none.", ge=0)
    ] = 1
    pair_share: Annotated[
        float, rare("Pairs only where the winner has this share of the ballots.", ge=0, le=1)
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
