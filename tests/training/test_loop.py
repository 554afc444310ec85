"""The loop: it learns, it can be killed at any step, and it says when it cannot go on."""

import json
import math

import pytest
from builders import Watcher, example, refused
from toys import job, losses, moved

from lmsi_cli.config import TrainConfig
from lmsi_cli.resume import ANEW
from lmsi_cli.training import checkpoint, loop, validation
from lmsi_cli.training.adapter import check_start, fill, save_adapter, trainable
from lmsi_cli.training.data import Codec, pack
from lmsi_cli.training.loop import fit, plan
from lmsi_cli.training.trainer import train
from lmsi_cli.training.validation import due, measure


def test_an_interrupted_run_and_a_watched_one_end_as_any_other(tiny, examples, tmp_path, watcher):
    """Dropout draws random numbers in every step, so their state has to be kept, too."""

    def run(name, watcher, *watched, **config):
        task = job(examples, tmp_path / name, *watched, dropout=0.2, **config)
        return fit(tiny(dropout=0.2), task, watcher)

    whole = run("whole", Watcher())
    with pytest.raises(KeyboardInterrupt):
        run("interrupted", Watcher(until=5))
    assert losses(run("interrupted", watcher)) == losses(whole)
    assert watcher.done[0] == 6 and "after step 5 of 12" in watcher.said[0]
    seen = run("watched", Watcher(), examples, False, eval_every=3)
    assert losses(seen) == losses(whole)
    assert [r.step for r in seen.readings] == [0, 3, 6, 9, 12] and not whole.readings
    assert (whole.best, seen.best, seen.stopped) == (None, 12, "")  # trained on: the last one
    assert not (tmp_path / "whole" / validation.LOG).exists()


@pytest.mark.parametrize("torn", [b"", b"{}", b"\xff" * 100])
def test_a_broken_checkpoint_starts_over(tiny, examples, tmp_path, watcher, torn):
    (tmp_path / checkpoint.NAME).write_bytes(torn)
    fit(tiny(), job(examples, tmp_path, max_steps=2), watcher)
    assert watcher.done[0] == 1


def test_a_checkpoint_of_another_run_is_not_overwritten(tiny, examples, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), job(examples, tmp_path), Watcher(until=3))
    before = (tmp_path / checkpoint.NAME).read_bytes()
    for task, told in (
        (job(examples, tmp_path, lr=0.01), "... step 3 ... lr: 0.02 ... 0.01 now"),
        (job(examples[:-1], tmp_path), "... other examples or another model"),
    ):
        refused(fit, tiny(), task, Watcher(), told=told, hint=ANEW)
    assert (tmp_path / checkpoint.NAME).read_bytes() == before


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_examples(tiny, examples, tmp_path):
    model = tiny()
    for p in trainable(model).values():
        p.data.fill_(math.nan)
    told = "... any sound adapter: step 1: ... not a number ... , q"
    refused(fit, model, job(examples, tmp_path), Watcher(), told=told, hint=ANEW)


@pytest.mark.parametrize(("length", "most", "limit"), [(5000, 100_000, 2048), (40, 32, 32)])
def test_examples_that_are_too_long_are_told_before_any_work(gguf, tmp_path, length, most, limit):
    codec = Codec(lambda _: [1] * length, lambda *_: [1])
    given = [example()], gguf, TrainConfig(max_length=most), tmp_path, codec, Watcher()
    refused(train, *given, told=f"... 1 of 1 examples are longer than {limit} tokens")
    assert not list(tmp_path.iterdir())


def test_a_plan_has_epochs_or_steps_and_an_epoch_sees_all_once_in_another_order():
    def sizes(**config):
        return [len(step) for step in plan(5, TrainConfig(**config))]

    assert sizes(epochs=2.0, batch_size=4) == [4, 4, 2]
    assert sizes(epochs=0.01) == [1]
    assert sizes(epochs=9.0, batch_size=2, max_steps=3) == [2, 2, 2]
    order = [i for step in plan(50, TrainConfig(epochs=2, batch_size=7)) for i in step]
    assert sorted(order[:50]) == sorted(order[50:]) == list(range(50))
    assert order[:50] != order[50:]
    assert plan(50, TrainConfig()) != plan(50, TrainConfig(seed=1))


# -- what is measured on questions that training does not see --------------------------------------


@pytest.mark.parametrize(
    ("total", "every", "steps"),
    [(400, 0, [*range(0, 401, 40)]), (50, 0, [0, 20, 40, 50]), (10, 4, [0, 4, 8, 10])],
)
def test_some_ten_validations_and_the_last_step(total, every, steps):
    assert [s for s in range(total + 1) if due(s, total, every)] == steps


