"""The rounds of a run: their records, whether another one follows, and which one is kept.

Three gates stand between two rounds: the verdict on the round's vote, the alarms of its training,
and its check-up against the round before. With enough right answers, a check-up measures quality
itself. Without them it can show collapse, or drift from the first vote, but never that a round is
better: training raises agreement whether the answers improve or not. Functions of records; reads
nothing but ``rounds.json``, here with one round:

    {"asked": 3, "by": "probe", "questions": 40, "base": {...}, "best": {"number": 1, ...},
     "ended": "round 2: the verdict is not to train: ...", "rounds": [{"number": 1,
     "folder": ".", "temperature": 0.7, "drawn_by": 0, "verdict": "train", "gates": [...], ...}]}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

from lmsi_cli.formats import CLEAR, p_words, percent, points
from lmsi_cli.jsonl import read_struct
from lmsi_cli.records import Paired, Record
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stats.paired_tests import paired
from lmsi_cli.verdict import rules

# What a check-up's answers are compared with: a probe's right answers or the first vote's winners.
By = Literal["probe", "agreement", "nothing"]
# Drop in the share of readable answers; a model that forgets the form loses most of them.
UNREAD = 0.10
UNSOUND = "no round is sound; the first one is kept for want of a better one"
WHAT: dict[By, str] = {
    "probe": "right answers",
    "agreement": "agreement with the first vote",
    "nothing": "answers",
}


class Figures(Record, frozen=True, kw_only=True):
    """One model's check-up; ``scores`` and ``parsed`` hold one share (0 to 1) per question.

    ``scores``: answers that are as wanted. ``parsed``: answers that could be read. ``commonest`` is
    the share of the most common answer among all greedy answers that could be read.
    """

    model: str
    questions: tuple[str, ...]
    scores: tuple[float, ...]
    parsed: tuple[float, ...]
    commonest: float


class Gate(Record, frozen=True, kw_only=True):
    """One reason to end the rounds, or a remark that does not."""

    name: Literal["verdict", "alarm", "check-up"]
    ends: bool
    text: str


class Round(Record, frozen=True, kw_only=True):
    """One round.

    ``drawn_by`` is the round whose adapter drew the paths, ``started_from`` the round whose weights
    training began with; both are numbers, 0 for the base. ``figures`` is its check-up, if any.
    """

    number: int
    folder: str
    temperature: float
    drawn_by: int
    started_from: int
    verdict: str
    kept_questions: int
    kept_paths: int
    mean_share: float
    trained: bool
    first_loss: float | None = None
    final_loss: float | None = None
    gates: tuple[Gate, ...] = ()
    figures: Figures | None = None

    @property
    def sound(self) -> bool:
        """Whether its adapter, if there is one, passed alarms and check-up and may draw paths."""
        return self.trained and not any(g.ends and g.name != "verdict" for g in self.gates)


class Best(Record, frozen=True, kw_only=True):
    """Which round is kept, by what, and why; ``change`` is its check-up against the first one's."""

    number: int
    by: By
    why: str
    change: Paired | None = None


class Rounds(Record, frozen=True, kw_only=True):
    """All rounds of a run folder so far.

    ``asked`` is how many were asked for, ``ended`` why there are fewer. ``questions`` counts those
    of a check-up, ``by`` is what answers are compared with; ``base`` is the base's check-up.
    """

    asked: int
    rounds: tuple[Round, ...]
    by: By = "nothing"
    questions: int = 0
    base: Figures | None = None
    best: Best | None = None
    ended: str = ""


def last_good(rounds: tuple[Round, ...]) -> int:
    """Number of the last round whose adapter may draw paths; 0: only the base may."""
    return max((r.number for r in rounds if r.sound), default=0)


def read_rounds(run: RunDir) -> Rounds | None:
    """The record of a run's rounds; None if it had only one."""
    if not run.rounds.exists():
        return None
    return read_struct(run.rounds, Rounds, "run `lmsi run` again")


def kept_round(run: RunDir) -> RunDir:
    """The folder whose adapter stands for a run: the kept round's, if there are several."""
    rounds = read_rounds(run)
    return run.round(rounds.best.number) if rounds and rounds.best else run


def adapters_of(run: RunDir, rounds: Iterable[RunDir] | None = None) -> dict[str, Path]:
    """A run's own adapters by name: ``adapter`` in the run folder itself, else ``round-2``.

    After several rounds it is that of the kept one, unless folders of ``rounds`` are given.
    """
    return {
        "adapter" if r.root == run.root else r.root.name: r.adapter_gguf
        for r in ([kept_round(run)] if rounds is None else rounds)
        if r.adapter_gguf.exists()
    }


def voted(verdict: rules.Verdict) -> Gate:
    """The gate of the vote: its verdict with the weightiest reason."""
    ends, text = verdict.verdict == rules.STOP, f"the verdict is {verdict.verdict}"
    if ends:
        text = f"the verdict is not to train: {verdict.reasons[0].text}"
    return Gate(name="verdict", ends=ends, text=text)


def alarmed(why: str) -> tuple[Gate, ...]:
    """The gate of training: an alarm that ended it; none for an empty reason."""
    return (Gate(name="alarm", ends=True, text=f"training raised an alarm: {why}"),) if why else ()


