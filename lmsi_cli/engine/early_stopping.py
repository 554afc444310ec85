"""Which questions of a run are decided while it samples, and what was given up on them.

Joins the sampler's view of a watch (``base.py``) with the criterion (``stopping.py``); knows no
files. One question's state is a ``Decision``:

    {"q7": Decision(Stop("beta", 0.95))}
"""

from __future__ import annotations

import sys

from lmsi_cli.records import Path
from lmsi_cli.stopping import Decision, Stop
from lmsi_cli.voting.ballots import tell


class BallotWatch:
    """Which questions are decided, and what was given up on them; without ``stop`` none ever is."""

    def __init__(self, stop: Stop | None) -> None:
        self.stop, self.decisions = stop, dict[str, Decision]()
        self.paths = self.tokens = 0  # cancelled ones

    def tell(self, path: Path) -> None:
        """Count a finished path."""
        if self.stop is not None:
            tell(self._decision(path.question_id, self.stop), path)

    def _decision(self, question_id: str, stop: Stop) -> Decision:
        if question_id not in self.decisions:
            self.decisions[question_id] = Decision(stop)
        return self.decisions[question_id]

    def needed(self, question_id: str) -> int:
        """So many paths a question needs at least."""
        return sys.maxsize if self.stop is None else self._decision(question_id, self.stop).needed

    def decided(self, question_id: str) -> bool:
        """Say whether a question needs no more paths."""
        decision = self.decisions.get(question_id)
        return decision is not None and decision.after is not None

    def cancelled(self, question_id: str, path: int, tokens: int) -> None:
        """Count a path that was given up."""
        self.paths += 1
        self.tokens += tokens

    def stopped(self, question_id: str, paths: int) -> bool:
        """Say whether a question has fewer paths for being decided."""
        return self.decided(question_id) and self.decisions[question_id].stopped(paths)
