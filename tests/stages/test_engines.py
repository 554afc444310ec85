"""The engine that is chosen, the kind of cache that is settled, and how a folder goes on."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
from builders import path

from lmsi_cli.config import EngineConfig, SampleConfig
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import write_records
from lmsi_cli.records import Question
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.stages import engines as module
from lmsi_cli.stages.engines import ENGINE, Settling, as_begun, begun_with, chosen
from lmsi_cli.stages.pipeline import draw_paths, job_of

AUTO = SampleConfig(engine="auto")
QUESTIONS = [Question(id="a", question="Tom has 12 apples and gets 7 more. How many has he now?")]


@pytest.fixture
def model(tmp_path, monkeypatch):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(module, "SMALLEST", 1)
    monkeypatch.setattr(module, "version", lambda name: "2026.4")
    monkeypatch.setattr(module, "verdict_file", lambda model, of: tmp_path / f"verdict{of}.json")
    return file


def choose(model, watcher, settings=AUTO, paths=1000, run=None, theirs=130.0):
    """What is chosen, and the engines that were opened for it."""
    opened = []

    def open_(name):
        opened.append(name)
        if name == "openvino" and theirs is None:
            raise LmsiError("cannot")
        return nullcontext(SimpleNamespace(pace=lambda need: (None, SimpleNamespace(write=100.0))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_rate", lambda engine: theirs)
        return chosen(settings, model, paths, open_, watcher, run), opened


@pytest.mark.parametrize(
    ("theirs", "engine"), [(130.0, "openvino"), (115.0, "llama"), (None, "llama")]
)
def test_openvino_is_chosen_on_a_measured_gain_and_measured_once(model, watcher, theirs, engine):
    assert choose(model, watcher, theirs=theirs) == (engine, ["llama", "openvino"])
    assert choose(model, watcher, theirs=theirs) == (engine, [])


@pytest.mark.parametrize(
    ("settings", "paths"),
    [
        (AUTO, 499),
        (SampleConfig(engine="auto", top_p=0.9), 1000),
        (SampleConfig(engine="auto", cluster="local"), 1000),
    ],
)
def test_small_jobs_and_settings_that_openvino_lacks_are_llama_cpps(
    model, watcher, settings, paths
):
    assert choose(model, watcher, settings, paths) == ("llama", [])


def test_without_the_package_nothing_is_measured(model, watcher, monkeypatch):
    monkeypatch.setattr(module, "_installed", lambda: False)
    assert choose(model, watcher) == ("llama", [])


def test_an_engine_that_is_named_is_taken(model, watcher):
    assert choose(model, watcher, SampleConfig(engine="openvino")) == ("openvino", [])


def test_a_folder_goes_on_as_it_was_begun(model, watcher, tmp_path):
    run = RunDir(tmp_path / "run")
    run.save_settings("sample", {"engine": "openvino"})
    run.paths.write_text("")
    assert choose(model, watcher, run=run) == ("openvino", [])


@pytest.mark.model
def test_a_run_with_auto_is_bound_to_the_engine_that_drew(gguf, tmp_path, watcher):
    run = RunDir(tmp_path)
    for paths in (2, 4):
        settings = SampleConfig(model=str(gguf), engine="auto", paths=paths, threads=1)
        with locked(run):
            assert draw_paths(job_of(settings, QUESTIONS), run, watcher).new_paths == 2
    assert run.load_settings()["sample"]["engine"] == "llama"
    assert begun_with(run) == "llama"


# -- the kind of cache, which is written down and told where it changes ------------------------


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


@pytest.mark.parametrize(
    ("settled", "alone", "kept"),
    [
        ((None, {}, SPLIT, {**SPLIT, "parallel": 32}, UNIFIED), False, SHARED),
        (({}, SPLIT, SPLIT, {**SPLIT, "parallel": 4}), True, {**SPLIT, "parallel": 4}),
        (({"n_params": 7},), True, {"n_params": 7}),
    ],
    ids=["of workers the first one's", "all of a single process", "of a server other things"],
)
def test_what_is_settled_is_kept(run, settled, alone, kept):
    write_records(run.paths, [path()] if "n_params" in kept else [])
    assert call(run, *settled, alone=alone) == []
    assert run.load_settings()[ENGINE] == kept


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "spread"])
@pytest.mark.parametrize("before", [True, False], ids=["alone before", "spread before"])
def test_a_run_goes_on_as_it_was_begun_or_says_that_it_does_not(run, alone, before):
    call(run, SPLIT, alone=before)
    write_records(run.paths, [path()])
    begun = as_begun(run, SampleConfig())
    assert (begun.kv, begun.flash_attn, begun.parallel) == ("split", "on", 0)
    assert call(run, {**SPLIT, "parallel": 2}, alone=alone) == []
    (told,) = call(run, UNIFIED, alone=alone)
    assert "so far drawn with --set kv=split --set flash_attn=on, now with --set kv=unified" in told
    assert as_begun(run, SampleConfig()).kv == "unified"


def test_all_calls_of_one_engine_draw_in_the_kind_of_the_first(run):
    """Those of generated questions, and of several formats, have prompts of different lengths."""
    engine = SimpleNamespace(config=EngineConfig(), settled={**SPLIT, "fast_copy": "off"})
    engine.pin = partial(LlamaEngine.pin, engine)
    Settling(run, print).alone(engine)
    assert (engine.config.kv, engine.config.flash_attn) == ("split", "on")
    assert (engine.config.fast_copy, engine.config.parallel) == ("off", 0)
