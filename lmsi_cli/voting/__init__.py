"""From ballots to a vote, and from a vote to the paths that may be trained on. Pure functions."""

from lmsi_cli.voting.ballots import (
    ballot,
    holds,
    is_complete,
    is_cut_thinking,
    is_refuted,
    tell,
    vote,
)
from lmsi_cli.voting.filters import FILTERS, Selection, select
from lmsi_cli.voting.summary import MANY_CUT, Tally, VoteSummary, cut_off_line

__all__ = [
    "FILTERS",
    "MANY_CUT",
    "Selection",
    "Tally",
    "VoteSummary",
    "ballot",
    "cut_off_line",
    "holds",
    "is_complete",
    "is_cut_thinking",
    "is_refuted",
    "select",
    "tell",
    "vote",
]
