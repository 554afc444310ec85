"""The verdict on runs of known kinds, with and without labels; every rule is met once."""

import random

import pytest
from msgspec.structs import replace
from verdict_helpers import BARE, judged, run_of

from lmsi_cli.config import VoteConfig
from lmsi_cli.records import Interval, Question
from lmsi_cli.verdict.rules import CARE, STOP, STRICTER, TRAIN, Observer, judge
from lmsi_cli.voting.selection import select

TOSS = random.Random(7)
COIN = {"chance": 0.5, "gold": {f"q{i}": TOSS.choice(("yes", "no")) for i in range(60)}}
CASES = {  # how the model answers, what is known of it, the verdict and a word of its reason
    "half known": ("half known", {}, TRAIN, "equations hold in"),
    "half known, probe": ("half known", {"probe": 30}, TRAIN, "more often than all paths"),
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
}


@pytest.mark.parametrize(("kind", "known", "word", "told"), CASES.values(), ids=CASES.keys())
def test_each_kind_of_run_gets_its_verdict(kind, known, word, told):
    verdict = judged(kind, **known)
    assert verdict.verdict == word
    said = [STRICTER.index(r.says) for r in verdict.reasons if r.says]
    assert said == sorted(said, reverse=True)  # the strictest reason decides and stands first
    assert told in " ".join(r.text for r in verdict.reasons if r.says == word)
    remarks = [r.text for r in verdict.reasons if r.says is None]
    unsure = "no labels: a majority that is always wrong agrees, too"
    assert remarks == ([] if known.keys() & {"probe", "gold"} else [unsure])


@pytest.mark.parametrize(
    ("kind", "known", "name", "signal", "told"),
    [
        ("plausible", {}, "steps lift", (0.18, 0.11, 0.24, 120), "a good sign"),
        # labels overrule what agreement fears, but keep its warning
        ("half known", {"probe": 30}, "commonest", (0.9, 0.8, 0.95, 60), "one answer wins"),
    ],
    ids=["a small lift", "labels"],
)
def test_what_only_warns(kind, known, name, signal, told):
    evidence = judged(kind, **known).evidence
    value, low, high, n = signal
    signals = evidence.signals | {name: Interval(value=value, low=low, high=high, n=n)}
    verdict = judge(replace(evidence, signals=signals))
    assert verdict.verdict == CARE and told in verdict.reasons[0].text
    assert [r.says for r in verdict.reasons[1:]] == [TRAIN if known else None]


def cut(paths):
    return [replace(p, stop_reason="length") if p.path < 4 else p for p in paths]


MENTIONED = Question(id="q", question="Of 701, 702 and 703 how many?")  # by no path of a run
CHANGED = {
    "numbers left out": ({"asked": MENTIONED}, CARE, "whatever all paths leave out"),
    "nothing kept": (
        {"vote": lambda i, v: replace(v, kept=())}, STOP, "no path of 60 questions is kept",
    ),
    # solved by its shares, but they are what sampling was stopped for
    "one stopped": (
        {"kind": "solved", "vote": lambda i, v: replace(v, stopped=i == 0)},
        CARE, "1 question was stopped early, so no shares",
    ),
    "cut off": ({"paths": cut}, CARE, "--max-tokens"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "word", "told"), CHANGED.values(), ids=CHANGED)
def test_what_a_run_lacks_is_told_first(changes, word, told):
    observer = Observer({}, None)
    for i, (made, drawn) in enumerate(run_of(changes.get("kind", "half known"))):
        made = changes.get("vote", lambda i, v: v)(i, made)
        observer.observe(changes.get("asked", BARE), made, changes.get("paths", list)(drawn))
    verdict = observer.finish()
    assert verdict.verdict == word and told in verdict.reasons[0].text
    if "stopped" in told:
        assert not {"share of all", "above chance"} & set(verdict.evidence.signals)


def test_where_hardly_anything_is_kept_the_votes_are_marked():
    """The kept ones of the probe are fewer than ten; its votes, all wrong, are not."""
    observer = Observer({f"q{i}": str(100 + i) for i in range(30)}, None)
    for i, (made, paths) in enumerate(run_of("unknown")):
        strict = VoteConfig(check_equations=False, min_share=0.0 if i < 5 or i > 29 else 1.0)
        observer.observe(BARE, select(made, paths, strict)[0], paths)
    verdict = observer.finish()
    assert verdict.evidence.probe.kept_questions == 5
    assert verdict.verdict == STOP
    assert verdict.reasons[0].text.startswith("the votes are right")
