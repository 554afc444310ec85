"""From ballots to a vote, and from a vote to the paths that may be trained on. Pure functions."""

from lmsi_cli.voting.ballots import ballot, is_complete, is_refuted, tell, vote
from lmsi_cli.voting.classes import classify
from lmsi_cli.voting.filters import FILTERS, Selection, path_key, select
from lmsi_cli.voting.summary import Tally, VoteSummary

__all__ = [
    "FILTERS",
    "Selection",
    "Tally",
    "VoteSummary",
    "ballot",
    "classify",
    "is_complete",
    "is_refuted",
    "path_key",
    "select",
    "tell",
    "vote",
]
