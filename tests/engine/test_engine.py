"""The engine around the sampler: sizes, adapters, memory given back, and faults on the way."""

import ctypes
import itertools
import math
import os
import shutil
import subprocess
import sys
from functools import partial
from logging import WARNING
from pathlib import Path
from unittest.mock import Mock

import broken_models
import numpy as np
import pytest
from builders import refused

from lmsi_cli.cli.main import Terminated
from lmsi_cli.config import EngineConfig, SampleConfig, SamplingConfig
from lmsi_cli.engine import engine as module
from lmsi_cli.engine import llama, openvino
from lmsi_cli.engine.base import Request, Wanted
from lmsi_cli.engine.checks import NoMemoryError
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.stages.engines import open_file
from lmsi_cli.stages.pipeline import job_of

pytestmark = pytest.mark.model

ASKED = "Q: What is 2 + 3?\nA:"


def opened(model, **settings):
    return LlamaEngine(model, EngineConfig(threads=1, **settings))


@pytest.fixture
def engine(one_block):
    with opened(one_block) as loaded:
        yield loaded


@pytest.fixture
def model(one_block, tmp_path):
    """A copy that a test may destroy."""
    return Path(shutil.copy(one_block, tmp_path / "m.gguf"))


def draw(engine, questions=1, paths=3, **settings):
    prompt, wanted = tuple(engine.encode(ASKED)), tuple(Wanted(i, i) for i in range(paths))
    requests = [Request(f"q{i}", prompt, wanted) for i in range(questions)]
    sampling = SamplingConfig(**{"max_tokens": 8, **settings})
    return engine.generate(requests, sampling, "The answer is")


def test_an_unfinished_generation_does_not_outlive_the_model(one_block):
    """llama.cpp crashes when a context is freed after its model."""
    with opened(one_block) as engine:
        unfinished = draw(engine)
        next(unfinished)
    unfinished.close()  # frees nothing again


def test_a_cache_that_is_too_small_or_too_large_is_told_and_freed(one_block, monkeypatch):
    made = []

    class Kept(module.LlamaContext):
        def __init__(self, *shape):
            super().__init__(*shape)
            made.append(self)

    monkeypatch.setattr(module, "LlamaContext", Kept)
    with opened(one_block, ctx=256, parallel=60) as engine:
        refused(list, draw(engine, paths=60), told="... the KV cache of 256 cells is full")
        assert [context.raw for context in made] == [None]
        engine.config = EngineConfig(ctx=10**9)
        told = "... the KV cache needs ... GiB are free"
        refused(list, draw(engine), told=told, hint="--set ctx")


def test_a_long_prefix_is_held_once_and_finished_questions_do_not_hide_it(engine):
    """On a resume they have no prompt; the cache was once sized as if nothing were shared."""
    prefix = engine.encode("Q: What is 6 * 7?\nA: The answer is 42.\n\n" * 25)
    asked = [
        Request(f"q{i}", (*prefix, *engine.encode(f"Q: {i}?\nA:")), (Wanted(0, 0),)) for i in (1, 2)
    ]
    settled = []
    for finished in ([], [Request("q0", (), ())]):
        list(engine.generate([*finished, *asked], SamplingConfig(max_tokens=8), "The answer is"))
        settled.append(engine.settled)
    assert settled[0] == settled[1]
    assert settled[0]["kv"] == "unified"


def test_an_adapter_is_on_until_it_is_off(engine, tmp_path):
    adapter = str(broken_models.adapter(tmp_path / "a.gguf", 512, value=0.05))

    def logits(*given):
        engine.use_adapter(*given)
        return engine.last_logits([engine.encode(ASKED)])

    base, full, half = logits(None), logits(adapter), logits(adapter, 0.5)
    assert np.array_equal(logits(None), base)
    assert 0 < np.abs(half - base).max() < np.abs(full - base).max()


def test_openvino_without_its_package_and_on_a_cluster_is_refused(gguf, monkeypatch):
    monkeypatch.setattr(openvino, "import_module", Mock(side_effect=ImportError))
    hint = "pip install '.[openvino]' in lmsi's folder"
    refused(open_file, gguf, EngineConfig(), "openvino", told="... openvino-genai", hint=hint)
    spread = SampleConfig(model=str(gguf), engine="openvino", cluster="local")
    refused(job_of, spread, [], told="... --cluster")


