"""The loop: it learns, it can be killed at any step, and it says when it cannot go on."""

import json
import math
import random

import pytest
from builders import Watcher, example
from toys import job, losses, moved

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import adapter, checkpoint, data, loop, validation
from lmsi_cli.training.adapter import (
    check_files,
    check_start,
    fill,
    save_adapter,
    trainable,
)
from lmsi_cli.training.data import Codec, pack, share_prefixes
from lmsi_cli.training.loop import fit, plan
from lmsi_cli.training.losses import token_losses
from lmsi_cli.training.trainer import train
from lmsi_cli.training.validation import WORSE, Reading, due, measure


def test_equal_seeds_give_equal_runs_and_others_do_not(tiny, examples, tmp_path):
    runs = [
        losses(fit(tiny(seed=s), job(examples, tmp_path / str(i), seed=s), Watcher()))
        for i, s in enumerate([0, 0, 1])
    ]
    assert runs[0] == runs[1] != runs[2]


def test_an_interrupted_run_goes_on_and_ends_the_same(tiny, examples, tmp_path):
    # Dropout draws random numbers in every step, so this holds only if their state is kept too.
    whole = fit(tiny(dropout=0.2), job(examples, tmp_path / "a", dropout=0.2), Watcher())
    task = job(examples, tmp_path / "b", dropout=0.2)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(dropout=0.2), task, Watcher(until=5))
    watcher = Watcher()
    assert losses(fit(tiny(dropout=0.2), task, watcher)) == losses(whole)
    assert watcher.done[0] == 6 and "after step 5 of 12" in watcher.said[0]


@pytest.mark.parametrize("torn", [b"", b"{}", b"\xff" * 100])
def test_a_broken_checkpoint_starts_over(tiny, examples, tmp_path, torn):
    (tmp_path / checkpoint.NAME).write_bytes(torn)
    watcher = Watcher()
    fit(tiny(), job(examples, tmp_path, max_steps=2), watcher)
    assert watcher.done[0] == 1


def test_a_checkpoint_of_another_run_is_not_overwritten(tiny, examples, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), job(examples, tmp_path), Watcher(until=3))
    before = (tmp_path / checkpoint.NAME).read_bytes()
    told = r"\(step 3 of an unfinished training\) had other settings: lr: 0.02 .* 0.01 now$"
    with pytest.raises(LmsiError, match=told):
        fit(tiny(), job(examples, tmp_path, lr=0.01), Watcher())
    with pytest.raises(LmsiError, match="belongs to other examples or another model"):
        fit(tiny(), job(examples[:-1], tmp_path), Watcher())
    assert (tmp_path / checkpoint.NAME).read_bytes() == before


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_examples(tiny, examples, tmp_path):
    model = tiny()
    for p in trainable(model).values():
        p.data.fill_(math.nan)
    with pytest.raises(
        LmsiError, match=r"any sound adapter: step 1: .* not a number.* q\d, q"
    ) as e:
        fit(model, job(examples, tmp_path), Watcher())
    assert "--overwrite" in e.value.hint


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (5000, "nothing to train on: 1 of 1 examples are longer than 2048 tokens$"),
        (40, "nothing to train on: 1 of 1 examples are longer than 32 tokens$"),
    ],
)
def test_examples_that_are_too_long_are_told_before_any_work(gguf, tmp_path, length, told):
    codec = Codec(lambda _: [1] * length, lambda *_: [1])
    config = TrainConfig(max_length=32 if length == 40 else 100_000)
    with pytest.raises(LmsiError, match=told):
        train([example()], gguf, config, tmp_path, codec, Watcher())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        ({"epochs": 2.0, "batch_size": 4}, [4, 4, 2]),
        ({"epochs": 0.5, "batch_size": 4}, [2]),
        ({"epochs": 0.01}, [1]),
        ({"max_steps": 3, "batch_size": 2, "epochs": 9.0}, [2, 2, 2]),
    ],
)
def test_a_plan_has_epochs_or_steps(config, sizes):
    steps = plan(5, TrainConfig(**config))
    assert [len(s) for s in steps] == sizes


