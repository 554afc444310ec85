"""Faults while sampling: files that change, weights that are no numbers, too little memory."""

import math
import os
import shutil
import subprocess
import sys
from logging import WARNING
from pathlib import Path
from types import SimpleNamespace

import broken_models
import numpy as np
import pytest

from lmsi_cli.config import EngineConfig, SamplingConfig
from lmsi_cli.engine import engine as module
from lmsi_cli.engine.base import Request, Wanted
from lmsi_cli.engine.batched import BatchedSampler, Slot
from lmsi_cli.engine.cache_layout import Need, lay_out
from lmsi_cli.engine.engine import ONE, LlamaEngine
from lmsi_cli.engine.output_checks import Mark, NoMemoryError, first_nan, widest
from lmsi_cli.errors import LmsiError

TRIGGER = "The answer is"
SAMPLING = SamplingConfig(max_tokens=8)


def warnings(caplog):
    """What a user is told; another test may have turned on the lines of `-v`."""
    return [r for r in caplog.records if r.levelno >= WARNING]


@pytest.fixture(scope="module")
def one_block(gguf, tmp_path_factory):
    return broken_models.relabelled(gguf, tmp_path_factory.mktemp("models") / "one.gguf")


@pytest.fixture
def model(one_block, tmp_path):
    """A copy that a test may destroy."""
    return Path(shutil.copy(one_block, tmp_path / "m.gguf"))


def requests(engine, questions=1, paths=3):
    prompt = tuple(engine.encode("Q: What is 2 + 3?\nA:"))
    wanted = tuple(Wanted(i, i) for i in range(paths))
    return [Request(f"q{i}", prompt, wanted) for i in range(questions)]


def draw(engine, sampling=SAMPLING, **shape):
    return engine.generate(requests(engine, **shape), sampling, TRIGGER)


# -- files that change -------------------------------------------------------------------------


def touched(path):
    os.utime(path, ns=(1, 1))


def replaced(path):
    other = path.with_name("other.gguf")
    other.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    os.utime(other, ns=(1, 1))
    other.rename(path)


@pytest.mark.model
@pytest.mark.parametrize("change", [touched, replaced])
def test_no_path_leaves_once_the_file_has_changed(model, change):
    with LlamaEngine(model, EngineConfig(threads=1, parallel=1)) as engine:
        paths = draw(engine)
        assert next(paths).path == 0
        change(model)
        with pytest.raises(LmsiError, match=f"{model}: the model file has changed") as e:
            next(paths)
        assert "put the old file back" in e.value.hint
        with pytest.raises(LmsiError, match="has changed"):  # the next step does not begin
            list(draw(engine))


@pytest.mark.model
def test_a_file_that_is_gone_serves_on_and_that_is_said_once(model, caplog):
    with LlamaEngine(model, EngineConfig(threads=1, parallel=1)) as engine:
        before = [g.text for g in draw(engine)]
        model.unlink()
        assert [g.text for g in draw(engine)] == before
        assert [g.text for g in draw(engine)] == before
    assert [r.message.partition(";")[0] for r in warnings(caplog)] == [f"note: {model} is gone"]


def test_a_file_that_comes_back_as_it_was_is_the_same(tmp_path):
    file = tmp_path / "m"
    file.write_bytes(b"x")
    mark = Mark.of(file)
    file.rename(tmp_path / "away")
    mark.check()
    (tmp_path / "away").rename(file)
    mark.check()
    file.write_bytes(b"xx")
    with pytest.raises(LmsiError):
        mark.check()


# -- weights that are no numbers ---------------------------------------------------------------


def test_a_log_probability_that_is_no_number_is_found():
    assert first_nan(np.array([-1.0, 0.0])) is None
    assert [first_nan(np.array([-1.0, x])) for x in (math.nan, math.inf, -math.inf)] == [1] * 3


@pytest.mark.model
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_damaged_weights_are_told_with_the_file(one_block, tmp_path, value, temperature):
    bad = broken_models.poisoned(one_block, tmp_path / "bad.gguf", value)
    with LlamaEngine(bad, EngineConfig(threads=1)) as engine, pytest.raises(LmsiError) as e:
        list(draw(engine, SamplingConfig(temperature=temperature, max_tokens=8)))
    told = "the model computes NaN instead of logits (at question 'q0')"
    assert str(e.value) == f"{bad}: {told}"
    assert "download or convert it again" in e.value.hint


@pytest.mark.model
def test_a_damaged_adapter_is_told_with_both_files(one_block, tmp_path):
    adapter = broken_models.adapter(tmp_path / "a.gguf", 512, value=math.nan)
    with LlamaEngine(one_block, EngineConfig(threads=1)) as engine:
        engine.use_adapter(str(adapter))
        with pytest.raises(LmsiError, match=rf"one\.gguf with {adapter}: the model computes NaN"):
            list(draw(engine))
        engine.use_adapter(None)
        assert len(list(draw(engine))) == 3


