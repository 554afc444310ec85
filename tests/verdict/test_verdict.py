"""The verdict on made-up runs: what is read off one question, off all of them, and what is told."""

import random

import pytest
from builders import path as built
from msgspec.structs import replace

from lmsi_cli.config import VoteConfig
from lmsi_cli.records import Interval, Question
from lmsi_cli.verdict.rules import CARE, STOP, STRICTER, TRAIN, Observer, judge
from lmsi_cli.verdict.signals import label_free, labelled, look, mark
from lmsi_cli.voting.ballots import vote
from lmsi_cli.voting.selection import select

PATHS = 12
BARE = Question(id="q", question="How many?")


def path(index, answer, true=None, stop="answer", question="q"):
    """A path that states an equation (true or false) or none at all (``true=None``)."""
    steps = {None: "So it is.", True: f"{index} + 1 = {index + 1}.", False: f"{index} + 1 = 0."}
    text = f" {steps[true]} The answer is {answer}."
    return built(index, answer, text, question_id=question, stop_reason=stop)


def question(number, answers):
    """One question's vote and paths from pairs of an answer and whether the equation is true."""
    paths = [path(i, a, true, question=f"q{number}") for i, (a, true) in enumerate(answers)]
    made = select(vote(f"q{number}", paths), paths, VoteConfig(check_equations=False))[0]
    return made, paths


def run_of(kind, questions=60):
    """Questions as a model of some kind answers them; the gold answer of ``q3`` is ``103``."""
    rng, says = random.Random(0), KINDS[kind]
    golds = [str(100 + i) for i in range(questions)]
    return [question(i, [says(rng, g) for _ in range(PATHS)]) for i, g in enumerate(golds)]


def half_known(rng, gold):
    """Half of the paths are right, and true; the errors scatter, and slip in their sums."""
    if rng.random() < 0.5:
        return gold, rng.random() < 0.95
    return str(rng.randrange(900)), False


def unknown(rng, gold, true=0.3):
    """A wrong answer wins at high agreement; truth has nothing to do with winning."""
    answer = str(int(gold) + 500) if rng.random() < 0.6 else str(rng.randrange(900))
    return answer, rng.random() < true


# Of one path: its answer, and whether its equation is true. Of the plausible ones most is, for
# something is left out by all; what the wordy ones say holds no equation.
KINDS = {
    "half known": half_known,
    "unknown": unknown,
    "plausible": lambda rng, gold: unknown(rng, gold, true=0.8),
    "solved": lambda rng, gold: (gold if rng.random() < 0.97 else "0", True),
    "coin": lambda rng, gold: (rng.choice(["yes", "no"]), None),
    "yes man": lambda rng, gold: ("yes" if rng.random() < 0.9 else "no", None),
    "collapsed": lambda rng, gold: ("1" if rng.random() < 0.9 else str(rng.randrange(900)), True),
    "wordy": lambda rng, gold: (half_known(rng, gold)[0], None),
}


# -- what is read off a run ------------------------------------------------------------------------


WORDING = "Tom has 1 pen, 3 caps and 1,200 stamps. How many are that?"
ONE, TWO = pytest.approx(1 / 3), pytest.approx(2 / 3)


def signals_of(runs, chance=None):
    return label_free([look("", v, p) for v, p in runs], chance)


BY_HAND = {  # answers, each with a true equation, a false one or none; what is read off them
    "plain": (
        [("42", True), ("42", True), ("42", False), ("40", False), ("41", None)],
        {"plain_answer": "42", "share": 0.6, "winners_true": TWO, "losers_true": 0.0},
    ),
    "whatever its equations": (
        [("7", False), ("7", False), ("8", True)],
        {"plain_answer": "7", "winners_true": 0.0, "losers_true": 1.0},
    ),
    "a tie": (
        [("7", False), ("8", True)],
        {"plain_answer": None, "winners_true": None, "losers_true": None},
    ),
    # 0 + 1 = 1 uses one number of three; 2 + 1 = 3 two, and loses
    "one number": ([("1", True)], {"numbers_used": ONE}),
    "the winner's": ([("1", True), ("1", True), ("3", True)], {"numbers_used": ONE}),
    "no equation": ([("1", None)], {"numbers_used": None}),
}


@pytest.mark.parametrize(("answers", "told"), BY_HAND.values(), ids=BY_HAND)
def test_one_question_by_hand(answers, told):
    seen = look(WORDING, *question(0, answers))
    assert {name: getattr(seen, name) for name in told} == told


