"""What a round's files say of it, what its adapter is asked, and which round stands for a run."""

import json

import pytest
from builders import example, preference, vote

from lmsi_cli.config import SampleConfig
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Preference, Question, TrainExample
from lmsi_cli.reporting.results import Answer
from lmsi_cli.rounds import adapters_of, kept_round
from lmsi_cli.run_folder import RunDir, sha256_file
from lmsi_cli.stages.checkup import figures, leave_out, manner, to_ask, trained_on
from lmsi_cli.tasks.loader import load_task

TASK = load_task("number")


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


def test_a_probe_is_asked_or_untrained_questions_with_a_winner(run):
    asked, by = to_ask(run, TASK, (), 0.0)
    assert by == "agreement"
    assert [(q.id, q.answer) for q in asked] == [("q8", "9"), ("q7", "8")]
    probe = [Question(id="q1", question="1?", answer="7")]
    assert to_ask(run, TASK, probe, 0.0) == (probe, "probe")


PROBE = [Question(id="q1", question="1?", answer="7"), Question(id="q8", question="8?", answer="1")]


def test_a_probe_that_decides_is_not_trained_on(run):
    before = run.train.read_bytes()
    assert leave_out(run, PROBE, several=False) == 0
    assert run.train.read_bytes() == before
    assert leave_out(run, PROBE, several=True) == 2
    assert trained_on(run, 0.0) == {"q0", "q2", "q3"}
    assert leave_out(run, PROBE, several=True) == 0


def test_pairs_of_a_probe_that_decides_are_left_out_and_count_as_trained_on(run):
    write_records(run.pairs, [preference(question=f"q{i}") for i in (1, 2, 8)])
    assert leave_out(run, PROBE, several=True) == 2
    assert [p.question_id for p in read_records(run.pairs, Preference)] == ["q2"]
    run.adapter.mkdir()
    run.adapter_origin.write_text(json.dumps({"pairs_sha256": sha256_file(run.pairs)}))
    assert trained_on(run, 0.0) == {"q2"}
    write_records(run.train, [*read_records(run.train, TrainExample), example("q1")])
    assert leave_out(run, PROBE, several=True) == 0  # the adapter is made of these pairs


@pytest.mark.parametrize(("without", "several", "out"), [(False, True, 0), (True, False, 2)])
def test_an_adapter_that_is_there_keeps_its_examples(run, without, several, out):
    """Of one that was trained without the probe they are left out with fewer rounds, too."""
    whole = list(read_records(run.train, TrainExample))
    if without:
        leave_out(run, PROBE, several=True)
    run.adapter.mkdir()
    run.adapter_origin.write_text(json.dumps({"train_sha256": sha256_file(run.train)}))
    write_records(run.train, whole)  # as the next vote does
    assert leave_out(run, PROBE, several) == out


def test_the_round_that_is_kept_stands_for_the_run(run):
    assert kept_round(run) is run
    for number in (1, 2):
        file = run.round(number).adapter_gguf
        file.parent.mkdir(parents=True)
        file.write_text("")
    run.rounds.write_text(
        '{"asked": 2, "rounds": [], "best": {"number": 2, "by": "probe", "why": ""}}'
    )
    assert kept_round(run).root == run.root / "round-2"
    assert list(adapters_of(run)) == ["round-2"]
    assert list(adapters_of(run, [run, run.round(2)])) == ["adapter", "round-2"]


def test_check_ups_ask_as_sampled_with_numbers_of_their_own():
    sample = SampleConfig(temperature=0.9, max_tokens=99, seed=7, prompt="cot-few")
    asked = manner(sample)
    assert (asked.temperature, asked.max_tokens, asked.prompt) == ((0.9,), 99, "cot-few")
    assert 7 not in asked.seed and manner(sample) == asked


def test_figures_of_two_questions():
    def said(question, mode, answer):
        return Answer(
            question_id=question, mode=mode, path=0, text="", predicted_answer=answer,
            correct=False, num_generated_tokens=1, seconds=0.1,
        )  # fmt: skip

    given = [said("a", "cot", "1"), said("a", "sc", "1"), said("a", "sc", "2")]
    given += [said("b", "cot", None), said("b", "sc", None), said("other", "cot", "7")]
    f = figures("base", given, {"a": "1", "b": "9", "unasked": "3"})
    assert f.questions == ("a", "b")
    assert f.scores == (pytest.approx(2 / 3), 0.0) and f.parsed == (1.0, 0.0)
    assert f.commonest == 1.0  # one greedy answer, once
