"""One pass over the questions of a run, and the verdict at its end.

Knows nothing of files. Memory does not grow with the run: of very many questions an even sample is
looked at, the same one in whatever order they come; questions of the probe are marked always.

    observer = Observer(gold={"q7": "42"}, chance=None)
    for question, vote, paths in run:
        observer.observe(question, vote, paths)
    observer.finish().verdict  # "train with care"
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

from lmsi_cli.records import Path, Question, Vote
from lmsi_cli.verdict.probe import Marked, labelled, mark
from lmsi_cli.verdict.rules import Evidence, Verdict, judge
from lmsi_cli.verdict.signals import Seen, label_free, look

MOST = 2048  # questions looked at; the interval of a share is then 4 points wide


class Observer:
    """Collects what the verdict needs.

    Args:
        gold: Canonical right answers of the probe by question id; without a probe, none.
        chance: Share of right answers by guessing; ``None`` where guessing is hopeless.
    """

    def __init__(self, gold: Mapping[str, str], chance: float | None) -> None:
        self.gold, self.chance = gold, chance
        self.questions = self.kept = self.stopped = 0
        self._every = 1
        self._seen: list[Seen] = []
        self._marked: dict[str, Marked] = {}

    def observe(self, question: Question, vote: Vote, paths: Sequence[Path]) -> None:
        """Take one question: its vote with what it keeps, and all of its paths."""
        self.questions += 1
        self.kept += bool(vote.kept)
        self.stopped += vote.stopped
        if vote.question_id in self.gold:
            self._marked[vote.question_id] = mark(vote, paths, self.gold[vote.question_id])
        if self._wanted(vote.question_id):
            self._seen.append(look(question.question, vote, paths))
        while len(self._seen) > MOST:
            self._every *= 2
            self._seen = [s for s in self._seen if self._wanted(s.question_id)]

    def finish(self) -> Verdict:
        """Reach the verdict; at least one question must have been observed."""
        seen = sorted(self._seen, key=lambda s: s.question_id)  # resamples follow the order
        marked = [m for _, m in sorted(self._marked.items())]
        return judge(
            Evidence(
                questions=self.questions,
                looked_at=len(seen),
                kept=self.kept,
                stopped=self.stopped,
                signals=label_free(seen, self.chance),
                probe=labelled(marked) if marked else None,
                chance=self.chance,
            )
        )

    def _wanted(self, question_id: str) -> bool:
        """Draw by a hash: every n-th in order would meet one kind only, where kinds take turns."""
        return zlib.crc32(question_id.encode()) % self._every == 0
