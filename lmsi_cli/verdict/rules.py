"""From signals to the verdict, with its reasons in words and the figures behind them.

Knows the signals by name and every threshold with its evidence; no files. The strictest reason
decides. With a large enough probe, label-free signals can only warn. Questions come one at a time:

    observer = Observer(gold={"q7": "42"}, chance=None)
    for question, vote, paths in run:
        observer.observe(question, vote, paths)
    observer.finish()
    -> Verdict(verdict="train", reasons=(Reason(says="train", text="..."), ...), ...)
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from lmsi_cli.formats import share, whole_points
from lmsi_cli.records import Interval, Path, Question, Record, Vote
from lmsi_cli.verdict.signals import Marked, ProbeFigures, Seen, label_free, labelled, look, mark

Word = Literal["train", "train with care", "do not train"]
Said = tuple[Word | None, str]  # a reason, as a Reason holds it
TRAIN: Word = "train"
CARE: Word = "train with care"
STOP: Word = "do not train"
STRICTER: tuple[Word, ...] = (TRAIN, CARE, STOP)

# The thresholds. "Measured" is the table of docs/log.md, "What a run shows before training".
FEWEST = 20  # questions with a winner; below, the interval of a share is some 40 points wide
FEWEST_PAIRS = 10  # questions for a difference; below six no test can tell it from none
FALSE_STEPS = 0.50  # winners' equations that hold; measured: 0.50 and more where the vote is right
# Measured: 0.47 and more where the vote is right, 0.20 and less where it is wrong, except for two
# families where all paths leave out an item; USED catches those.
LIFT = 0.25
USED = 0.75  # measured: 0.84 and more where the vote is right; 0.67 and 0.47 in those two
SOLVED = 0.90  # of the paths agree, or are right: a sampled path can gain 10 points at most
COLLAPSED = 0.50  # of the winners are one answer; measured: 0.15 at most, on 20 questions
COLLAPSED_CHOICE = 0.90  # the same for tasks with a chance level, which have few answers
CUT_OFF = 0.25  # of the paths; measured: 0.01 at most
SMALLEST_GAP = 0.02  # kept paths over all paths; no evaluation would show less
# Of the labels; half of them wrong degrades training (arXiv 2604.18574). Measured on a published
# model: 0.73 are right on SVAMP, where training gained, and 0.46 on GSM8K, where it did not.
MOSTLY_WRONG = 0.50

MOST = 2048  # questions looked at; the interval of a share is then 4 points wide


class Evidence(Record, frozen=True, kw_only=True):
    """What a run shows before training.

    ``questions``, ``kept`` and ``stopped`` count all questions of the vote; the ``signals`` are
    those of the ``looked_at`` ones, an even sample if there are more than ``MOST``.
    """

    questions: int
    looked_at: int
    kept: int
    stopped: int
    signals: dict[str, Interval]
    probe: ProbeFigures | None = None
    chance: float | None = None


class Reason(Record, frozen=True, kw_only=True):
    """One reason, and the verdict that it alone would give; ``None`` is a remark."""

    says: Word | None
    text: str


class Verdict(Record, frozen=True, kw_only=True):
    """``verdict.json``: whether to train, the reasons, and the evidence."""

    verdict: Word
    reasons: tuple[Reason, ...]
    evidence: Evidence


class Observer:
    """Collects what the verdict needs.

    Memory does not grow with the run: of more than ``MOST`` questions it looks at an even sample,
    the same in whatever order they come; questions of the probe are always marked. ``gold`` has
    their canonical right answers by id; ``chance`` is as in a task.
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
        seen = sorted(self._seen, key=lambda s: s.question_id)  # resamples depend on the order
        marked = [m for _, m in sorted(self._marked.items())]
        evidence = Evidence(
            questions=self.questions,
            looked_at=len(seen),
            kept=self.kept,
            stopped=self.stopped,
            signals=label_free(seen, self.chance),
            probe=labelled(marked) if marked else None,
            chance=self.chance,
        )
        return judge(evidence)

    def _wanted(self, question_id: str) -> bool:
        """Sample by a hash: every n-th in order could meet a single kind where kinds alternate."""
        return zlib.crc32(question_id.encode()) % self._every == 0


def judge(evidence: Evidence) -> Verdict:
    """Reach a verdict; the strictest reasons come first, remarks last."""
    found = sorted(
        _reasons(evidence), key=lambda r: STRICTER.index(r[0]) if r[0] else -1, reverse=True
    )
    reasons = tuple(Reason(says=says, text=text) for says, text in found)
    return Verdict(verdict=reasons[0].says or CARE, reasons=reasons, evidence=evidence)


