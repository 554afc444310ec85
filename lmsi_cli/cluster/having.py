"""What a run folder has already: one number per question, whose bits are its paths.

Knows paths and the criterion of ``--stop``; nothing of Ray. Memory follows the questions and not
the paths, but for ballots of unfinished questions where ``--stop`` counts them:

    {"q7": 0b1011}     paths 0, 1 and 3 are there
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lmsi_cli.cluster.dispatch import Item
from lmsi_cli.cluster.wire import Asked
from lmsi_cli.config import VoteConfig
from lmsi_cli.records import Path, Question
from lmsi_cli.stopping import Decision, Stop
from lmsi_cli.voting.ballots import ballot


class Having:
    """Which paths are there, and what each question lacks."""

    def __init__(self, there: Iterable[Path], paths: int, stop: Stop | None) -> None:
        self.paths, self._stop, self.count, self.parsed = paths, stop, 0, 0
        self.there: dict[str, int] = {}
        self._cast: dict[str, list[tuple[int, str | None]]] = {}
        for path in there:
            self._add(path)

    def _add(self, path: Path) -> None:
        self.count += 1
        self.parsed += path.predicted_answer is not None
        self.there[path.question_id] = self.there.get(path.question_id, 0) | 1 << path.path
        if self._stop is not None:
            cast = (path.path, ballot(path, VoteConfig().check_equations))
            self._cast.setdefault(path.question_id, []).append(cast)

    def lacks(self, question_id: str) -> tuple[int, ...]:
        """The numbers of the paths that are wanted and not there; none if that is decided."""
        bits = self.there.get(question_id, 0)
        if self.decided(question_id):
            return ()
        return tuple(i for i in range(self.paths) if not bits >> i & 1)

    def decided(self, question_id: str) -> bool:
        """Whether the paths that are there decide a question, by ``--stop``."""
        if self._stop is None or question_id not in self._cast:
            return False
        decision = Decision(self._stop)
        for path, cast in self._cast[question_id]:
            decision.tell(path, cast)
        return decision.after is not None

    def stopped(self, question_id: str) -> bool:
        """Whether a question has fewer paths for being decided."""
        bits = self.there.get(question_id, 0)
        return self.decided(question_id) and any(not bits >> i & 1 for i in range(self.paths))

    def items(self, questions: Sequence[Question]) -> Iterator[Item]:
        """What is to be drawn, in the order of the questions."""
        for q in questions:
            if lacking := self.lacks(q.id):
                yield Item(q.id, lacking)

    def asked(self, question: Question, paths: tuple[int, ...]) -> Asked:
        """A question as a worker is asked."""
        told = tuple(self._cast.get(question.id, ()))
        return Asked(id=question.id, question=question.question, paths=paths, told=told)
