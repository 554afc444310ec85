r"""Questions that a model writes itself: the prompt for them, and the question in a reply.

Functions of text; knows nothing of models, votes or files. ``stages/questions.py`` combines them
with an engine and a run folder. A base model continues a list of questions; a chat model is asked
for one more. A new question must have what all seeds have: a question mark, a digit where answers
are numbers, options where they are letters. Likeness is the share of runs of three words that two
texts have in common (Jaccard); an index finds it, so comparing a thousand texts with a thousand
others takes seconds.

    draft_prompt(["What is 1 + 2?", "What is 3 * 4?"], None)
    -> "Q: What is 1 + 2?\n\nQ: What is 3 * 4?\n\nQ:"
    read_draft(" 1. Tom has 3 pens and buys 4. How many has he?\nA: 3 + 4 = 7.", "answer", rules)
    -> ("Tom has 3 pens and buys 4. How many has he?", "")
    sieve = Sieve(seeds, exams, task)
    for draft in drafts: sieve.take(draft)
    sieve.candidates        # [Question(id="gen-38dc46698984", question="Tom has 3 pens ..."), ...]
    sieve.dropped           # {"truncated": 2, "like a seed": 5, "again": 1}
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from lmsi_cli.answers import answer_end, listed
from lmsi_cli.contamination import same_words
from lmsi_cli.prompts import Chat, Task, clean
from lmsi_cli.records import Message, Prompt, Question, Record, StopReason
from lmsi_cli.thinking import answer_part

MIN_WORDS = 5  # a shorter question asks for nothing that has to be worked out
RUN = 4  # words; shorter phrases, such as "how many", recur in good texts too
LOOPING = 0.5  # share of repeated runs of four words; real questions from templates reach 0.1
PREFIX = "gen-"
SHINGLE = 3  # words; as usual for near-duplicates (Broder 1997)
# Far above what real questions reach: no two of 400 from GSM8K are more alike than 0.55.
LIKENESS = 0.7
REPEATS = ("a seed", "like a seed", "again", "like another")  # reasons that show a narrow model
_LABELS = r"(?:new |next )?(?:question|problem|q)(?: ?#?\d+)?"
_OPENING = re.compile(rf"(?:[\s*_#>\"\u201c]*(?:{_LABELS}\s*[:.)]|\d{{1,3}}[.)](?=\s)))+", re.I)
_EDGES = '*_#`"\u201c\u201d \n\t'
_WORDS = rf"(?i:{_LABELS}|answer|solution|explanation)[*_]*\s*[:.)]"
_NEXT = re.compile(rf"\n\s*[*_#]*(?:{_WORDS}|A[*_]*:)")
_NEXT_OPTION = re.compile(rf"\n\s*[*_#]*{_WORDS}")  # where "A:" may open the first option
_ANSWER = re.compile(r"(?<!\w)(?i:answer|solution)[*_]*:|####")
_SAID = re.compile(r"(?<!\w)A[*_]*:")
_FIRST_OPTION = re.compile(r"^[ \t]*A\s*:", re.MULTILINE)
_ITEM = re.compile(r"\n\s*\d{1,3}[.)]\s")  # the next one of a numbered list
_BLANK = re.compile(r"\n[ \t]*\n")
_BLANKS = re.compile(r"\n\s*\n")  # a search from each of many would take quadratic time
_DIGIT = re.compile(r"\d")
REQUEST = (
    "Write one new question of the same kind. It must not repeat any of these; change what it is "
    "about. Write the question alone, without its answer."
)


class Draft(Record, frozen=True, kw_only=True):
    """One text that a model wrote when asked for a question, as it left the engine.

    ``prompt`` is the number of its prompt, ``shown`` the ids of the seeds in that prompt.
    """

    prompt: int
    path: int
    seed: int
    shown: tuple[str, ...]
    text: str
    num_generated_tokens: int
    stop_reason: StopReason


def draft_prompt(shown: Sequence[str], chat: Chat | None) -> Prompt:
    """Write a prompt whose continuation is a question, after at least one that is ``shown``."""
    blocks = [f"Q: {clean(question)}" for question in shown]
    if chat is None:
        return "\n\n".join([*blocks, "Q:"])
    system = [Message(role="system", content=chat.system.strip())] if chat.system.strip() else []
    text = "\n\n".join(["Here are some questions.", *blocks, REQUEST])
    return (*system, Message(role="user", content=text))


class Rules:
    """What all seeds have in common, so that a question must have it.

    ``lines`` and ``paragraphs``: some seed has several, so a question may. ``lettered``: "A: ..."
    is an option.
    """

    def __init__(self, seeds: Sequence[str], task: Task) -> None:
        texts = [clean(s) for s in seeds]
        self.trigger, self.chat, self.options = task.trigger, task.chat, task.kind == "choice"
        self.question_mark = all("?" in t for t in texts)
        self.digit = task.kind == "number" and all(_DIGIT.search(t) for t in texts)
        self.lettered = self.options and any(_FIRST_OPTION.search(t) for t in texts)
        self.lines = any("\n" in t for t in texts)
        self.paragraphs = any(_BLANK.search(t) for t in texts)


def read_draft(text: str, ended: StopReason, rules: Rules) -> tuple[str, str]:
    """Find the first question of a draft; later ones would build on an unchecked one.

    Returns it, in several lines only if seeds have several, with the first fault found, if any.
    """
    body = _BLANKS.sub("\n\n", clean(answer_part(text)))
    first, blank, rest = body.partition("\n\n")
    if rules.chat and blank and first.rstrip("*_ ").endswith(":"):
        body = rest.strip()  # without the chat model's introduction
    opening = _OPENING.match(body)
    body = body[opening.end() if opening else 0 :]
    ends = [_NEXT_OPTION if rules.lettered else _NEXT]
    ends += [] if rules.paragraphs else [_BLANK]
    ends += [] if rules.lines else [_ITEM]
    end = min((m.start() for mark in ends if (m := mark.search(body))), default=None)
    if end is None and ended == "length":
        return body, "truncated"
    lines = [" ".join(line.split()) for line in body[:end].splitlines()]
    joined = "\n".join(lines) if rules.lines else " ".join(filter(None, lines))
    question = joined.strip(_EDGES)  # last, as splitlines knows more line ends than _EDGES
    return question, _fault(question, rules)


def _fault(text: str, rules: Rules) -> str:
    """Return the first thing that is wrong with a question; empty if nothing is."""
    answered = _ANSWER.search(text) or (not rules.lettered and _SAID.search(text))
    faults = (
        ("empty", not text),
        ("garbled", any(_unreadable(c) for c in text)),
        ("answered", answered or answer_end(f"{text}\n", rules.trigger) is not None),
        ("short", len(text.split()) < MIN_WORDS),
        ("no question mark", rules.question_mark and "?" not in text),
        ("no number", rules.digit and not _DIGIT.search(text)),
        ("no options", rules.options and not listed(text)),
        ("repeats itself", repetition(text) > LOOPING),
    )
    return next((fault for fault, found in faults if found), "")


def _unreadable(character: str) -> bool:
    """Whether it is a control, half, unassigned or private character, or replaces broken bytes."""
    kind = unicodedata.category(character)
    return character == "\ufffd" or (kind in ("Cc", "Cs", "Cn", "Co") and character != "\n")


def repetition(text: str) -> float:
    """Share of the runs of four words that came earlier in the text; 0 for fewer than four words.

    repetition("so it is 4 so it is 4 so it is 4")  # 0.56: 5 of 9 runs came before
    """
    words = text.lower().split()
    runs = [tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def runs(text: str) -> frozenset[tuple[str, ...]]:
    """Runs of three words; all words of a shorter text are one run."""
    words = same_words(text).split()
    many = max(1, len(words) - SHINGLE + 1)
    return frozenset(tuple(words[i : i + SHINGLE]) for i in range(many))


class Known:
    """Texts that a draft must not repeat, and the reasons for dropping one that does."""

    def __init__(self, texts: Iterable[str], same: str, like: str) -> None:
        self._same, self._like = same, like
        self._words: set[str] = set()
        self._sizes: list[int] = []
        self._holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Add a text."""
        own = runs(text)
        for run in own:
            self._holders[run].append(len(self._sizes))
        self._sizes.append(len(own))
        self._words.add(same_words(text))

    def nearest(self, text: str) -> float:
        """Likeness to the most similar text, 0 to 1; 0 where there is none."""
        own = runs(text)
        shared = Counter(i for run in own for i in self._holders.get(run, ()))
        return max((n / (len(own) + self._sizes[i] - n) for i, n in shared.items()), default=0.0)

    def reason(self, text: str) -> str:
        """Why a text is dropped; empty if it is like none of these."""
        if same_words(text) in self._words:
            return self._same
        return self._like if self.nearest(text) > LIKENESS else ""