def test_what_was_cut_off_or_not_read_is_counted_and_no_more():
    assert look("How many?", *question(0, [("1", True)])).numbers_used is None
    by_value = replace(path(0, "1204"), text=" 1.00 + 3 + 1200 = 1204.")
    assert look(WORDING, vote("q", [by_value]), [by_value]).numbers_used == 1.0
    paths = [path(0, "7", True, stop="length"), path(1, None, True), path(2, "8", True)]
    s = look("", vote("q", paths), paths)
    assert (s.truncated, s.share_of_all) == (ONE, ONE)
    assert (s.plain_answer, s.share) == ("8", 1.0)
    s = look("", vote("q", paths[1:2]), paths[1:2])
    assert (s.share, s.winners_true) == (None, None)
    assert label_free([s], None)["truncated"].value == 0.0


@pytest.mark.parametrize("kind", ["coin", "yes man"])
@pytest.mark.parametrize("chance", [0.5, None])
def test_chance_agreement_is_no_agreement(kind, chance):
    """Twelve coins agree to 61% on average, and twelve men who say yes to 90%."""
    above = signals_of(run_of(kind), chance)["above chance"]
    assert abs(above.value) < 0.05 and above.low <= 0 <= above.high
    assert signals_of(run_of("half known"))["above chance"].low > 0.3


def test_the_chance_level_of_the_task_counts_where_the_sample_hides_it():
    """By chance twelve answers out of eight agree less than out of the task's two."""
    runs = [question(i, [("ABCDEFGH"[i % 8], None)] * PATHS) for i in range(24)]
    free, bound = (signals_of(runs, chance)["above chance"].value for chance in (None, 0.5))
    assert bound < free - 0.2


def test_a_long_run_is_looked_at_evenly_and_in_any_order(monkeypatch):
    monkeypatch.setattr("lmsi_cli.verdict.rules.MOST", 50)
    run = run_of("half known", 400)
    results = []
    for order in (run, run[::-1]):
        observer = Observer({"q399": "499"}, None)
        for made, paths in order:
            observer.observe(BARE, made, paths)
        results.append(observer.finish().evidence)
    first, second = results
    assert second == first and 20 <= first.looked_at <= 50
    assert first.questions == 400 and first.probe.questions == 1
    assert first.kept == sum(bool(v.kept) for v, _ in run)
    part, whole = (signals["share of all"] for signals in (first.signals, signals_of(run)))
    assert part.low < whole.value < part.high


def marked(*answers):
    return mark(*question(0, [(a, None) for a in answers]), "42")


def test_a_probe_by_hand():
    """Of each question the paths, the kept ones and the vote: a tie is shared and keeps nothing."""
    assert marked("42", "42", "42", "40") == (0.75, 1.0, 1.0)
    assert marked("40", "40", "42", "41") == (0.25, 0.0, 0.0)
    assert marked("42", "42", "40", "40") == (0.5, None, 0.5)
    paths = [path(0, "42", stop="length"), path(1, "40")]
    assert mark(vote("q", paths), paths, "42").right == 0.0  # right, but cut off
    good, bad, none = marked("42", "42", "42", "40"), marked("40", "40", "42"), marked("1", "2")
    p = labelled([good] * 6 + [bad] * 3 + [none])
    assert (p.questions, p.kept_questions, p.vote_gap.n) == (10, 9, 10)
    assert p.one_path.value == pytest.approx((6 * 0.75 + 3 / 3) / 10)
    assert p.kept.value == pytest.approx(6 / 9)
    assert p.gap.value == pytest.approx((6 * 0.25 - 3 / 3) / 9)  # of the kept questions alone
    assert p.vote.value == pytest.approx(0.6)
    assert p.any_path.value == pytest.approx(0.9)


# -- what is told of it; every rule is met once ----------------------------------------------------


def judged(kind, probe=0, questions=60, change=lambda i, made, paths: (made, paths), **known):
    """The verdict on a made-up run; ``probe`` counts the questions with a right answer.

    ``change`` makes another vote and other paths of those of question ``i``. What else is known:
    other right answers, as ``gold``, the level of ``chance``, the question that is ``asked``, and
    ``signals`` in place of those that are read.
    """
    gold = known.get("gold") or {f"q{i}": str(100 + i) for i in range(probe)}
    observer = Observer(gold, known.get("chance"))
    for i, (made, paths) in enumerate(run_of(kind, questions)):
        observer.observe(known.get("asked", BARE), *change(i, made, paths))
    evidence = observer.finish().evidence
    return judge(replace(evidence, signals=evidence.signals | known.get("signals", {})))


def keeps_nothing(i, vote, paths):
    return replace(vote, kept=()), paths


def one_is_stopped(i, vote, paths):
    return replace(vote, stopped=i == 0), paths


