"""What is measured on questions that training does not see, and what follows from it."""

import random

import pytest
from toys import Watcher, job, losses, moved

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import loop, validation
from lmsi_cli.training.data import pack, share_prefixes
from lmsi_cli.training.loop import fit
from lmsi_cli.training.validation import WORSE, Reading, due, measure


@pytest.mark.parametrize(
    ("total", "every", "steps"),
    [(400, 0, [*range(0, 401, 40)]), (50, 0, [0, 20, 40, 50]), (10, 4, [0, 4, 8, 10])],
)
def test_some_ten_validations_and_the_last_step(total, every, steps):
    assert [s for s in range(total + 1) if due(s, total, every)] == steps


def test_the_best_is_the_lowest_before_the_alarm():
    losses = {0: 0.3, 20: 0.2, 40: 0.25, 60: 0.3 + WORSE + 0.01}
    taken = [Reading(step=step, loss=loss, seconds=1.0) for step, loss in losses.items()]
    config = TrainConfig()
    assert validation.judge(taken[:3], config, True) == ""
    assert validation.judge(taken, config, True).startswith("step 60: ")
    assert validation.best(taken, config, True).step == 20
    assert validation.best(taken, config, False).step == 40
    assert validation.best([taken[0], taken[3]], config, True) is None
    assert validation.judge(taken, TrainConfig(alarms=False), True) == ""


def held(examples, seed=1):
    """Examples of the same kind as the fixture's, with other tails."""
    rng = random.Random(seed)
    return share_prefixes(
        [e._replace(completion=[rng.randrange(64) for _ in e.completion]) for e in examples],
        [str(i % 3) for i in range(len(examples))],
    )


def test_the_base_is_measured_at_step_0_whatever_the_adapter_does(tiny, examples):
    model, rows = moved(tiny(), 0.3), pack(examples, 0)
    base, adapted = (measure(model, rows, "fp32", step).loss for step in (0, 1))
    assert base == measure(tiny(), rows, "fp32", 1).loss != pytest.approx(adapted)


def test_a_watched_run_computes_what_an_unwatched_one_does(tiny, examples, tmp_path):
    plain = fit(tiny(dropout=0.2), job(examples, tmp_path / "a", dropout=0.2), Watcher())
    task = job(examples, tmp_path / "b", examples, False, dropout=0.2, eval_every=3)
    seen = fit(tiny(dropout=0.2), task, Watcher())
    assert losses(plain) == losses(seen)
    assert [r.step for r in seen.readings] == [0, 3, 6, 9, 12] and not plain.readings
    assert (plain.best, plain.stopped) == (None, "")
    assert not (tmp_path / "a" / validation.LOG).exists()


def test_the_best_adapter_is_the_one_that_is_left(tiny, examples, tmp_path):
    model, others = tiny(), held(examples)  # other completions: learning the first ones hurts
    config = {"eval_every": 2, "max_steps": 30, "alarms": False}
    done = fit(model, job(examples, tmp_path, others, True, **config), Watcher())
    lowest = min(done.readings[1:], key=lambda r: r.loss)
    assert done.best == lowest.step < 30
    again = measure(model, pack(others, 1536), "fp32", lowest.step)
    assert again.loss == pytest.approx(lowest.loss, abs=1e-6)
    assert not model.training


def test_patience_ends_a_run_that_no_longer_gains(tiny, examples, tmp_path):
    config = {"eval_every": 2, "max_steps": 40, "alarms": False, "patience": 3}
    task = job(examples, tmp_path, held(examples), True, **config)
    done = fit(tiny(), task, Watcher())
    assert validation.PATIENCE in done.stopped and validation.alarming(done.stopped) == ""
    assert len(done.log) < 40
    assert fit(tiny(), task, Watcher()) == done  # the same end, at once


@pytest.fixture
def own(tiny, examples):
    """Examples whose completions are what the base itself would write, as kept paths are."""
    import torch

    model, made = tiny(), []
    for e in examples:
        ids = list(e.prompt)
        with torch.no_grad():
            for _ in e.completion:
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        made.append(e._replace(completion=ids[len(e.prompt) :]))
    return made


def test_a_collapse_keeps_the_last_good_adapter(tiny, own, tmp_path, monkeypatch):
    """By a schedule of the test's own, the rate is an absurd one from the twenty-first step on."""
    monkeypatch.setitem(loop.SCHEDULES, "constant", lambda done: 5e4 if done > 0.29 else 0.5)
    config = {"lr": 1e-3, "max_steps": 60, "eval_every": 10, "schedule": "constant"}
    task = job(own, tmp_path, own, True, **config)
    watcher = Watcher()
    done = fit(tiny(), task, watcher)
    assert done.stopped.startswith("step 30: ") and done.best == 20 and len(done.log) == 30
    assert any("the adapter after step 20 of 30" in line for line in watcher.said)


def test_a_collapse_from_the_start_leaves_no_adapter(tiny, own, tmp_path):
    task = job(own, tmp_path, own, True, lr=50.0, eval_every=10, max_steps=20)
    for _ in range(2):  # the second call finds the same end, and trains nothing
        with pytest.raises(LmsiError, match="before there was any sound adapter: step 10: "):
            fit(tiny(), task, Watcher())