def _reasons(e: Evidence) -> Iterator[Said]:
    if not e.kept:
        yield STOP, f"no path of {_questions(e.questions)} is kept"
        return
    if e.probe is not None and e.probe.questions >= FEWEST_PAIRS:
        yield from _labels(e.probe, e.chance)
        # Beside labels, label-free signals that would stop training only warn.
        yield from ((CARE, text) for says, text in _agreement(e) if says == STOP)
        yield from _cut_off(e)
        return
    if e.probe is not None:
        few = f"the probe has {_questions(e.probe.questions)}, too few to tell anything"
        yield CARE, f"{few}: {FEWEST_PAIRS} are needed, 30 are a start"
    yield from (*_agreement(e), *_cut_off(e), *_steps(e))
    if e.probe is None:
        yield None, "no labels: a majority that is always wrong agrees, too"


def _questions(n: int) -> str:
    return f"{n} question{'s' * (n != 1)}"


def _labels(probe: ProbeFigures, chance: float | None) -> Iterator[Said]:
    """What the right answers say about the kept paths, or if these are too few, about all votes."""
    what, gap, right = "kept paths", probe.gap, probe.kept
    if probe.kept_questions < FEWEST_PAIRS:
        what, gap, right = "the votes", probe.vote_gap, probe.vote
    more = f"{whole_points(gap)} points more often than all paths of {gap.n} questions"
    finding = f"{what} are right {more}"
    if probe.one_path.value >= SOLVED:
        yield STOP, f"a path is right on {share(probe.one_path)}: little to gain"
    if chance and probe.vote.low <= chance:
        yield STOP, f"the vote is right on {share(probe.vote)}; guessing gives {100 * chance:.0f}%"
    if gap.value < SMALLEST_GAP:
        yield STOP, f"{finding}: nothing can be learnt from them"
    elif gap.low <= 0:
        hopeless = probe.vote.high < MOSTLY_WRONG
        yield STOP if hopeless else CARE, f"{finding}: that may be chance"
    elif right.low < MOSTLY_WRONG:
        surely = "are" if right.value < MOSTLY_WRONG else "may be"
        yield CARE, f"{what} are right on {share(right)}: most labels {surely} wrong"
    else:
        yield TRAIN, finding


def _agreement(e: Evidence) -> Iterator[Said]:
    """Guessing, collapse, and agreement that leaves nothing to learn."""
    if e.stopped:
        were = f"{_questions(e.stopped)} {'was' if e.stopped == 1 else 'were'} stopped early"
        so = (
            "so no shares of agreement are used: guessing and agreement by all paths cannot be told"
        )
        yield CARE, f"{were}, {so}"
    above, common = e.signals.get("above chance"), e.signals.get("commonest")
    whole = e.signals.get("share of all")
    if common is None or common.n < FEWEST:
        n = common.n if common else 0
        have = f"{_questions(n)} {'has' if n == 1 else 'have'} a winner"
        yield CARE, f"{have}, too few to tell anything"
        return
    if above is not None and above.low <= 0:
        text = "the paths agree no more than answers drawn at random from this run would"
        yield STOP, f"{text}: {whole_points(above)} points above that"
    if common.low > (COLLAPSED_CHOICE if e.chance else COLLAPSED):
        text = f"one answer wins {share(common)} of the questions"
        yield STOP, f"{text}: the model says the same whatever it is asked"
    if whole is not None and whole.value >= SOLVED:
        text = f"{share(whole)} of the paths agree already"
        yield STOP, f"{text}: right or wrong, their vote has little to add"


def _cut_off(e: Evidence) -> Iterator[Said]:
    cut = e.signals["truncated"]
    if cut.value > CUT_OFF:
        yield CARE, f"{share(cut)} of the paths were cut off: sample again with more --max-tokens"


def _steps(e: Evidence) -> Iterator[Said]:
    """The label-free signals that separate: are winners' equations true and whole, losers' not?"""
    lift, winners = e.signals.get("steps lift"), e.signals.get("winners' steps")
    if lift is None or winners is None or lift.n < FEWEST_PAIRS:
        more = "--probe FILE with right answers" if e.probe is None else "a larger probe"
        text = "too few equations to check, so whether the majority is right cannot be told"
        yield CARE, f"{text}; {more} would tell"
    else:
        holds = f"equations hold in {share(winners)} of the paths that agree with the majority"
        finding = f"{holds}, {whole_points(lift)} points more than in the others"
        if lift.low >= LIFT:
            yield TRAIN, finding
        elif lift.high >= LIFT:
            yield CARE, f"{finding}: too little, or on too few questions, to rely on"
        elif winners.high < FALSE_STEPS:
            text = "most of what the majority states is false, so it has nothing right to teach"
            yield STOP, f"{finding}: {text}"
        elif lift.low > 0:  # a model whose equations hold almost always has little room for more
            text = f'a good sign, but "{TRAIN}" needs {100 * LIFT:.0f} points for sure'
            yield CARE, f"{finding}: {text}"
        else:
            text = "winning does not go with being true, as where the majority is wrong"
            yield CARE, f"{finding}: {text}"
    used = e.signals.get("numbers used")
    if used is not None and used.value < USED:
        text = f"the majority's equations use {share(used)} of the numbers in a question"
        yield CARE, f"{text}: whatever all paths leave out, they agree on"
