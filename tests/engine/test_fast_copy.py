"""A faster copy of a model's file: made once, of the same model, bounded, and never forced."""

import logging
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from unittest.mock import Mock

import pytest
from gguf import GGUFReader

from lmsi_cli.config import ORIGINAL, EngineConfig
from lmsi_cli.engine import fast_copy
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.fast_copy import check_kind, copy_type, fastest, measured, quantise, readable
from lmsi_cli.engine.llama import library
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.engines import same_file


@pytest.fixture(scope="module")
def slow(gguf, tmp_path_factory):
    """The embedded model in a type that few CPUs have fast kernels for."""
    file = tmp_path_factory.mktemp("slow") / "slow.gguf"
    quantise(gguf, file, check_kind("Q5_0"))
    return file


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """An empty cache folder, and no file is too small."""
    monkeypatch.setenv("LMSI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fast_copy, "SMALLEST", 0)
    return tmp_path / "cache" / "copies"


def types(file):
    """The types of a file's matrices."""
    return {t.tensor_type.name for t in GGUFReader(file).tensors if len(t.shape) > 1}


@pytest.mark.parametrize(
    ("features", "type_"),
    [
        (b"CPU : AVX2 = 1 | F16C = 1 | REPACK = 1 | ", "F16"),
        (b"CPU : AVX2 = 1 | AVX512_VNNI = 1 | AVX512_BF16 = 1 | ", "BF16"),
        (b"CPU : AVX512_VNNI = 1 | AVX512_BF16 = 1 | AMX_INT8 = 1 | ", "Q8_0"),
        (b"CPU : NEON = 1 | DOTPROD = 1 | ", "Q8_0"),
    ],
)
def test_its_type_is_the_one_that_this_cpu_multiplies_fastest(monkeypatch, features, type_):
    monkeypatch.setattr(library(), "llama_print_system_info", lambda: features)
    assert copy_type() == type_


@pytest.mark.parametrize(("type_", "read"), [("Q8_0", "Q8_0"), ("F16", "F16"), ("BF16", "Q8_0")])
def test_the_copy_is_made_once(slow, own_cache, caplog, monkeypatch, type_, read):
    """Other programs get one in a type that they read."""
    monkeypatch.setattr(fast_copy, "copy_type", lambda: type_)
    with caplog.at_level(logging.INFO):
        copy = fastest(slow, "on")
        assert types(copy) == {type_}
        assert f"in {type_} is" in caplog.messages[-1]
        made = copy.stat().st_ino
        os.utime(slow)  # touched, not changed: judged again
        assert fastest(slow, "on") == copy
    assert copy.stat().st_ino == made
    assert sum("trying" in m for m in caplog.messages) == 2
    assert not list(own_cache.glob("*.tmp"))
    assert types(readable(slow)) == {read}


def test_two_processes_that_make_it_leave_one(slow, own_cache):
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        one, other = pool.map(readable, [slow, slow])
    assert one == other and list(own_cache.iterdir()) == [one]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DIVERGENCE", 0.0, "not used"),  # it is not the same model
        ("LARGEST", 1000, "would be too large"),
        ("quantise", Mock(side_effect=OSError("No space left on device")), "No space left"),
    ],
)
def test_a_copy_that_cannot_be_had_is_done_without(slow, monkeypatch, caplog, name, value, told):
    monkeypatch.setattr(fast_copy, name, value)
    with caplog.at_level(logging.INFO):
        assert fastest(slow, "on") == slow
    assert told in caplog.text


def test_one_that_is_no_faster_is_used_only_if_asked_for(slow, monkeypatch):
    monkeypatch.setattr(fast_copy, "FASTER", 1000.0)
    assert measured(slow) == {}
    assert fastest(slow, "auto") == slow
    assert fastest(slow, "on") != slow
    told = {name: float(figure) for name, figure in measured(slow).items()}
    assert told["fast_copy_speed"] > 0 and 0 <= told["fast_copy_divergence"] < 0.01
    assert 0.9 < told["fast_copy_agreeing"] <= 1


def test_copies_take_no_more_than_they_may(tmp_path):
    files = [tmp_path / f"{i}.gguf" for i in range(3)]
    for i, file in enumerate(files):
        file.write_bytes(bytes(100))
        os.utime(file, (i, i))
    fast_copy.sweep(tmp_path, 200)
    assert [f.exists() for f in files] == [False, True, True]


def test_an_engine_draws_from_it_and_a_run_keeps_to_it(gguf, slow, own_cache, tmp_path):
    on = EngineConfig(fast_copy="on")
    for file, config in ((slow, ORIGINAL), (gguf, on)):  # which is in F16
        with LlamaEngine(file, config) as engine:
            assert engine.file == file
    assert not list(own_cache.glob("*.gguf"))
    with LlamaEngine(slow, on) as engine:
        assert (engine.path, engine.file.parent) == (slow, own_cache)
    run = RunDir(tmp_path)
    run.save_settings("engine", {"fast_copy": "on"})
    assert same_file(run, EngineConfig()).fast_copy == "on"
    assert same_file(run, ORIGINAL).fast_copy == "off"
