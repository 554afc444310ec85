"""The cache: its arithmetic against what llama.cpp takes, and the calibration that chooses one."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.config import EngineConfig, SamplingConfig
from lmsi_cli.engine import calibrate as module
from lmsi_cli.engine import cpu_check
from lmsi_cli.engine.cache_layout import CacheKind, Flash, Need, bytes_of, lay_out, shared_prefix
from lmsi_cli.engine.calibrate import calibrated, choose, measure, sized
from lmsi_cli.engine.context import LlamaContext
from lmsi_cli.engine.llama import library

needs = st.builds(
    lambda prefix, own, longest, paths: Need(prefix, prefix + own, longest, paths),
    st.integers(0, 900),
    st.integers(1, 400),
    st.integers(1, 600),
    st.integers(1, 5000),
)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), min_size=1))
def test_shared_prefix_is_common_and_leaves_a_token(prompts):
    n = shared_prefix(prompts)
    assert all(p[:n] == prompts[0][:n] and len(p) > n for p in prompts)
    longer = {p[: n + 1] for p in prompts}
    assert len(longer) > 1 or any(len(p) == n + 1 for p in prompts)


@given(needs, st.integers(1, 300), st.integers(1, 300), st.booleans())
def test_every_path_may_be_as_long_as_it_is_allowed(need, width, questions, unified):
    """And many open questions take no path's place."""
    layout = lay_out(need, CacheKind(width, unified, Flash.OFF), questions)
    asked = min(width, need.paths, 240)
    assert asked <= layout.width <= 240 and layout.sequences <= 256
    assert layout.width == asked or (not unified and layout.width - asked < 8)
    if unified:
        own = need.longest - need.prefix
        assert layout.cells >= need.prefix + layout.width * (own + need.max_tokens) + own
    else:
        assert layout.cells >= layout.sequences * (need.longest + need.max_tokens)


@pytest.mark.model
@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("flash", [Flash.ON, Flash.OFF])
@pytest.mark.parametrize("width", [8, 64])
def test_the_prediction_is_within_a_tenth_of_what_llama_cpp_takes(engine, unified, flash, width):
    lib, said = library(), []
    layout = lay_out(Need(60, 90, 256, 999), CacheKind(width, unified, flash))
    listen = lib.llama_log_callback(lambda _level, text, _data: said.append(text.decode()))
    lib.llama_log_set(listen, None)
    context = LlamaContext(engine.model, layout, 1)
    library()  # which sets its own log again
    context.close()
    taken = sum(float(s.split("=")[1].split()[0]) for s in said if "buffer size" in s) * 2**20
    assert len(said) > 2
    assert bytes_of(layout, engine.model.sizes) == pytest.approx(taken, rel=0.1)


LONG = Need(prefix=3, longest=60, max_tokens=256, paths=6400)


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """A cache folder of the test's own that knows what the other one knows of this build."""
    known = cpu_check.cpu_check()
    monkeypatch.setattr(cpu_check, "cpu_check", lambda: known)
    monkeypatch.setenv("LMSI_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "WIDTHS", (8, 16))
    return tmp_path


@pytest.mark.parametrize(("better", "found"), [(1.01, 8), (2, 16)])
def test_the_narrower_of_close_widths_is_chosen(engine, fresh_cache, monkeypatch, better, found):
    rates = {(8, Flash.ON): 100.0, (16, Flash.ON): 100.0 * better, (8, Flash.OFF): 90.0}

    def measured(_model, _need, kinds, _threads):
        return {k: rates.get((k.width, k.flash), 50.0) for k in kinds}, 1.0

    monkeypatch.setattr(module, "measure", measured)
    assert calibrated(engine.model, LONG, 1) == CacheKind(found, False, Flash.ON)


@pytest.mark.parametrize(("fused", "found"), [(101, Flash.OFF), (110, Flash.ON)])
def test_a_shorter_job_measures_attention_alone(engine, fresh_cache, monkeypatch, fused, found):
    def measured(_model, _need, kinds, _threads):
        return {k: fused if k.flash == Flash.ON else 100 for k in kinds}, 1.0

    monkeypatch.setattr(module, "measure", measured)
    config, need = EngineConfig(threads=1), LONG._replace(paths=96)
    assert choose(engine.model, config, need._replace(paths=8)).flash == Flash.OFF
    assert choose(engine.model, config, need) == CacheKind(64, False, found)
    monkeypatch.setattr(module, "measure", None)
    assert choose(engine.model, config, need._replace(paths=8)).flash == found


@pytest.mark.model
def test_measured_once_then_remembered_for_jobs_of_that_length(engine, fresh_cache, caplog):
    with caplog.at_level(logging.INFO):
        first = calibrated(engine.model, LONG, 1)
        assert first.width in (8, 16)
        short = LONG._replace(paths=1)
        others = short._replace(longest=999), short._replace(max_tokens=999)
        assert [calibrated(engine.model, n, 1) for n in (short, *others)] == [first, None, None]
        assert calibrated(engine.model, short, 2) is None
        assert calibrated(engine.model, LONG, 1) == first
    assert sum("calibration" in m for m in caplog.messages) == 1


@pytest.mark.model
@pytest.mark.parametrize(
    ("settings", "layout"),
    [
        ({}, {"parallel": 96, "kv": "split", "flash_attn": "on"}),
        ({"parallel": 8, "flash_attn": "off"}, {"parallel": 8, "kv": "split", "flash_attn": "off"}),
        ({"kv": "unified", "ctx": 4096}, {"kv": "unified", "cells": 4096}),
    ],
)
def test_what_is_set_by_hand_stays(engine, monkeypatch, settings, layout):
    measured = CacheKind(width=96, unified=False, flash=Flash.ON)
    monkeypatch.setattr(module, "calibrated", lambda *_: measured)
    config = SamplingConfig(**settings)
    found = sized(engine.model, config, LONG, choose(engine.model, config, LONG))
    assert found.settings.items() >= layout.items()
    assert found.sequences == found.width + 2  # one open question is enough without --stop


@pytest.mark.model
def test_paths_that_may_be_short_are_timed_too(engine):
    """The cache of the measurement has room for it; the job's own would be full."""
    need = Need(prefix=250, longest=270, max_tokens=4, paths=64)
    rates, read = measure(engine.model, need, [CacheKind(64, True, Flash.OFF)], 1, 15)
    assert min(rates.values()) > 0 and read > 0
