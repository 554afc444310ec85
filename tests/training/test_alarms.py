"""Alarms: they ring where training destroys the model, and the last good adapter stays."""

import pytest
from toys import Watcher

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import alarms, checkpoint
from lmsi_cli.training.loop import fit
from lmsi_cli.training.state import Job
from lmsi_cli.training.validation import Reading, Watched


def reading(step=20, loss=0.3, divergence=0.05, evenness=None):
    return Reading(step=step, loss=loss, divergence=divergence, evenness=evenness, seconds=1.0)


BASE = reading(step=0, divergence=0.0, evenness=0.9)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (reading(), ""),
        (reading(evenness=0.8), ""),
        (reading(loss=0.3 + alarms.WORSE + 0.01), "kept paths are less likely than to the base"),
        (reading(loss=0.31, divergence=alarms.FAR + 0.01), "far from the base"),
        (reading(loss=0.29, divergence=alarms.FAR + 0.01), ""),
        (reading(evenness=0.4), "answers to different questions are the same"),
    ],
)
def test_what_is_alarming(found, told):
    assert told in alarms.alarm(found, BASE) and bool(told) == bool(alarms.alarm(found, BASE))


def test_a_base_that_repeats_itself_is_no_alarm():
    """Yes and no are all the answers that some questions have."""
    assert not alarms.alarm(reading(evenness=0.2), reading(step=0, evenness=0.25))


def test_the_best_is_the_lowest_before_the_alarm():
    taken = [BASE, reading(20, 0.2), reading(40, 0.25), reading(60, 9.0)]
    config = TrainConfig()
    assert alarms.judge(taken[:3], config, True) == ""
    assert alarms.judge(taken, config, True).startswith("step 60: kept paths")
    assert alarms.best(taken, config, True).step == 20
    assert alarms.best(taken, config, False).step == 40
    assert alarms.best([BASE, taken[3]], config, True) is None
    assert alarms.judge(taken, TrainConfig(alarms=False), True) == ""


def test_text_that_the_model_would_not_write_is_noticed():
    assert alarms.strange(reading(0, 0.14), 4096) == ""
    assert "4.5 nats a token, a blind guess has 8.3" in alarms.strange(reading(0, 4.5), 4096)


@pytest.fixture
def own(tiny, examples):
    """Examples whose completions are what the base itself would write, as kept paths are."""
    import torch

    model = tiny()
    made = []
    for e in examples:
        ids = list(e.prompt)
        with torch.no_grad():
            for _ in e.completion:
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        made.append(e._replace(completion=ids[len(e.prompt) :]))
    return made


def job(examples, out, **config):
    settings = TrainConfig(**{"max_steps": 60, "batch_size": 4, "rank": 4, **config})
    name = checkpoint.fingerprint(None, examples, settings)
    return Job(examples, settings, "fp32", out, name, Watched(examples, True))


def test_a_collapse_keeps_the_last_good_adapter(tiny, own, tmp_path, monkeypatch):
    """The rate is raised to an absurd one in the middle of the run."""
    from lmsi_cli.training import loop

    rate = loop.schedule.learning_rate
    monkeypatch.setattr(
        loop.schedule, "learning_rate", lambda s, n, c: 50.0 if s >= 20 else rate(s, n, c)
    )
    watcher = Watcher()
    done = fit(tiny(), job(own, tmp_path, eval_every=10), watcher)
    assert done.stopped.startswith("step 30: ") and done.best == 20 and len(done.log) == 30
    assert watcher.said[-2:] == [
        f"stopped: {done.stopped}",
        "taken: the adapter after step 20 of 30",
    ]


def test_a_collapse_from_the_start_leaves_no_adapter(tiny, own, tmp_path):
    task = job(own, tmp_path, lr=50.0, eval_every=10)
    for _ in range(2):  # the second call finds the same end, and trains nothing
        with pytest.raises(LmsiError, match="before there was any sound adapter: step 10: "):
            fit(tiny(), task, Watcher())


def test_learning_what_the_base_would_never_write_is_no_collapse(tiny, examples, tmp_path):
    done = fit(tiny(), job(examples, tmp_path, lr=0.02, eval_every=10), Watcher())
    assert done.stopped == "" and done.readings[-1].divergence > alarms.FAR
