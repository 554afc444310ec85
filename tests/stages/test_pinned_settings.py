"""The kind of cache that a run is drawn in is written down, and told where it changes."""

from functools import partial
from types import SimpleNamespace

import pytest
from builders import path

from lmsi_cli.config import EngineConfig, SampleConfig
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.jsonl import write_records
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.engines import ENGINE, Settling, as_begun

SPLIT = {"parallel": 8, "kv": "split", "flash_attn": "on", "cells": 512}
SHARED = {"kv": "split", "flash_attn": "on"}
UNIFIED = {"parallel": 32, "kv": "unified", "flash_attn": "off", "cells": 1024}


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path)
    run.create()
    return run


def call(run, *settled, alone=False):
    """One call that settles so; what it said."""
    said = []
    settling = Settling(run, said.append)
    for each in settled:
        if alone:
            settling.alone(SimpleNamespace(settled=each, pin=lambda kind: None))
        else:
            settling.of_worker(each)
    return said


def draw(run):
    write_records(run.paths, [path()])


def test_of_workers_the_first_ones_kind_is_kept(run):
    assert call(run, None, {}, SPLIT, {**SPLIT, "parallel": 32}, UNIFIED) == []
    assert run.load_settings()[ENGINE] == SHARED


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "spread"])
@pytest.mark.parametrize("before", [True, False], ids=["alone before", "spread before"])
def test_a_run_goes_on_as_it_was_begun_or_says_that_it_does_not(run, alone, before):
    call(run, SPLIT, alone=before)
    draw(run)
    begun = as_begun(run, SampleConfig())
    assert (begun.kv, begun.flash_attn, begun.parallel) == ("split", "on", 0)
    assert call(run, {**SPLIT, "parallel": 2}, alone=alone) == []
    (told,) = call(run, UNIFIED, alone=alone)
    assert "so far drawn with --set kv=split --set flash_attn=on, now with --set kv=unified" in told
    assert as_begun(run, SampleConfig()).kv == "unified"


def test_one_process_keeps_all_of_it_and_news(run):
    assert call(run, {}, SPLIT, SPLIT, {**SPLIT, "parallel": 4}, alone=True) == []
    assert run.load_settings()[ENGINE] == {**SPLIT, "parallel": 4}


def test_all_calls_of_one_engine_draw_in_the_kind_of_the_first(run):
    """Those of generated questions, and of several formats, have prompts of different lengths."""
    engine = SimpleNamespace(config=EngineConfig(), settled={**SPLIT, "fast_copy": "off"})
    engine.pin = partial(LlamaEngine.pin, engine)
    Settling(run, print).alone(engine)
    assert (engine.config.kv, engine.config.flash_attn) == ("split", "on")
    assert (engine.config.fast_copy, engine.config.parallel) == ("off", 0)


def test_a_server_settles_other_things(run):
    draw(run)
    assert call(run, {"n_params": 7}, alone=True) == []
    assert run.load_settings()[ENGINE] == {"n_params": 7}
