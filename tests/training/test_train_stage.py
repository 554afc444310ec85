"""The stage: only a proven adapter gets the name under which other commands look for it."""

import msgspec
import pytest

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.stages import train as stage
from lmsi_cli.tasks.loader import load_task

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
