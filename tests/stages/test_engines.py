"""The engine that is chosen, the kind of cache that is settled, and how a folder goes on."""

import itertools
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
def choose(tmp_path, monkeypatch, watcher):
    """What is chosen, and the engines that were opened for it; llama.cpp writes 100 tokens/s."""
    model, seconds = tmp_path / "model.gguf", itertools.count()
    model.write_bytes(b"GGUF")
    monkeypatch.setattr(module, "SMALLEST", 1)
    monkeypatch.setattr(module, "version", lambda name: "2026.4")
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    monkeypatch.setattr(module, "verdict_file", lambda model, of: tmp_path / f"verdict{of}.json")
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))

    def call(settings=AUTO, paths=1000, run=None, theirs=130):
        opened = []

        def open_(name):
            opened.append(name)
            if name == "openvino" and theirs is None:
                raise LmsiError("cannot")
            path = SimpleNamespace(tokens=theirs if name == "openvino" else 100)
            engine = SimpleNamespace(encode=lambda text: [1], generate=lambda *given: [path])
            return nullcontext(engine)

        return chosen(settings, model, paths, open_, watcher, run), opened

    return call


BOTH = ["llama", "openvino"]


@pytest.mark.parametrize(
    ("settings", "paths", "theirs", "engine", "measured"),
    [
        (AUTO, 500, 130, "openvino", BOTH),
        (AUTO, 500, 115, "llama", BOTH),
        (AUTO, 500, None, "llama", BOTH),
        (AUTO, 499, 130, "llama", []),
        (SampleConfig(engine="auto", top_p=0.9), 500, 130, "llama", []),
        (SampleConfig(engine="auto", cluster="local"), 500, 130, "llama", []),
        (SampleConfig(engine="openvino"), 499, 130, "openvino", []),
    ],
    ids=["faster", "hardly", "fails", "small job", "not in OpenVINO", "cluster", "named"],
)
def test_openvino_is_chosen_if_measured_faster(choose, settings, paths, theirs, engine, measured):
    assert choose(settings, paths, theirs=theirs) == (engine, measured)
    assert choose(settings, paths, theirs=theirs) == (engine, [])


def test_without_the_package_or_in_a_begun_folder_nothing_is_measured(choose, run, monkeypatch):
    run.save_settings("sample", {"engine": "openvino"})
    run.paths.write_text("")
    assert choose(run=run) == ("openvino", [])
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert choose() == ("llama", [])


@pytest.mark.model
def test_a_run_with_auto_is_bound_to_the_engine_that_drew(gguf, run, watcher):
    for paths in (2, 4):
        settings = SampleConfig(model=str(gguf), engine="auto", paths=paths, threads=1)
        with locked(run):
            assert draw_paths(job_of(settings, QUESTIONS), run, watcher).new_paths == 2
    assert run.load_settings()["sample"]["engine"] == begun_with(run) == "llama"


# -- the kind of cache, which is written down and told where it changes ------------------------


SPLIT = {"parallel": 8, "kv": "split", "flash_attn": "on", "cells": 512}
UNIFIED = {"parallel": 32, "kv": "unified", "flash_attn": "off", "cells": 1024}


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "run")
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


def test_what_is_settled_is_kept_and_holds_for_all_calls_of_an_engine(run):
    call(run, None, {}, SPLIT, {**SPLIT, "parallel": 32}, UNIFIED)  # by workers: the first one's
    assert run.load_settings()[ENGINE] == {"kv": "split", "flash_attn": "on"}
    call(run, {}, SPLIT, SPLIT, {**SPLIT, "parallel": 4}, alone=True)
    assert run.load_settings()[ENGINE] == {**SPLIT, "parallel": 4}
    # all calls of one engine, whose prompts may differ in length, draw in the kind of the first
    engine = SimpleNamespace(config=EngineConfig(), settled={**SPLIT, "fast_copy": "off"})
    engine.pin = partial(LlamaEngine.pin, engine)
    Settling(run, print).alone(engine)
    assert (engine.config.kv, engine.config.flash_attn) == ("split", "on")
    assert (engine.config.fast_copy, engine.config.parallel) == ("off", 0)


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
