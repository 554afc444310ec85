"""What is there already, from either format; whole paths are read only where ballots count."""

import pytest

from lmsi_cli.cluster.dispatch import Item
from lmsi_cli.cluster.having import Having
from lmsi_cli.records import Question
from lmsi_cli.rundir import RunDir
from lmsi_cli.stopping import Stop
from lmsi_cli.store.shards import Shards
from tests.store.shard_paths import sampled

FORMS = ["jsonl", "parquet"]
WINDOW = Stop.parse("window:2")
QUESTIONS = [Question(id=f"q{i}", question="?") for i in range(3)]


def shelf(root, form):
    """q0 has paths 0 and 3, which agree; q1 has 0, 1 and 2, of which the last one says nothing."""
    run = RunDir(root)
    answers = [("q0", 3, "7"), ("q1", 1, "7"), ("q0", 0, "7"), ("q1", 0, "8"), ("q1", 2, None)]
    if form == "parquet":
        pytest.importorskip("pyarrow")
    with run.sampled.appending(form) as lines:
        for question, path, answer in answers:
            lines.write(sampled(path, question, predicted_answer=answer))
    return run.sampled


@pytest.mark.parametrize("form", FORMS)
def test_what_is_there_and_what_is_lacking(tmp_path, form):
    having = Having.of(shelf(tmp_path, form), 4, None)
    assert (having.drawn.paths, having.drawn.parsed) == (5, 4)
    assert having.lacks("q0") == (1, 2)
    assert [having.lacking(q.id) for q in QUESTIONS] == [2, 1, 4]
    items = list(having.items(QUESTIONS))
    assert items == [Item("q0", (1, 2)), Item("q1", (3,)), Item("q2", (0, 1, 2, 3))]
    assert having.asked(QUESTIONS[0], (1, 2)).told == ()
    assert not any(having.stopped(q.id) for q in QUESTIONS)


@pytest.mark.parametrize("form", FORMS)
def test_ballots_decide_and_travel_with_a_question(tmp_path, form):
    there = shelf(tmp_path, form)
    with there.appending(form) as lines:
        lines.write(sampled(1, "q0", predicted_answer="7"))
    having = Having.of(there, 4, WINDOW)
    assert having.lacks("q0") == () and having.lacking("q0") == 0 and having.stopped("q0")
    assert not having.stopped("q1")
    assert sorted(having.asked(QUESTIONS[1], (3,)).told) == [(0, "8"), (1, "7"), (2, None)]
    assert [item.question_id for item in having.items(QUESTIONS)] == ["q1", "q2"]


def test_without_stop_no_shard_is_read_whole(tmp_path, monkeypatch):
    there = shelf(tmp_path, "parquet")

    def read(self):
        raise AssertionError("whole records")

    monkeypatch.setattr(Shards, "read", read)
    assert Having.of(there, 4, None).drawn.paths == 5
    with pytest.raises(AssertionError):
        Having.of(there, 4, WINDOW)
