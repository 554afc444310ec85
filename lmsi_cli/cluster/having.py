"""What a run folder has already, and what each question lacks.

Knows paths and the criterion of ``--stop``; nothing of Ray. Memory follows the questions and not
the paths, but for ballots of unfinished questions where ``--stop`` counts them; only then are whole
paths read:

    Having(drawn, paths=4)      # drawn: {"q7": 0b1011}, so paths 0, 1 and 3 are there
    .lacks("q7")                # -> (2,)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lmsi_cli.cluster.dispatch import Item
from lmsi_cli.cluster.wire import Asked
from lmsi_cli.config import VoteConfig
from lmsi_cli.drawn import Drawn
from lmsi_cli.records import Path, Question
from lmsi_cli.stopping import Decision, Stop
from lmsi_cli.store.keys import drawn_of
from lmsi_cli.store.shelf import Shelf
from lmsi_cli.voting.ballots import ballot

Cast = list[tuple[int, str | None]]  # path numbers with their ballots; None does not vote


class Having:
    """Which paths are there, and what each question lacks."""

    def __init__(
        self,
        drawn: Drawn,
        paths: int,
        stop: Stop | None = None,
        cast: Mapping[str, Cast] | None = None,
    ) -> None:
        """Take what is there.

        Args:
            drawn: The keys.
            paths: How many are wanted of each question.
            stop: When a question is decided before that.
            cast: Ballots of all paths that are there, if there is a ``stop``.
        """
        self.drawn, self.paths, self._stop = drawn, paths, stop
        self._decided = {q for q, told in (cast or {}).items() if stop and _decide(stop, told)}
        self._cast = {
            q: told for q, told in (cast or {}).items() if self.lacking(q)
        }  # nobody asks for those of the others again

    @classmethod
    def of(cls, there: Shelf[Path], paths: int, stop: Stop | None) -> Having:
        """Read a run's paths; arguments as above.

        Raises:
            LmsiError: A file is broken or holds other records.
        """
        cast: dict[str, Cast] = {}

        def tell(path: Path) -> None:
            told = (path.path, ballot(path, VoteConfig().check_equations))
            cast.setdefault(path.question_id, []).append(told)

        return cls(drawn_of(there, tell if stop else None), paths, stop, cast)

    def lacks(self, question_id: str) -> tuple[int, ...]:
        """The numbers of the paths that are wanted and not there; none if that is decided."""
        if question_id in self._decided:
            return ()
        return tuple(self.drawn.lacks(question_id, self.paths))

    def lacking(self, question_id: str) -> int:
        """How many these are."""
        decided = question_id in self._decided
        return 0 if decided else self.drawn.lacking(question_id, self.paths)

    def stopped(self, question_id: str) -> bool:
        """Whether a question has fewer paths for being decided."""
        decided = question_id in self._decided
        return decided and self.drawn.lacking(question_id, self.paths) > 0

    def items(self, questions: Sequence[Question]) -> Iterator[Item]:
        """What is to be drawn, in the order of the questions."""
        for q in questions:
            if lacking := self.lacks(q.id):
                yield Item(q.id, lacking)

    def asked(self, question: Question, paths: tuple[int, ...]) -> Asked:
        """A question as a worker is asked."""
        told = tuple(self._cast.get(question.id, ()))
        return Asked(id=question.id, question=question.question, paths=paths, told=told)


def _decide(stop: Stop, told: Cast) -> bool:
    """Whether ballots decide a question."""
    decision = Decision(stop)
    for path, cast in told:
        decision.tell(path, cast)
    return decision.after is not None