class Sieve:
    """The candidates so far, in order and no two alike, and how many drafts were dropped and why.

    Of two similar drafts the first becomes the candidate, so drafts are always taken in the order
    of their numbers. Every draft is either a candidate or counted as dropped.
    """

    def __init__(
        self, seeds: Sequence[Question], exams: Mapping[str, Sequence[Question]], task: Task
    ) -> None:
        texts = [q.question for q in seeds]
        asked = [q.question for exam in exams.values() for q in exam]
        self.rules = Rules(texts, task)
        self.candidates: list[Question] = []
        self.dropped: Counter[str] = Counter()
        self.taken = 0
        self._own = Known((), "again", "like another")
        self._known = (
            Known(asked, "in an excluded file", "like an excluded one"),
            Known(texts, "a seed", "like a seed"),
            self._own,
        )

    def take(self, draft: Draft) -> None:
        """Make a draft a candidate, or count it as dropped."""
        self.taken += 1
        found, fault = read_draft(draft.text, draft.stop_reason, self.rules)
        reasons = (known.reason(found) for known in self._known)
        if reason := fault or next(filter(None, reasons), ""):
            self.dropped[reason] += 1
        else:
            self._own.add(found)
            self.candidates.append(Question(id=question_id(found), question=found))


def question_id(text: str) -> str:
    """An id made of the text, so that it is the same in every run."""
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()[:12]