# -- too little memory -------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "width"), [(32, 32), (31, 16), (5, 4), (1, 1)])
def test_the_widest_that_fits(most, width, caplog):
    def open_(n):
        if n > most:
            raise NoMemoryError(f"no room for {n}")
        return n * 10

    assert widest(32, open_) == (width * 10, width)
    told = [f"note: {width} paths are drawn side by side, not 32: no room for {2 * width}"]
    assert [r.message for r in warnings(caplog)] == (told if width < 32 else [])


def test_not_even_one_is_the_error():
    def open_(n):
        raise NoMemoryError(f"no room for {n}")

    with pytest.raises(NoMemoryError, match=r"no room for 1$"):
        widest(5, open_)


@pytest.mark.model
def test_a_narrower_cache_draws_every_path_and_says_so_once(one_block, monkeypatch, caplog):
    class Scarce(module.LlamaContext):
        def __init__(self, model, layout, threads):
            if layout.width > 4:
                raise NoMemoryError(f"no KV cache of {layout.cells} cells")
            super().__init__(model, layout, threads)

    monkeypatch.setattr(module, "LlamaContext", Scarce)
    with LlamaEngine(one_block, EngineConfig(threads=1, parallel=16, kv="unified")) as engine:
        for _ in range(2):
            assert len(list(draw(engine, questions=3, paths=8))) == 24
        assert engine._contexts == []
    assert [r.message[:44] for r in warnings(caplog)] == [
        "note: 4 paths are drawn side by side, not 16"
    ]


POOR = """
import resource, sys
from pathlib import Path
from lmsi_cli.config import EngineConfig, SamplingConfig
from lmsi_cli.engine.base import Request, Wanted
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.batched import Slot
with LlamaEngine(Path(sys.argv[1]), EngineConfig(threads=1, parallel=64, kv="unified")) as engine:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 400 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    wanted = tuple(Wanted(i, i) for i in range(64))
    asked = [Request("q", tuple(engine.encode("Q: What is 2 + 3?")), wanted)]
    # the first ends the test, not the longest: 64 times 1900 cells are asked for all the same
    first = next(engine.generate(asked, SamplingConfig(max_tokens=1900, temperature=1.0), "a"))
    print(engine._fits)
"""


@pytest.mark.model
@pytest.mark.skipif(sys.platform != "linux", reason="limits its own address space")
def test_real_scarcity_narrows_the_cache(one_block):
    done = subprocess.run(
        [sys.executable, "-c", POOR, one_block], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    fits = int(done.stdout)
    assert 1 <= fits < 64
    assert done.stderr.startswith(f"note: {fits} paths are drawn side by side, not 64: ")
    assert done.stderr.count("\n") == 1


# -- paths that never stop ---------------------------------------------------------------------


def play(monkeypatch, engine, *pieces):
    """Let whatever the model draws write these bytes in turn, and end nothing."""
    turn = iter(range(10**9))
    monkeypatch.setattr(engine.model, "piece", lambda _: pieces[next(turn) % len(pieces)])
    monkeypatch.setattr(engine.model, "ends", lambda _: False)


@pytest.mark.model
@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([b"\xff"], "\ufffd" * 300),
        ([b""], ""),
        ([b"\xf0"], "\ufffd" * 299),  # the last one still waits for its character
        ([b"\xe2", b"\x88", b"\x92"], "\u2212" * 100),
        ([b"ab\xe2", b"\x88\x92"], "ab\u2212" * 150),
        ([b"The answer is "], "The answer is " * 300),
    ],
    ids=["no UTF-8", "nothing", "half characters", "minus", "split", "no value"],
)
def test_a_path_that_never_stops_ends_at_the_limit(one_block, monkeypatch, pieces, text):
    with LlamaEngine(one_block, EngineConfig(threads=1)) as engine:
        play(monkeypatch, engine, *pieces)
        (found,) = draw(engine, SamplingConfig(max_tokens=300), paths=1)
    assert (found.stop_reason, found.tokens, found.text) == ("length", 300, text)
    assert len(found.drawn) == 300


def test_the_text_of_a_long_path_costs_the_same_per_token():
    """No look back at all that was written; a copy of the text, far below a decode, is allowed."""
    import time

    model = SimpleNamespace(ends=lambda _: False, piece=lambda _: b" The answer is\xf0")
    sampler = BatchedSampler(
        SimpleNamespace(model=model, layout=lay_out(Need(0, 1, 9, 1), ONE)),
        SamplingConfig(max_tokens=10**9),
        TRIGGER,
    )
    slot, times = Slot(Request("q", (1,), ()), 0, 0, ""), []
    for _ in range(40):
        begun = time.process_time()
        for _ in range(200):
            assert sampler._write(slot, 1, -1.0) is None
        times.append(time.process_time() - begun)
    assert min(times[-10:]) < 3 * min(times[:10])
