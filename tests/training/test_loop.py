"""The loop: it learns, it can be killed at any step, and it says when it cannot go on."""

import json
import math

import pytest
from builders import example
from toys import Watcher, job, losses

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import checkpoint
from lmsi_cli.training.adapter import trainable
from lmsi_cli.training.data import Codec
from lmsi_cli.training.loop import LOG, fit, plan
from lmsi_cli.training.trainer import train


def test_the_loss_falls_on_a_toy_set(tiny, examples, tmp_path):
    log = fit(tiny(), job(examples, tmp_path, max_steps=40), Watcher()).log
    assert log[-1].loss < log[0].loss / 2


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
    assert watcher.steps[0][0] == 6 and "after step 5 of 12" in watcher.said[0]


def test_a_killed_run_goes_on_from_its_last_checkpoint(tiny, examples, tmp_path, monkeypatch):
    whole = fit(tiny(), job(examples, tmp_path / "a"), Watcher())
    task = job(examples, tmp_path / "b", checkpoint_every=3)
    kept = checkpoint.save
    saved = []

    def save(folder, header, *rest):
        kept(folder, header, *rest) if not saved else None
        saved.append(header.step)

    monkeypatch.setattr(checkpoint, "save", save)  # as if killed: the log runs on, no save at 8
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), task, Watcher(until=8))
    watcher = Watcher()
    assert losses(fit(tiny(), task, watcher)) == losses(whole)
    assert watcher.steps[0][0] == 4
    steps = [json.loads(line)["step"] for line in (tmp_path / "b" / LOG).read_text().splitlines()]
    assert steps == list(range(1, 13))


@pytest.mark.parametrize("torn", [b"", b"{}", b"\xff" * 100])
def test_a_broken_checkpoint_starts_over(tiny, examples, tmp_path, torn):
    (tmp_path / checkpoint.NAME).write_bytes(torn)
    watcher = Watcher()
    fit(tiny(), job(examples, tmp_path, max_steps=2), watcher)
    assert watcher.steps[0][0] == 1


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
    ("examples", "length", "told"),
    [
        ([], 1, "nothing to train on: 0 examples$"),
        ([example()], 5000, "nothing to train on: 1 of 1 examples are longer than 2048 tokens$"),
        ([example()], 40, "nothing to train on: 1 of 1 examples are longer than 32 tokens$"),
    ],
    ids=["none", "longer than the context", "longer than asked"],
)  # fmt: skip
def test_bad_examples_are_told_before_any_work(gguf, tmp_path, examples, length, told):
    codec = Codec(lambda _: [1] * length, lambda *_: [1])
    config = TrainConfig(max_length=32 if length == 40 else 100_000)
    with pytest.raises(LmsiError, match=told):
        train(examples, gguf, config, tmp_path, codec, Watcher())
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