def test_the_base_is_measured_at_step_0_whatever_the_adapter_does(tiny, examples):
    model, rows = moved(tiny(), 0.3), pack(examples, 0)
    base, adapted = (measure(model, rows, "fp32", step).loss for step in (0, 1))
    assert base == measure(tiny(), rows, "fp32", 1).loss != pytest.approx(adapted)


def test_patience_ends_a_run_and_the_best_adapter_is_left(tiny, examples, tmp_path):
    """On other completions, so that learning the first ones hurts."""
    model, others = tiny(), [e._replace(completion=e.completion[::-1]) for e in examples]
    config = {"eval_every": 2, "max_steps": 40, "alarms": False, "patience": 3}
    task = job(examples, tmp_path, others, True, **config)
    done = fit(model, task, Watcher())
    assert validation.PATIENCE in done.stopped and validation.alarming(done.stopped) == ""
    lowest = min(done.readings[1:], key=lambda r: r.loss)
    assert done.best == lowest.step == len(done.log) - 6 < 34
    again = measure(model, pack(others, 1536), "fp32", lowest.step)
    assert again.loss == pytest.approx(lowest.loss, abs=1e-6)
    assert not model.training
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


def test_a_collapse_keeps_the_last_good_adapter(tiny, own, tmp_path, watcher, monkeypatch):
    """By a schedule of the test's own, the rate is an absurd one from the twenty-first step on."""
    monkeypatch.setitem(loop.SCHEDULES, "constant", lambda done: 5e4 if done > 0.29 else 0.5)
    config = {"lr": 1e-3, "max_steps": 60, "eval_every": 10, "schedule": "constant"}
    task = job(own, tmp_path, own, True, **config)
    done = fit(tiny(), task, watcher)
    assert done.stopped.startswith("step 30: ") and done.best == 20 and len(done.log) == 30
    assert any("the adapter after step 20 of 30" in line for line in watcher.said)


def test_a_collapse_from_the_start_leaves_no_adapter(tiny, own, tmp_path):
    task = job(own, tmp_path, own, True, lr=50.0, eval_every=10, max_steps=20)
    for _ in range(2):  # the second call finds the same end, and trains nothing
        refused(fit, tiny(), task, Watcher(), told="... before there was any ... step 10: ")


# -- starting from an adapter ----------------------------------------------------------------------


def saved(model, folder):
    folder.mkdir(exist_ok=True)
    save_adapter(model, folder)
    origin = {"base_sha256": "b", "base_file": "m"}
    (folder / "lmsi.json").write_text(json.dumps(origin))
    return {"init": str(folder), "alpha": 32.0, "rank": 4}


def test_the_first_loss_is_the_last_adapters(tiny, examples, tmp_path):
    first, again = tiny(), tiny()
    log = fit(first, job(examples, tmp_path / "a", batch_size=9), Watcher()).log
    config = saved(first, tmp_path / "adapter")
    check_start(TrainConfig(**config), "b")
    fill(again, TrainConfig(**config))
    task = job(examples, tmp_path / "b", max_steps=1, batch_size=9, **config)
    begun = fit(again, task, Watcher()).log[0].loss
    left = measure(first, pack(examples), "fp32", 1).loss
    assert begun == pytest.approx(left, abs=1e-5)
    assert begun < log[0].loss / 2  # and not that of the base


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"rank": 16}, "rank 4, 16 now"),
        ({"alpha": 16.0}, "alpha 32.0, 16.0 now"),
        ({"rslora": True}, "rslora False, True now"),
        ({"target": "mlp"}, "acts on other matrices"),
        ({"layers": 1}, "acts on other matrices"),
    ],
    ids=str,
)
def test_an_adapter_of_other_settings_is_no_start(tiny, tmp_path, config, told):
    asked = TrainConfig(**saved(tiny(), tmp_path / "adapter") | config)

    def start():
        check_start(asked, "b")
        fill(tiny(**config), asked)

    refused(start, told=f"... {told}")


def test_an_adapter_of_another_model_or_an_unfinished_one_is_no_start(tiny, tmp_path):
    config = TrainConfig(**saved(tiny(), tmp_path / "adapter"))
    refused(check_start, config, "c", told="... trained on another model, m")
    for missing in ("lmsi.json", "adapter_config.json"):
        (tmp_path / "adapter" / missing).unlink()
        refused(check_start, config, "b", told=f"... no {missing}")
