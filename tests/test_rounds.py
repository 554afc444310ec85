"""Between rounds: seeds, gates, the round that is kept, and what a round's files say of it."""

import json

import pytest
from builders import example, preference, vote
from msgspec.structs import replace

from lmsi_cli import rounds
from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import RunConfig, SampleConfig, TrainConfig, VoteConfig
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Preference, Question, TrainExample
from lmsi_cli.run_folder import RunDir, sha256_file
from lmsi_cli.settings import Settings, of_round, seed_of
from lmsi_cli.stages.checkup import figures, leave_out, manner, to_ask, trained_on
from lmsi_cli.stages.evaluate import unread
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.verdict.rules import CARE, Observer

PLAIN = Settings(SampleConfig(seed=3), VoteConfig(seed=4), TrainConfig(seed=5))
N = 40
NONE = frozenset[str]()
ALL = frozenset(f"q{i}" for i in range(N))


def seen(right, n=N, **other):
    """The check-up of a model that answers the first ``right`` of ``n`` questions."""
    scores = (1.0,) * right + (0.0,) * (n - right)
    usual = {"model": "m", "parsed": (1.0,) * n, "commonest": 0.05}
    ids = tuple(f"q{i}" for i in range(n))
    return rounds.Figures(**{**usual, **other}, questions=ids, scores=scores)


def a_round(number, right=None, gate="", trained=True):
    """A round; ``gate`` names the one that ended the rounds with it."""
    gates = (rounds.Gate(name=gate, ends=True, text=""),) if gate else ()
    return rounds.Round(
        number=number, folder=f"round-{number}", temperature=0.7, drawn_by=number - 1,
        started_from=0, verdict="train", kept_questions=60, kept_paths=200, mean_share=0.6,
        trained=trained, gates=gates, figures=None if right is None else seen(right),
    )  # fmt: skip


def test_later_rounds_have_other_seeds_and_their_own_temperature_and_start():
    run = RunConfig(rounds=3, round_temperature=(0.7, 1.0))
    found = [of_round(PLAIN, run, n, "" if n < 2 else "runs/a/adapter") for n in (1, 2, 3)]
    for stage in ("sample", "vote", "train"):
        seeds = [getattr(r, stage).seed for r in found]
        assert len(set(seeds)) == 3 and all(0 <= s < 2**31 for s in seeds)
    assert found[0] == PLAIN  # the first one has the settings as given
    assert [r.sample.temperature for r in found] == [0.7, 1.0, 1.0]  # the last one goes on
    fresh = replace(found[1].train, init="", seed=PLAIN.train.seed)
    assert (found[1].train.init, fresh) == ("runs/a/adapter", PLAIN.train)
    later = {seed_of(s, n) for s in range(1000) for n in (2, 3)}  # no sum gives them
    assert len(later) == 2000 and not later & set(range(1000))


def test_the_gate_of_the_vote_follows_its_verdict_and_an_alarm_ends_the_rounds():
    verdict = Observer({}, None).finish()  # of a vote that kept nothing
    gate = rounds.voted(verdict)
    assert gate.ends and f"not to train: {verdict.reasons[0].text}" in gate.text
    assert not rounds.voted(replace(verdict, verdict=CARE)).ends
    (gate,) = rounds.alarmed("step 20: the model is far from the base")
    assert gate.ends and rounds.alarmed("") == ()


@pytest.mark.parametrize("by", ["probe", "agreement"])
@pytest.mark.parametrize(("before", "after"), [(30, 12), (30, 28), (12, 30)])
def test_a_clear_fall_ends_the_rounds_and_a_rise_in_agreement_is_no_evidence(by, before, after):
    (gate,) = rounds.checked((seen(before), seen(after)), by, NONE)
    assert gate.ends is (after == 12)
    assert gate.text.endswith("no evidence of a gain") is (by == "agreement")


@pytest.mark.parametrize(
    ("sign", "told"),
    [
        ({"commonest": 0.6}, "one answer is given to 60% of the questions (base 5%)"),
        ({"parsed": (0.5,) * N}, "answers that can be read against the base: -50.0"),
    ],
)
def test_collapse_ends_the_rounds_without_labels_and_is_a_remark_beside_them(sign, told):
    found = (seen(20), seen(20, **sign))

    def gates(by, chance=None):
        return {g.ends for g in rounds.checked(found, by, NONE, chance) if told in g.text}

    assert (gates("agreement"), gates("probe")) == ({True}, {False})
    # of few answers one may be common
    assert gates("agreement", 0.5) == (set() if "commonest" in sign else {True})


def test_trained_questions_are_not_compared_on_by_agreement():
    found, most = (seen(20), seen(20)), ALL - {f"q{i}" for i in range(10)}
    assert rounds.comparable(found, "agreement", NONE) == list(found[0].questions)
    assert rounds.comparable(found, "agreement", most) == []
    assert len(rounds.comparable(found, "probe", most)) == 10
    assert len(rounds.comparable(found, "probe", most | {"q9"})) == N  # then the whole probe
    assert rounds.comparable((seen(4, 8),) * 2, "probe", NONE) == []


def test_the_last_good_round_skips_alarms_and_what_was_not_trained():
    assert rounds.last_good((a_round(1), a_round(2, gate="alarm"), a_round(3, trained=False))) == 1
    assert rounds.last_good((a_round(1, gate="alarm"),)) == rounds.last_good(()) == 0
    assert rounds.last_good((a_round(1), a_round(2, gate="verdict"))) == 2  # it was forced


