"""Drafts in, candidates out: each clean and like no other; every draft is a candidate or counted.

Knows texts; nothing of models, votes or files. The order of the drafts decides which of two alike
is the candidate, so they are always taken in the order of their numbers. Likeness is the share of
the runs of three words that two texts have in common (Jaccard), found through an index, so that a
thousand texts are compared with a thousand others in seconds.

    sieve = Sieve(seeds, exams, task)
    for draft in drafts: sieve.take(draft)
    sieve.candidates        # [Question(id="gen-38dc46698984", question="Tom has 3 pens ..."), ...]
    sieve.dropped           # {"truncated": 2, "like a seed": 5, "again": 1}
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from lmsi_cli.contamination import same_words
from lmsi_cli.generation.drafts import Draft, Dropped, read_draft, rules_of
from lmsi_cli.prompts import Task
from lmsi_cli.records import Question

PREFIX = "gen-"
SHINGLE = 3  # words; as usual for near-duplicates (Broder 1997)
# Far above what real questions reach: of 400 of GSM8K the nearest other one is 0.55 at most.
LIKENESS = 0.7
REPEATS = ("a seed", "like a seed", "again", "like another")  # reasons that show a narrow model


Runs = frozenset[tuple[str, ...]]


def runs(text: str) -> Runs:
    """Runs of three words; all words of a shorter text are one run."""
    words = same_words(text).split()
    many = max(1, len(words) - SHINGLE + 1)
    return frozenset(tuple(words[i : i + SHINGLE]) for i in range(many))


class Nearness:
    """Texts, and for each run of words those that hold it."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._sizes: list[int] = []
        self._holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Take one more text."""
        own = runs(text)
        for run in own:
            self._holders[run].append(len(self._sizes))
        self._sizes.append(len(own))

    def nearest(self, text: str, apart: int | None = None) -> float:
        """Likeness to the most similar text, 0 to 1; 0 where there is none.

        Args:
            text: Any text.
            apart: The place of a text, counted from 0, that is left out: its own.
        """
        own = runs(text)
        shared: Counter[int] = Counter()
        for run in own:
            shared.update(self._holders.get(run, ()))
        if apart is not None:
            del shared[apart]
        size = len(own)
        return max((n / (size + self._sizes[i] - n) for i, n in shared.items()), default=0.0)


class Sieve:
    """What was taken so far: the candidates in order, and how many drafts were dropped for what."""

    def __init__(
        self,
        seeds: Sequence[Question],
        exams: Mapping[str, Sequence[Question]],
        task: Task,
    ) -> None:
        texts = [q.question for q in seeds]
        asked = [q.question for exam in exams.values() for q in exam]
        self.rules = rules_of(texts, task)
        self.candidates: list[Question] = []
        self.dropped: Counter[str] = Counter()
        self.taken = 0
        self._own = _Known((), "again", "like another")
        self._known = (
            _Known(asked, "in an excluded file", "like an excluded one"),
            _Known(texts, "a seed", "like a seed"),
            self._own,
        )

    def take(self, draft: Draft) -> None:
        """Look at one more draft."""
        self.taken += 1
        found = read_draft(draft.text, draft.stop_reason, self.rules)
        if isinstance(found, Dropped):
            self.dropped[found.reason] += 1
        elif reason := next(filter(None, (known.reason(found) for known in self._known)), ""):
            self.dropped[reason] += 1
        else:
            self._own.add(found)
            self.candidates.append(Question(id=question_id(found), question=found))


class _Known(Nearness):
    """Texts that must not come again, and what a draft is called that does."""

    def __init__(self, texts: Iterable[str], same: str, like: str) -> None:
        self._words: set[str] = set()
        self._same, self._like = same, like
        super().__init__(texts)

    def add(self, text: str) -> None:
        self._words.add(same_words(text))
        super().add(text)

    def reason(self, text: str) -> str:
        if same_words(text) in self._words:
            return self._same
        return self._like if self.nearest(text) > LIKENESS else ""


def question_id(text: str) -> str:
    """An id made of the text, so that it is the same in every run."""
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()[:12]