# -- faults: files that change, damaged weights, interrupts, too little memory -----------------


def replaced(path):
    other = path.with_name("other.gguf")
    other.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    os.utime(other, ns=(1, 1))
    other.rename(path)


@pytest.mark.parametrize("change", [partial(os.utime, ns=(1, 1)), replaced])
def test_no_path_leaves_once_the_file_has_changed(model, change):
    with opened(model, parallel=1) as engine:
        paths = draw(engine)
        assert next(paths).path == 0
        change(model)
        told = f"{model}: the model file has changed"
        refused(next, paths, told=told, hint="put the old file back")
        refused(list, draw(engine), told=told)  # the next step does not begin


def test_a_file_that_is_gone_serves_on(model):
    with opened(model, parallel=1) as engine:
        before = [g.text for g in draw(engine)]
        model.unlink()
        assert [g.text for g in draw(engine)] == before


def test_damaged_weights_are_told_with_their_file(engine, one_block, tmp_path):
    bad = broken_models.poisoned(one_block, tmp_path / "bad.gguf", math.inf)
    with opened(bad) as other:
        refused(list, draw(other, temperature=0), told=f"{bad}: ... NaN ... 'q0'")
    adapter = broken_models.adapter(tmp_path / "a.gguf", 512, value=math.nan)
    engine.use_adapter(str(adapter))
    told = f"{one_block} with {adapter}: the model computes NaN"
    refused(list, draw(engine), told=told)
    engine.use_adapter(None)
    assert len(list(draw(engine))) == 3


def test_where_llama_cpp_kills_the_process_a_line_tells_of_the_file(one_block, tmp_path):
    twice = tmp_path / "twice.gguf"  # it asserts that no word is there twice
    twice.write_bytes(one_block.read_bytes().replace("Ġmany".encode(), "Ġeach".encode()))
    load = "import sys, lmsi_cli.engine.llama as llama; llama.LlamaModel(llama.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", load, twice], capture_output=True, text=True)
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert (done.returncode, str(twice) in error, "GGML_ASSERT" in error) == (1, True, True)
    assert "hint: " in done.stderr and "#0" not in done.stderr


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


def test_a_narrower_cache_draws_every_path_and_says_so_once(one_block, monkeypatch, caplog):
    class Scarce(module.LlamaContext):
        most = 4

        def __init__(self, model, layout, threads):
            if layout.width > self.most:
                raise NoMemoryError(f"no KV cache of {layout.cells} cells")
            super().__init__(model, layout, threads)

    monkeypatch.setattr(module, "LlamaContext", Scarce)
    with opened(one_block, parallel=16, kv="unified") as engine:
        for _ in range(2):
            assert len(list(draw(engine, questions=3, paths=8))) == 24
        Scarce.most = 0  # not even one
        with pytest.raises(NoMemoryError):
            list(draw(engine, paths=8))
    # another test may have turned on the lines of `-v`
    (told,) = (r.message for r in caplog.records if r.levelno >= WARNING)
    assert told.startswith("note: 4 paths are drawn side by side, not 16")


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([b""], ""),
        ([b"\xf0"], "\ufffd" * 299),  # the last one still waits for its character
        ([b"ab\xe2", b"\x88\x92"], "ab\u2212" * 150),
        ([b"The answer is "], "The answer is " * 300),
    ],
)
def test_a_path_that_never_stops_ends_at_the_limit(engine, monkeypatch, pieces, text):
    """Whatever the model draws writes these bytes in turn, and ends nothing."""
    turn = itertools.cycle(pieces)
    monkeypatch.setattr(engine.model, "piece", lambda _: next(turn))
    monkeypatch.setattr(engine.model, "ends", lambda _: False)
    (found,) = draw(engine, paths=1, max_tokens=300)
    assert (found.stop_reason, found.tokens, found.text) == ("length", 300, text)
    assert len(found.drawn) == 300