def comparable(found: Sequence[Figures], by: By, trained: frozenset[str]) -> list[str]:
    """Questions to compare scores on, in order; empty if there are too few.

    ``trained`` are the ids of questions that a compared adapter was trained on; they are left out.
    A probe with too few others is used whole: its labels were never trained on, though its
    questions were. Agreement on trained questions only shows that training worked.
    """
    asked = [q for q in found[0].questions if all(q in f.questions for f in found)]
    apart = [q for q in asked if q not in trained]
    if by == "probe":
        chosen = apart if len(apart) >= rules.FEWEST_PAIRS else asked
        return chosen if len(chosen) >= rules.FEWEST_PAIRS else []
    return apart if by == "agreement" and len(apart) >= rules.FEWEST else []


def _change(before: Figures, after: Figures, questions: Sequence[str]) -> Paired:
    """Compare the scores of the same questions before and after."""
    old, new = (dict(zip(f.questions, f.scores, strict=True)) for f in (before, after))
    return paired([old[q] for q in questions], [new[q] for q in questions])


def checked(
    found: Sequence[Figures], by: By, trained: frozenset[str], chance: float | None = None
) -> tuple[Gate, ...]:
    """The gate of the check-up: the last model against the one before it, which may be the base.

    ``found`` begins with the base; ``trained`` is as in ``comparable``, ``chance`` as in a task.
    """
    base, before, after = found[0], found[-2], found[-1]
    questions = comparable((before, after), by, trained)
    whom = "the base" if before.model == base.model else "the round before"
    fell, text = False, f"too few questions for a comparison with {whom}"
    if questions:
        c = _change(before, after, questions)
        fell = c.difference < 0 and c.p_value < CLEAR
        text = f"{WHAT[by]} against {whom}: {_tested(c)}"
        text += "" if by == "probe" else "; a rise would be no evidence of a gain"
    labelled = bool(questions) and by == "probe"
    signs = _collapse(before, after, base, chance, whom)
    return (
        Gate(name="check-up", ends=fell, text=text),
        *(Gate(name="check-up", ends=not labelled, text=sign) for sign in signs),
    )


def _collapse(
    before: Figures, after: Figures, base: Figures, chance: float | None, whom: str
) -> Iterator[str]:
    """Signs that a model no longer works, which need no right answers."""
    read = paired(before.parsed, after.parsed)
    if read.p_value < CLEAR and read.difference <= -UNREAD:
        yield f"answers that can be read against {whom}: {_tested(read)}"
    most = rules.COLLAPSED_CHOICE if chance else rules.COLLAPSED
    if after.commonest > most and after.commonest > base.commonest:
        now, then = 100 * after.commonest, 100 * base.commonest
        yield f"one answer is given to {now:.0f}% of the questions (base {then:.0f}%)"


def _tested(c: Paired) -> str:
    """A change with its test."""
    return f"{points(c)}, p {p_words(c.p_value)}, n = {c.n}"


def best(rounds: Sequence[Round], trained: Mapping[int, frozenset[str]], by: By) -> Best | None:
    """Choose among the rounds that have an adapter; None if none has.

    Test sets are not used: choosing by one would spoil its figures. With a probe it is the round
    with the most right answers, the earlier one on a tie. Without labels the first round is kept,
    unless a later one agrees clearly more with the first vote on questions that no round was
    trained on: a later round costs diversity, so it must earn its place. ``trained`` holds, by
    round number, the ids of the questions that the round was trained on.
    """
    there = [r for r in rounds if r.trained]
    sound = [r for r in there if r.sound]
    if not there:
        return None
    if len(sound) < 2:
        why = "the only round that is sound" if sound else UNSOUND
        return Best(number=(sound or there)[0].number, by="nothing", why=why)
    found = {r.number: r.figures for r in sound if r.figures is not None}
    seen = frozenset[str]().union(*(trained.get(n, ()) for n in found))
    questions = comparable(list(found.values()), by, seen) if len(found) > 1 else []
    if not questions:
        why = "too few questions to compare the rounds on, so the first one is kept"
        return Best(number=sound[0].number, by="nothing", why=why)
    first, *later = found
    changes = {n: _change(found[first], found[n], questions) for n in found}
    if by == "probe":
        means = {
            n: fmean(x for q, x in zip(f.questions, f.scores, strict=True) if q in questions)
            for n, f in found.items()
        }
        each = ", ".join(f"{percent(mean)} in round {n}" for n, mean in means.items())
        why = f"most {WHAT['probe']} on {len(questions)} questions of the probe: {each}"
        number = max(means, key=lambda n: (means[n], -n))
    else:  # better than the first one beyond chance (Bonferroni)
        clear = [n for n in later if changes[n].p_value < CLEAR / len(later)]
        clear = [n for n in clear if changes[n].difference > 0]
        what = f"{WHAT['agreement']} on {len(questions)} questions that no round was trained on"
        number = max(clear, key=lambda n: changes[n].difference, default=first)
        why = f"no later round is clearly better in {what}, so the first one is kept"
        if clear:
            why = f"clearly more {what}; no labels, so that is no proof of a gain"
    if number == first:
        return Best(number=number, by=by, why=why)
    change = changes[number]
    why = f"{why}; {_tested(change)} against round {first}"
    why += ": that may be chance" if change.p_value >= CLEAR else ""
    return Best(number=number, by=by, why=why, change=change)