def a_third_is_cut_off(i, vote, paths):
    return vote, [replace(p, stop_reason="length") if p.path < 4 else p for p in paths]


def keeps_few_of_the_probe(i, vote, paths):
    strict = VoteConfig(check_equations=False, min_share=0.0 if i < 5 or i > 29 else 1.0)
    return select(vote, paths, strict)[0], paths


def with_some_right(of_nine):
    """Right answers that the winners meet on so many of nine questions."""
    return {f"q{i}": str(100 + i) if i % 9 < of_nine else "0" for i in range(60)}


MENTIONED = Question(id="q", question="Of 701, 702 and 703 how many?")  # by no path of a run
LIFT = {"steps lift": Interval(value=0.18, low=0.11, high=0.24, n=120)}
ALIKE = {"commonest": Interval(value=0.9, low=0.8, high=0.95, n=60)}
TOSS = random.Random(7)
COIN = {"chance": 0.5, "gold": {f"q{i}": TOSS.choice(("yes", "no")) for i in range(60)}}
CASES = {  # how the model answers, what is known of it, the verdict and a word of its reason
    "half known": ("half known", {}, TRAIN, "equations hold in"),
    "half known, probe": ("half known", {"probe": 30}, TRAIN, "more often than all paths"),
    "less than half right": ("half known", {"gold": with_some_right(4)}, CARE, "are wrong"),
    "half right, or less": ("half known", {"gold": with_some_right(5)}, CARE, "may be wrong"),
    "half known, small probe": ("half known", {"probe": 10}, TRAIN, ""),
    "unknown": ("unknown", {}, STOP, "nothing right to teach"),
    "unknown, probe": ("unknown", {"probe": 30}, STOP, "nothing can be learnt from them"),
    "unknown, small probe": ("unknown", {"probe": 10}, STOP, ""),
    "plausible": ("plausible", {}, CARE, "winning does not go with being true"),
    "plausible, tiny probe": ("plausible", {"probe": 5}, CARE, "the probe has 5 questions"),
    "solved": ("solved", {}, STOP, "of the paths agree already"),
    "solved, probe": ("solved", {"probe": 30}, STOP, "a path is right on"),
    "coin": ("coin", {"chance": 0.5}, STOP, "no more than answers drawn at random"),
    "coin, probe": ("coin", COIN, STOP, "guessing gives 50%"),
    "always yes": ("yes man", {"chance": 0.5}, STOP, "one answer wins 100%"),
    "collapsed": ("collapsed", {}, STOP, "the model says the same"),
    "no equations": ("wordy", {}, CARE, "too few equations to check"),
    "no equations, probe": ("wordy", {"probe": 30}, TRAIN, "more often than all paths"),
    "few questions": ("half known", {"questions": 9}, CARE, "too few to tell anything"),
    "numbers left out": ("half known", {"asked": MENTIONED}, CARE, "whatever all paths leave out"),
    "nothing kept": ("half known", {"change": keeps_nothing}, STOP, "no path of 60 questions"),
    # solved by its shares, but they are what sampling was stopped for
    "one stopped": ("solved", {"change": one_is_stopped}, CARE, "1 question was stopped early"),
    "cut off": ("half known", {"change": a_third_is_cut_off}, CARE, "--max-tokens"),
    "a small lift": ("plausible", {"signals": LIFT}, CARE, "a good sign"),
    # labels overrule what agreement fears, but keep its warning
    "alike, probe": ("half known", {"probe": 30, "signals": ALIKE}, CARE, "one answer wins"),
    # the kept ones of this probe are fewer than ten; its votes, all wrong, are not
    "hardly anything kept": (
        "unknown", {"probe": 30, "change": keeps_few_of_the_probe}, STOP, "the votes are right",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "known", "word", "told"), CASES.values(), ids=CASES.keys())
def test_each_kind_of_run_gets_its_verdict(kind, known, word, told):
    verdict = judged(kind, **known)
    assert verdict.verdict == word
    said = [STRICTER.index(r.says) if r.says else -1 for r in verdict.reasons]
    assert said == sorted(said, reverse=True)  # the strictest decides, and remarks are last
    assert told in " ".join(r.text for r in verdict.reasons if r.says == word)
    remarks = [r.text for r in verdict.reasons if r.says is None]
    unsure = "no labels: a majority that is always wrong agrees, too"
    labels = known.keys() & {"probe", "gold"} or not verdict.evidence.kept
    assert remarks == ([] if labels else [unsure])
    if known.get("signals") is ALIKE:
        assert [r.says for r in verdict.reasons] == [CARE, TRAIN]
    if verdict.evidence.stopped:
        assert not {"share of all", "above chance"} & set(verdict.evidence.signals)