@pytest.mark.parametrize(
    ("by", "right", "number", "told"),
    [
        ("probe", (20, 25, 23), 2, "50.0% in round 1, 62.5% in round 2, 57.5% in round 3"),
        ("probe", (20, 22), 2, "that may be chance"),
        ("probe", (20, 20), 1, "most right answers"),
        ("agreement", (20, 23), 1, "no later round is clearly better"),
        ("agreement", (20, 23, 36), 3, "no proof of a gain"),
    ],
)
def test_a_probe_keeps_most_right_answers_and_agreement_only_a_clear_gain(by, right, number, told):
    kept = rounds.best([a_round(n, k) for n, k in enumerate(right, 1)], {}, by)
    assert (kept.number, kept.by) == (number, by)
    assert told in kept.why
    gain = kept.change.difference if kept.change else 0
    assert gain == pytest.approx((right[number - 1] - right[0]) / N)


def test_trained_questions_and_unsound_rounds_choose_nothing():
    kept = rounds.best([a_round(1, 20), a_round(2, 36)], {2: ALL}, "agreement")
    assert (kept.number, kept.by) == (1, "nothing")
    worse = a_round(2, 40, gate="check-up")
    assert rounds.best([a_round(1, 20), worse], {}, "probe").number == 1
    only = rounds.best([worse], {}, "probe")
    assert only.number == 2 and "for want of a better one" in only.why
    assert rounds.best([a_round(1, trained=False)], {}, "probe") is None


# -- the files of a round --------------------------------------------------------------------------


PROBE = [Question(id="q1", question="1?", answer="7"), Question(id="q8", question="8?", answer="1")]


@pytest.fixture
def run(tmp_path):
    """Eight questions; q0 to q3 are trained on, q4 is a tie, q5 has no winner, q6 no number."""
    folder = RunDir(tmp_path / "a")
    folder.create()
    write_records(folder.questions, [Question(id=f"q{i}", question=f"{i}?") for i in range(9)])
    winners = ["1", "2", "3", "4", "5", None, "1,000.0", "8", "9"]
    votes = [
        vote(f"q{i}", w, posterior={7: 0.6, 8: 0.8}.get(i, 0.9), tie=i == 4, ballots={}, kept=())
        for i, w in enumerate(winners)
    ]
    write_records(folder.votes, votes)
    write_records(folder.train, [example(f"q{i}", path=p) for i in range(4) for p in range(2)])
    return folder


def trained(run, name, file):
    """Leave an adapter that was trained on this file as it is now."""
    run.adapter.mkdir()
    run.adapter_origin.write_text(json.dumps({f"{name}_sha256": sha256_file(file)}))


def test_a_probe_is_asked_or_untrained_questions_with_a_winner(run):
    task = load_task("number")
    asked, by = to_ask(run, task, (), 0.0)
    assert [(q.id, q.answer) for q in asked] == [("q8", "9"), ("q7", "8")]
    assert by == "agreement"
    assert to_ask(run, task, PROBE, 0.0) == (PROBE, "probe")


def test_a_probe_that_decides_is_not_trained_on_nor_are_its_pairs(run):
    write_records(run.pairs, [preference(question=f"q{i}") for i in (1, 2, 8)])
    assert leave_out(run, PROBE, several=False) == 0
    assert trained_on(run, 0.0) == {"q0", "q1", "q2", "q3"}
    assert leave_out(run, PROBE, several=True) == 2
    assert trained_on(run, 0.0) == {"q0", "q2", "q3"}
    assert [p.question_id for p in read_records(run.pairs, Preference)] == ["q2"]
    assert leave_out(run, PROBE, several=True) == 0
    trained(run, "pairs", run.pairs)
    assert trained_on(run, 0.0) == {"q2"}
    write_records(run.train, [*read_records(run.train, TrainExample), example("q1")])
    assert leave_out(run, PROBE, several=True) == 0  # the adapter is made of these pairs


@pytest.mark.parametrize(("without", "several", "out"), [(False, True, 0), (True, False, 2)])
def test_an_adapter_that_is_there_keeps_its_examples(run, without, several, out):
    """Of one that was trained without the probe they are left out with fewer rounds, too."""
    whole = list(read_records(run.train, TrainExample))
    if without:
        leave_out(run, PROBE, several=True)
    trained(run, "train", run.train)
    write_records(run.train, whole)  # as the next vote does
    assert leave_out(run, PROBE, several) == out


def test_the_round_that_is_kept_stands_for_the_run(run):
    assert rounds.kept_round(run) is run
    for number in (1, 2):
        write_atomic(run.round(number).adapter_gguf, b"")
    best = {"number": 2, "by": "probe", "why": ""}
    run.rounds.write_text(json.dumps({"asked": 2, "rounds": [], "best": best}))
    assert rounds.kept_round(run).root == run.root / "round-2"
    assert list(rounds.adapters_of(run)) == ["round-2"]
    assert list(rounds.adapters_of(run, [run, run.round(2)])) == ["adapter", "round-2"]


def test_check_ups_ask_as_sampled_with_numbers_of_their_own():
    asked = manner(SampleConfig(temperature=0.9, max_tokens=99, seed=7, prompt="cot-few"))
    assert (asked.temperature, asked.max_tokens, asked.prompt) == ((0.9,), 99, "cot-few")
    assert 7 not in asked.seed


def test_figures_of_two_questions():
    given = [("a", "cot", "1"), ("a", "sc", "1"), ("a", "sc", "2"), ("b", "cot", None)]
    given += [("b", "sc", None), ("other", "cot", "7")]
    answers = [replace(unread(mode, q, 0), predicted_answer=said) for q, mode, said in given]
    f = figures("base", answers, {"a": "1", "b": "9", "unasked": "3"})
    assert f.questions == ("a", "b")
    assert f.scores == (pytest.approx(2 / 3), 0.0) and f.parsed == (1.0, 0.0)
    assert f.commonest == 1.0  # one greedy answer, once
