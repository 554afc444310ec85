"""The settings of ``lmsi vote``, and its presets.

Knows no other command. In a config file:

    [vote]
    min_share = 0.25
    weight = "majority"
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from lmsi_cli.config.options import Config, opt, rare
from lmsi_cli.records import TrainFormat

MAJORITY, FITTED = "majority", "cisc:auto"
WEIGHT_PATTERN = (
    rf"^(?:{MAJORITY}|logprob|mean_logprob|{FITTED}"
    r"|cisc:(?=[\d.]*[1-9])\d{0,3}(?:\.\d{1,6}|(?<=\d)))\Z"
)
WEIGHT_FORMS = (
    f"{MAJORITY}, logprob, mean_logprob, cisc:T with T above 0 (cisc:0.5), or {FITTED} (needs "
    "--probe)"
)


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
    distinct_equations: Annotated[bool, rare("One path per distinct list of equations.")] = False
    drop: Annotated[
        tuple[DropClass, ...], opt("Classes of paths not to train on, comma-separated.")
    ] = ()
    keep: Annotated[
        tuple[KeepClass, ...],
        opt("Classes to train on though they would be left out, each path as it was written."),
    ] = ()
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
    "weight": MAJORITY,
    "min_share": 0.0,
    "min_votes": 1,
    "distinct_equations": False,
    "max_paths_per_question": 0,
    "drop": (),
    "keep": (),
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": PAPER,
    "default": {f.name: f.default for f in msgspec.structs.fields(VoteConfig) if f.name in PAPER},
}
