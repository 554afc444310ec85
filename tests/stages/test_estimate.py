"""What a run would cost: the reckoning, and that the trial leaves nothing behind."""

import pytest
from stage_helpers import settled

from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.records import Question
from lmsi_cli.stages import dry_run as module
from lmsi_cli.stages.dry_run import estimate
from lmsi_cli.stages.sample import requests_of
from lmsi_cli.tasks.loader import load_task

pytestmark = pytest.mark.model
TASK = load_task("tinymath")
ASKED = [
    Question(id=f"q{i}", question=f"Tom has {i} apples. Tom gets 7 more. How many has he now?")
    for i in range(3, 9)
]


@pytest.fixture(scope="module")
def engine(gguf):
    with LlamaEngine(gguf, SampleConfig(threads=1)) as loaded:
        yield loaded


def reckon(engine, **settings):
    config = settled(SampleConfig(threads=1, **settings))
    engine.config = config
    return estimate(requests_of(ASKED, engine, TASK, config), engine, config, TASK.trigger)


def test_time_is_tokens_by_speed(engine):
    found = reckon(engine, paths=40, parallel=8)
    assert (found.width, found.trial_paths, found.at_most) == (8, 24, False)
    tokens = 6 * 40 * found.tokens_per_path
    assert tokens / found.tokens_s < found.seconds < 1.2 * tokens / found.tokens_s
    assert 5 < found.tokens_per_path < 100
    assert not any(context.raw for context in engine._contexts)
    assert found.cells > 0 and found.cache_bytes > 0


def test_paths_that_are_not_done_in_time_make_it_an_upper_bound(engine, monkeypatch):
    monkeypatch.setattr(module, "TRIAL_SECONDS", 0.0)
    found = reckon(engine, paths=4, parallel=4)
    assert found.at_most and found.trial_paths == 1
    assert found.tokens_per_path > 0.9 * engine.config.max_tokens
