"""Faults while sampling: files that change, weights that are no numbers, too little memory."""

import itertools
import math
import os
import shutil
import subprocess
import sys
from functools import partial
from logging import WARNING
from pathlib import Path

import broken_models
import pytest

from lmsi_cli.config import EngineConfig, SamplingConfig
from lmsi_cli.engine import engine as module
from lmsi_cli.engine.base import Request, Wanted
from lmsi_cli.engine.checks import NoMemoryError
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.errors import LmsiError

pytestmark = pytest.mark.model


def opened(model, **settings):
    return LlamaEngine(model, EngineConfig(threads=1, **settings))


def draw(engine, questions=1, paths=3, **settings):
    prompt = tuple(engine.encode("Q: What is 2 + 3?\nA:"))
    wanted = tuple(Wanted(i, i) for i in range(paths))
    requests = [Request(f"q{i}", prompt, wanted) for i in range(questions)]
    return engine.generate(requests, SamplingConfig(**{"max_tokens": 8, **settings}), "The answer is")


# -- files that change, weights that are no numbers --------------------------------------------


@pytest.fixture
def model(one_block, tmp_path):
    """A copy that a test may destroy."""
    return Path(shutil.copy(one_block, tmp_path / "m.gguf"))


def replaced(path):
    other = path.with_name("other.gguf")
    other.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    os.utime(other, ns=(1, 1))
    other.rename(path)


@pytest.mark.parametrize(
    "change", [partial(os.utime, ns=(1, 1)), replaced], ids=["touched", "renamed"]
)
def test_no_path_leaves_once_the_file_has_changed(model, change):
    with opened(model, parallel=1) as engine:
        paths = draw(engine)
        assert next(paths).path == 0
        change(model)
        with pytest.raises(LmsiError, match=f"{model}: the model file has changed") as e:
            next(paths)
        assert "put the old file back" in e.value.hint
        with pytest.raises(LmsiError, match="has changed"):  # the next step does not begin
            list(draw(engine))


def test_a_file_that_is_gone_serves_on(model):
    with opened(model, parallel=1) as engine:
        before = [g.text for g in draw(engine)]
        model.unlink()
        assert [g.text for g in draw(engine)] == before


def test_infinite_weights_are_told_with_the_file(one_block, tmp_path):
    bad = broken_models.poisoned(one_block, tmp_path / "bad.gguf", math.inf)
    with opened(bad) as engine, pytest.raises(LmsiError) as e:
        list(draw(engine, temperature=0))
    assert all(word in str(e.value) for word in (str(bad), "NaN", "'q0'"))
    assert "\n" not in str(e.value) and e.value.hint


def test_a_damaged_adapter_is_told_with_both_files(one_block, tmp_path):
    adapter = broken_models.adapter(tmp_path / "a.gguf", 512, value=math.nan)
    with opened(one_block) as engine:
        engine.use_adapter(str(adapter))
        with pytest.raises(LmsiError, match=rf"one\.gguf with {adapter}: the model computes NaN"):
            list(draw(engine))
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


# -- too little memory, and paths that never stop ----------------------------------------------


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
        ([b"\xff"], "\ufffd" * 300),
        ([b""], ""),
        ([b"\xf0"], "\ufffd" * 299),  # the last one still waits for its character
        ([b"ab\xe2", b"\x88\x92"], "ab\u2212" * 150),
        ([b"The answer is "], "The answer is " * 300),
    ],
    ids=["no UTF-8", "nothing", "half characters", "split", "no value"],
)
def test_a_path_that_never_stops_ends_at_the_limit(one_block, monkeypatch, pieces, text):
    """Whatever the model draws writes these bytes in turn, and ends nothing."""
    with opened(one_block) as engine:
        turn = itertools.cycle(pieces)
        monkeypatch.setattr(engine.model, "piece", lambda _: next(turn))
        monkeypatch.setattr(engine.model, "ends", lambda _: False)
        (found,) = draw(engine, paths=1, max_tokens=300)
    assert (found.stop_reason, found.tokens, found.text) == ("length", 300, text)
    assert len(found.drawn) == 300
