"""Proofs catch an adapter that does nothing or that llama.cpp runs otherwise; it gets no name."""

import msgspec
import numpy as np
import pytest

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.stages import train as stage
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.training.verify import Sides, check_base, gap, verify

RNG = np.random.default_rng(0)
BASE, EFFECT, NOISE, OTHER = RNG.standard_normal((4, 8, 100)).astype(np.float32)


def side(effect, noise=0.0):
    off = BASE + noise * NOISE
    return Sides(off, off + effect + noise * OTHER)


def test_a_gap_ignores_what_softmax_ignores():
    assert gap(BASE + 7, BASE) == pytest.approx(0, abs=1e-6)
    assert gap(1.1 * BASE, BASE) == pytest.approx(0.1, rel=1e-4)


def test_two_back_ends_that_agree_up_to_rounding_pass():
    proof = verify(side(0.1 * EFFECT), side(0.1 * EFFECT, noise=0.004))
    assert proof.ok and proof.prompts == 8
    assert proof.moved == pytest.approx(0.1, rel=0.1)
    assert proof.base_gap == pytest.approx(0.004, rel=0.1)


@pytest.mark.parametrize(
    ("trained", "exported", "noise", "message"),
    [
        (0 * EFFECT, 0 * EFFECT, 0, "does nothing"),
        (0.01 * EFFECT, 0.01 * EFFECT, 0.02, "does nothing"),  # no more than rounding
        (0.1 * EFFECT, 0 * EFFECT, 0.004, "disagree on the adapter"),  # ignored
        (0.1 * EFFECT, 0.1 * OTHER, 0.004, "disagree on the adapter"),  # another one
        (0.01 * EFFECT, 0 * EFFECT, 0.004, "disagree on the adapter"),  # within 2%, yet not there
        (0.1 * EFFECT, np.nan * EFFECT, 0.004, "disagree on the adapter"),
        (np.nan * EFFECT, 0.1 * EFFECT, 0.004, "does nothing"),
        (0.1 * EFFECT, 0.1 * EFFECT, 0.2, "compute different logits"),
    ],
)
def test_each_failure_is_told_apart(trained, exported, noise, message):
    with pytest.raises(LmsiError, match=message):
        verify(side(trained), side(exported, noise))


@pytest.mark.parametrize(
    ("effect", "hint"), [(0.05, "with --overwrite"), (0.2, "please report it")]
)
def test_a_weak_adapter_is_no_fault_of_the_program(effect, hint):
    with pytest.raises(LmsiError, match="disagree on the adapter") as e:
        verify(side(effect * EFFECT), side(-effect * EFFECT, 0.03))
    assert e.value.hint.endswith(hint)


def test_a_base_that_is_nan_is_a_stranger():
    with pytest.raises(LmsiError, match="compute different logits"):
        check_base(BASE, np.nan * BASE)


# -- the stage -------------------------------------------------------------------------------------


CONFIG = TrainConfig(rank=2, max_steps=2, batch_size=3, lr=0.01, dtype="fp32", device="cpu")


@pytest.mark.model
def test_an_adapter_whose_proof_failed_is_measured_by_nobody(run, gguf, watcher, monkeypatch):
    def train():
        return stage.train_run(run, gguf, load_task("number"), CONFIG, watcher)

    def failing(*_):
        raise LmsiError("the adapter does nothing")

    run.adapter.mkdir()
    run.adapter_gguf.write_bytes(b"of a training that was killed")
    with monkeypatch.context() as m:
        m.setattr(stage, "verify", failing)
        with pytest.raises(LmsiError, match=rf"{run.unproven_gguf}: the adapter does nothing"):
            train()
    assert run.unproven_gguf.exists() and not run.adapter_gguf.exists()
    assert not run.adapter_origin.exists()
    steps = len(watcher.done)
    assert train().proof.ok and len(watcher.done) == steps  # proven again, not trained again
    assert run.adapter_gguf.exists() and not run.unproven_gguf.exists()


@pytest.mark.model
def test_a_run_whose_questions_are_all_trained_on_is_proven_too(run, gguf, watcher):
    run.questions.write_text('{"id":"q2","question":"Ann has 2 pens and buys 2. How many pens?"}\n')
    bare = msgspec.structs.replace(load_task("number"), exemplars=())
    assert stage.train_run(run, gguf, bare, CONFIG, watcher).proof.ok
