"""The sampler under a watch: decided questions are left, and nothing else is disturbed."""

from collections import Counter, defaultdict

import pytest
from test_batched import TRIGGER, requests

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.batched import BatchedSampler
from lmsi_cli.engine.engine import LlamaEngine

pytestmark = pytest.mark.model

PATHS = 8


@pytest.fixture(scope="module")
def engine(gguf):
    with LlamaEngine(gguf, SamplingConfig(threads=1)) as loaded:
        yield loaded


class Watch:
    """Calls a question decided when the first ``needed`` of its paths are there."""

    def __init__(self, needed, wave):
        self.needed, self.wave = needed, wave
        self.seen, self.lost = defaultdict(dict), []

    def decided(self, question_id):
        return set(range(self.needed.get(question_id, 99))) <= self.seen[question_id].keys()

    def cancelled(self, question_id, path, tokens):
        self.lost.append((question_id, path, tokens))


def drawn(engine, watch, **settings):
    config = SamplingConfig(**{"threads": 1, "parallel": 6, **settings})
    engine.config = config
    for g in engine.generate(requests(engine, PATHS), config, TRIGGER, watch):
        assert g.path not in watch.seen[g.question_id]
        watch.seen[g.question_id][g.path] = g.text
    return watch


@pytest.mark.parametrize(("parallel", "wave"), [(1, 0), (6, 0), (6, 1), (6, 2), (5, 3), (32, 4)])
def test_a_decided_question_is_left_and_the_others_are_complete(engine, parallel, wave):
    watch = drawn(engine, Watch({"q0": 3, "q1": 1}, wave), parallel=parallel)
    assert watch.seen["q2"].keys() == set(range(PATHS))
    for question, needed in watch.needed.items():
        begun = {p for q, p, _ in watch.lost if q == question}
        assert not begun & watch.seen[question].keys()
        begun |= watch.seen[question].keys()
        assert set(range(needed)) <= watch.seen[question].keys()
        assert not wave or max(begun) <= needed + wave - 2
    assert all(tokens > 0 for _, _, tokens in watch.lost)
    assert not watch.lost or 1 not in (parallel, wave)
    assert watch.lost or (parallel, wave) != (6, 0)


def test_cancelled_cells_disturb_nobody(engine):
    """Greedy, so that a path depends on its question alone."""
    whole = drawn(engine, Watch({}, 0), temperature=0, parallel=5).seen
    watch = drawn(engine, Watch({"q1": 2, "q2": 3}, 0), temperature=0, parallel=5)
    assert watch.lost
    assert all(whole[q][p] == text for q, texts in watch.seen.items() for p, text in texts.items())


def test_a_watch_that_decides_nothing_changes_nothing(engine):
    config = SamplingConfig(threads=1, parallel=5)
    engine.config = config
    plain = list(engine.generate(requests(engine, 4), config, TRIGGER))
    assert list(engine.generate(requests(engine, 4), config, TRIGGER, Watch({}, 0))) == plain


def test_questions_share_the_slots(engine, monkeypatch):
    """At most a wave of each question runs, and no slot is free while another one waits."""
    running = []
    fill = BatchedSampler._fill_batch

    def spy(self):
        running.append(Counter(s.request.question_id for s in self.slots if s is not None))
        return fill(self)

    monkeypatch.setattr(BatchedSampler, "_fill_batch", spy)
    drawn(engine, Watch({}, 2), parallel=4)
    assert max(max(step.values(), default=0) for step in running) == 2
    assert any(len(step) > 1 for step in running)
    full = [step.total() == 4 for step in running]
    assert sum(full) / len(full) > 0.5
