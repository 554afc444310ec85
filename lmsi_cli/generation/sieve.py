"""Drafts in, candidates out: each clean and like no other; every draft is a candidate or counted.

Knows texts; nothing of models, votes or files. The order of the drafts decides which of two alike
is the candidate, so they are always taken in the order of their numbers.

    sieve = Sieve(seeds, exams, task, config)
    for draft in drafts: sieve.take(draft)
    sieve.candidates        # [Question(id="gen-38dc46698984", question="Tom has 3 pens ..."), ...]
    sieve.dropped           # {"truncated": 2, "like a seed": 5, "again": 1}
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lmsi_cli.config import QuestionsConfig
from lmsi_cli.contamination import same_words
from lmsi_cli.generation.cleaning import Dropped, read_draft, rules_of
from lmsi_cli.generation.drafting import Draft
from lmsi_cli.generation.nearness import Nearness
from lmsi_cli.prompts import Task
from lmsi_cli.records import Question

PREFIX = "gen-"
REPEATS = ("a seed", "like a seed", "again", "like another")  # reasons that show a narrow model


class Sieve:
    """What was taken so far: the candidates in order, and how many drafts were dropped for what."""

    def __init__(
        self,
        seeds: Sequence[Question],
        exams: Mapping[str, Sequence[Question]],
        task: Task,
        config: QuestionsConfig,
    ) -> None:
        texts = [q.question for q in seeds]
        asked = [q.question for exam in exams.values() for q in exam]
        self.rules = rules_of(texts, task, config.min_words)
        self.limit = config.max_likeness
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
        elif reason := self._known_by(found):
            self.dropped[reason] += 1
        else:
            self._own.add(found)
            self.candidates.append(Question(id=question_id(found), question=found))

    def _known_by(self, text: str) -> str:
        return next(filter(None, (known.reason(text, self.limit) for known in self._known)), "")


class _Known:
    """Texts that must not come again, and what a draft is called that does."""

    def __init__(self, texts: Iterable[str], same: str, like: str) -> None:
        self.words: set[str] = set()
        self.index = Nearness()
        self.same, self.like = same, like
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        self.words.add(same_words(text))
        self.index.add(text)

    def reason(self, text: str, limit: float) -> str:
        if same_words(text) in self.words:
            return self.same
        return self.like if self.index.nearest(text) > limit else ""


def question_id(text: str) -> str:
    """An id made of the text, so that it is the same in every run."""
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()[:12]
