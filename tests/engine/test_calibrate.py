"""The calibration: when it is made, what it keeps, and that it is kept."""

import logging

import pytest

from lmsi_cli.config import EngineConfig, SamplingConfig
from lmsi_cli.engine import calibrate as module
from lmsi_cli.engine.calibrate import Calibration, calibrate, recall, worth_it
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.layout import Choice, Flash, Need
from lmsi_cli.engine.sizing import choose, sized

LONG = Need(prefix=3, longest=60, max_tokens=256, paths=6400)


def test_only_long_jobs_are_measured():
    assert worth_it(LONG)
    assert not worth_it(LONG._replace(paths=32))


def test_the_narrower_of_two_close_widths_is_chosen():
    rates = {
        Choice(32, True, Flash.OFF): 100.0,
        Choice(64, False, Flash.ON): 198.0,
        Choice(96, False, Flash.ON): 200.0,
    }
    found = module._best(rates)
    assert found.choice == Choice(64, False, Flash.ON)
    assert found.rates == {"unified 32": 100.0, "split 64 fused": 198.0, "split 96 fused": 200.0}


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """A cache folder of the test's own that knows what the other one knows of this build."""
    from lmsi_cli.engine import probe

    known = probe.probe()
    monkeypatch.setattr(probe, "probe", lambda: known)
    monkeypatch.setenv("LMSI_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.model
def test_measured_once_then_remembered(gguf, fresh_cache, monkeypatch, caplog):
    monkeypatch.setattr(module, "WIDTHS", (8, 16))
    with LlamaEngine(gguf, EngineConfig(threads=1)) as engine, caplog.at_level(logging.INFO):
        first = calibrate(engine.model, LONG, 1, lambda _: True)
        kinds = ("unified {}", "split {}", "split {} fused")
        assert set(first.rates) == {kind.format(w) for kind in kinds for w in (8, 16)}
        assert all(rate > 0 for rate in first.rates.values())
        assert "calibration: unified 8:" in caplog.text
        assert recall(engine.model, LONG, 1) == first
        assert recall(engine.model, LONG, 2) is None
        assert recall(engine.model, LONG._replace(longest=999), 1) is None
        assert recall(engine.model, LONG._replace(max_tokens=999), 1) is None  # deeper
    assert len(list(fresh_cache.glob("calibration-*.json"))) == 1


@pytest.mark.model
def test_what_does_not_fit_is_not_tried(gguf, fresh_cache, monkeypatch):
    monkeypatch.setattr(module, "WIDTHS", (8, 16))
    with LlamaEngine(gguf, EngineConfig(threads=1)) as engine:
        found = calibrate(engine.model, LONG, 1, lambda layout: layout.width < 16)
        assert set(found.rates) == {"unified 8", "split 8", "split 8 fused"}
        assert calibrate(engine.model, LONG._replace(longest=999), 1, lambda _: False) is None


@pytest.mark.model
def test_what_is_set_by_hand_stays(gguf, fresh_cache, monkeypatch):
    found = Calibration(width=96, unified=False, flash=1, rates={})
    monkeypatch.setattr("lmsi_cli.engine.sizing.calibrate", lambda *_: found)
    with LlamaEngine(gguf, SamplingConfig()) as engine:

        def layout(**settings):
            config = SamplingConfig(**settings)
            return sized(engine.model, config, LONG, choose(engine.model, config, LONG))

        assert layout()[0:2] == (96, 98)
        hand = layout(parallel=8, flash_attn="off")
        assert (hand.width, hand.unified, hand.flash) == (8, False, Flash.OFF)
        hand = layout(kv="unified", ctx=4096)
        assert (hand.unified, hand.cells) == (True, 4096)


@pytest.mark.model
def test_paths_that_may_be_short_are_timed_too(gguf):
    """The cache of the measurement has room for it; the job's own would be full."""
    need = Need(prefix=250, longest=270, max_tokens=4, paths=64)
    with LlamaEngine(gguf, EngineConfig(threads=1)) as engine:
        found = module.pace(engine.model, need, Choice(64, True, Flash.OFF), 1)
    assert found.write > 0 and found.read > 0
