"""The engine around the sampler: sizes, adapters, and the order in which memory is given back."""

import ctypes

import broken_models
import numpy as np
import pytest

from lmsi_cli.cli.main import Terminated
from lmsi_cli.config import EngineConfig, SamplingConfig
from lmsi_cli.engine import engine as module
from lmsi_cli.engine import llama
from lmsi_cli.engine.base import Request, Wanted
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.errors import LmsiError

pytestmark = pytest.mark.model

TRIGGER = "The answer is"
SAMPLING = SamplingConfig(max_tokens=8, temperature=0)


@pytest.fixture
def engine(one_block):
    with LlamaEngine(one_block, EngineConfig(threads=1)) as loaded:
        yield loaded


def request(engine, paths=3):
    wanted = tuple(Wanted(i, i) for i in range(paths))
    return Request("q", tuple(engine.encode("Q: What is 2 + 3?\nA:")), wanted)


def test_an_unfinished_generation_does_not_outlive_the_model(one_block):
    """llama.cpp crashes when a context is freed after its model."""
    with LlamaEngine(one_block, EngineConfig(threads=1)) as engine:
        unfinished = engine.generate([request(engine)], SAMPLING, TRIGGER)
        next(unfinished)
    unfinished.close()  # frees nothing again


def test_a_cache_that_was_asked_for_fills_up_and_is_freed(engine, monkeypatch):
    class Counted(module.LlamaContext):
        open = 0

        def __init__(self, *shape):
            super().__init__(*shape)
            Counted.open += 1

        def close(self):
            Counted.open -= 1
            super().close()

    monkeypatch.setattr(module, "LlamaContext", Counted)
    engine.config = EngineConfig(ctx=256, parallel=60, threads=1)
    drawn = engine.generate([request(engine, 60)], SAMPLING, TRIGGER)
    with pytest.raises(LmsiError, match="the KV cache of 256 cells is full"):
        list(drawn)
    assert Counted.open == 0


def test_the_cache_must_fit_the_memory(engine):
    engine.config = EngineConfig(ctx=10**9)
    with pytest.raises(LmsiError, match=r"the KV cache needs .* GiB, .* GiB are free") as e:
        list(engine.generate([request(engine)], SAMPLING, TRIGGER))
    assert "--set ctx" in e.value.hint


def test_a_long_prefix_is_held_once_and_finished_questions_do_not_hide_it(engine):
    """On a resume they have no prompt; the cache was once sized as if nothing were shared."""
    prefix = engine.encode("Q: What is 6 * 7?\nA: The answer is 42.\n\n" * 25)
    open_ = [
        Request(f"q{i}", (*prefix, *engine.encode(f"Q: {i}?\nA:")), (Wanted(0, 0),)) for i in (1, 2)
    ]
    settled = []
    for finished in ([], [Request("q0", (), ())]):
        list(engine.generate([*finished, *open_], SAMPLING, TRIGGER))
        settled.append(engine.settled)
    assert settled[0] == settled[1]
    assert settled[0]["kv"] == "unified"


def test_an_adapter_is_on_until_it_is_off(engine, tmp_path):
    adapter = str(broken_models.adapter(tmp_path / "a.gguf", 512, value=0.05))

    def logits(*given):
        engine.use_adapter(*given)
        return engine.last_logits([request(engine).prompt])

    base, full, half = logits(None), logits(adapter), logits(adapter, 0.5)
    assert np.array_equal(logits(None), base)
    assert 0 < np.abs(half - base).max() < np.abs(full - base).max()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
def test_an_interrupt_while_llama_cpp_writes_its_log_is_raised_after_the_call(monkeypatch, kind):
    @ctypes.CFUNCTYPE(None)
    def callback():  # C calls Python, as between two log lines, and a signal's handler raises
        raise kind

    monkeypatch.setattr("sys.unraisablehook", llama.keep_interrupt)
    callback()
    with pytest.raises(kind):
        llama.raise_interrupt()
    llama.raise_interrupt()  # once
