"""One run over a crew: what is lacking goes out, each new path comes back once.

Knows questions, paths and a crew; nothing of Ray or of run folders: whoever calls writes.

    for path, told in Spread(questions, having, task, config, crew, progress): ...
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from lmsi_cli.cluster.dispatch import Dispatcher
from lmsi_cli.cluster.driving import Crew, drive
from lmsi_cli.cluster.having import Having
from lmsi_cli.cluster.wire import Asked, Report
from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.base import Refusal
from lmsi_cli.records import Progress, Question

SHOWN = 31  # questions, and the longest one, whose prompts tell what all have in common


class Spread:
    """Draws what a run lacks, and counts."""

    def __init__(self, questions: Sequence[Question], having: Having, config: SampleConfig) -> None:
        self.questions, self.having, self.config = questions, having, config
        self.lacking = sum(having.lacking(q.id) for q in questions)
        self.dispatch = Dispatcher(having.items(questions), self.lacking)
        self.refused: list[Refusal] = []
        self.new = self.parsed = self.tokens = 0
        self.cancelled = self.cancelled_tokens = self.early = self.lost = 0
        self.begun = time.monotonic()

    def reports(self, crew: Crew, progress: Progress) -> Iterator[Report]:
        """Let the crew draw; every path of every report is new and to be kept.

        Raises:
            LmsiError: See ``drive``.
        """
        known = {q.id: q for q in self.questions}
        before = self.having.drawn.paths
        progress.start("sampling", before + self.lacking)

        def asked(question_id: str, paths: tuple[int, ...]) -> Asked:
            return self.having.asked(known[question_id], paths)

        for report in drive(crew, self.dispatch, asked, progress.say):
            yield report
            self._count(report)
            self._tell(progress, before)
        for item in self.dispatch.set_apart:
            why = "workers died over it again and again"
            self.refused.append(Refusal(item.question_id, "", why))
            self.lost += len(item.paths)

    def _count(self, report: Report) -> None:
        self.new += len(report.paths)
        self.parsed += sum(p.predicted_answer is not None for p in report.paths)
        self.tokens += sum(p.num_generated_tokens for p in report.paths) + report.cancelled_tokens
        self.cancelled += report.cancelled
        self.cancelled_tokens += report.cancelled_tokens
        self.early += report.stopped
        for r in report.refused:
            self.refused.append(Refusal(r.question_id, r.words, r.why))
            self.lost += self.having.lacking(r.question_id)

    def _tell(self, progress: Progress, before: int) -> None:
        seconds = max(time.monotonic() - self.begun, 1e-9)
        # paths of decided questions are neither open nor waiting: they count as done
        left = self.dispatch.waiting + self.dispatch.open_paths
        progress.advance(
            max(before + self.lacking - left, 0),
            paths_s=self.new / seconds,
            tokens_s=self.tokens / seconds,
            parsed=f"{(self.having.drawn.parsed + self.parsed) / max(1, before + self.new):.0%}",
            workers=len(self.dispatch.workers),
        )

    @property
    def never_drawn(self) -> int:
        """Paths of this call that ``--stop`` spared, without those that were begun."""
        return max(self.lacking - self.new - self.lost - self.cancelled, 0)


def shown(questions: Sequence[Question]) -> tuple[str, ...]:
    """Some questions, evenly taken, and the longest one."""
    step = max(1, -(-len(questions) // SHOWN))
    some = [q.question for q in questions[::step]]
    longest = max((q.question for q in questions), key=len, default="")
    return tuple(dict.fromkeys([*some, longest]))