def test_every_epoch_sees_every_example_once_in_another_order():
    order = [i for step in plan(50, TrainConfig(epochs=2, batch_size=7)) for i in step]
    assert sorted(order[:50]) == sorted(order[50:]) == list(range(50))
    assert order[:50] != order[50:]


# -- what is measured on questions that training does not see --------------------------------------


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


# -- starting from an adapter ----------------------------------------------------------------------


def saved(model, folder):
    folder.mkdir(exist_ok=True)
    save_adapter(model, folder)
    origin = {"base_sha256": "b", "base_file": "m"}
    (folder / "lmsi.json").write_text(json.dumps(origin))
    return {"init": str(folder), "alpha": 32.0, "rank": 4}


def loss_of(model, examples):
    """Over all examples as one batch, as the first step takes it."""
    rows = data.pack(examples, 1536)
    total = sum(float(token_losses(model, row, "fp32").sum().detach()) for row in rows)
    return total / sum(len(row.labels) for row in rows)


def test_the_first_loss_is_the_last_adapters(tiny, examples, tmp_path):
    first, again = tiny(), tiny()
    log = fit(first, job(examples, tmp_path / "a", batch_size=9), Watcher()).log
    config = saved(first, tmp_path / "adapter")
    fill(again, TrainConfig(**config))
    task = job(examples, tmp_path / "b", max_steps=1, batch_size=9, **config)
    begun = fit(again, task, Watcher()).log[0].loss
    assert begun == pytest.approx(loss_of(first, examples), abs=1e-5)
    assert begun < log[0].loss / 2  # and not that of the base


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"rank": 16}, "rank 4, 16 now"),
        ({"alpha": 16.0}, "alpha 32.0, 16.0 now"),
        ({"rslora": True}, "rslora False, True now"),
    ],
)
def test_other_settings_are_refused(tiny, tmp_path, config, what):
    right = saved(tiny(), tmp_path / "adapter")
    check_start(TrainConfig(**right), "b")
    with pytest.raises(LmsiError, match=what):
        check_start(TrainConfig(**right | config), "b")
    with pytest.raises(LmsiError, match="trained on another model, m"):
        check_start(TrainConfig(**right), "c")


@pytest.mark.parametrize("config", [{"target": "mlp"}, {"layers": 1}], ids=str)
def test_other_matrices_are_refused(tiny, tmp_path, config):
    right = saved(tiny(), tmp_path / "adapter")
    with pytest.raises(LmsiError, match="acts on other matrices"):
        fill(tiny(**config), TrainConfig(**right | config))


@pytest.mark.parametrize("missing", ["adapter_config.json", "lmsi.json"])
def test_an_unfinished_adapter_is_refused(tiny, tmp_path, missing):
    config = TrainConfig(**saved(tiny(), tmp_path / "adapter"))
    (tmp_path / "adapter" / missing).unlink()
    with pytest.raises(LmsiError, match=f"no {missing}"):
        check_start(config, "b")


TORN = {
    "weights cut off": (adapter.WEIGHTS, lambda data: data[:1000]),
    "weights that are none": (adapter.WEIGHTS, lambda data: b"x" * 100),
    "settings cut off": (adapter.CONFIG, lambda data: data[:20]),
    "settings of nothing": (adapter.CONFIG, lambda data: b"{}"),
    "settings that are a list": (adapter.CONFIG, lambda data: b"[1]"),
}


@pytest.mark.parametrize(("name", "torn"), TORN.values(), ids=TORN.keys())
def test_torn_files_are_named(tiny, tmp_path, name, torn):
    saved(tiny(), tmp_path)
    assert check_files(tmp_path)["r"] == 4
    (tmp_path / name).write_bytes(torn((tmp_path / name).read_bytes()))
    with pytest.raises(LmsiError, match=name):
        check_files(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(LmsiError, match=name):
        check_files(tmp_path)
