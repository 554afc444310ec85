"""The sampler under a watch: decided questions are left, and nothing else is disturbed."""

from collections import defaultdict

import pytest
from test_batched import TRIGGER, requests

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.engine import LlamaEngine

pytestmark = pytest.mark.model

PATHS = 8


@pytest.fixture(scope="module")
def engine(gguf):
    with LlamaEngine(gguf, SamplingConfig(threads=1)) as loaded:
        yield loaded


class Watch:
    """Calls a question decided when the first ``enough`` of its paths are there.

    It knows that they are needed from the beginning, or, with ``blind``, calls all of them needed.
    """

    def __init__(self, enough, blind=False):
        self.enough, self.blind = enough, blind
        self.seen, self.lost = defaultdict(dict), []

    def needed(self, question_id):
        return 99 if self.blind else self.enough.get(question_id, 99)

    def decided(self, question_id):
        return set(range(self.enough.get(question_id, 99))) <= self.seen[question_id].keys()

    def cancelled(self, question_id, path, tokens):
        self.lost.append((question_id, path, tokens))


def drawn(engine, watch, **settings):
    config = SamplingConfig(**{"threads": 1, "parallel": 6, **settings})
    engine.config = config
    for g in engine.generate(requests(engine, PATHS), config, TRIGGER, watch):
        assert g.path not in watch.seen[g.question_id]
        watch.seen[g.question_id][g.path] = g.text
    return watch


@pytest.mark.parametrize(("parallel", "blind"), [(1, False), (2, True), (6, False), (32, True)])
def test_a_decided_question_is_left_and_the_others_are_complete(engine, parallel, blind):
    watch = drawn(engine, Watch({"q0": 3, "q1": 1}, blind), parallel=parallel)
    assert watch.seen["q2"].keys() == set(range(PATHS))
    for question, enough in watch.enough.items():
        assert set(range(enough)) <= watch.seen[question].keys()
        assert not {p for q, p, _ in watch.lost if q == question} & watch.seen[question].keys()
    assert all(tokens > 0 for _, _, tokens in watch.lost)
    assert watch.lost or parallel < 32
    if parallel == 1:
        assert [len(watch.seen[f"q{i}"]) for i in range(3)] == [3, 1, PATHS]


def test_while_another_question_waits_nothing_is_begun_in_vain(engine):
    """q2 needs all of its paths, so that no slot is idle before q0 and q1 are decided."""
    watch = drawn(engine, Watch({"q0": 3, "q1": 2}), parallel=4)
    assert not watch.lost
    assert [len(watch.seen[f"q{i}"]) for i in range(3)] == [3, 2, PATHS]


def test_idle_slots_take_what_may_be_in_vain(engine):
    watch = drawn(engine, Watch({"q0": 2, "q1": 2, "q2": 2}), parallel=12)
    begun = [*watch.lost, *((q, p, 1) for q in watch.seen for p in watch.seen[q])]
    assert len(begun) >= 12
    assert {q for q, *_ in watch.lost} == {"q0", "q1", "q2"}  # they share them


def test_cancelled_cells_disturb_nobody(engine):
    """Greedy, so that a path depends on its question alone."""
    whole = drawn(engine, Watch({}), temperature=0, parallel=5, kv="unified").seen
    watch = drawn(
        engine, Watch({"q1": 2, "q2": 3}, blind=True), temperature=0, parallel=5, kv="unified"
    )
    assert watch.lost
    assert all(whole[q][p] == text for q, texts in watch.seen.items() for p, text in texts.items())
