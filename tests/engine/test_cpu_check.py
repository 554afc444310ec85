"""Which llama.cpp is here: its build, CPU and GPU, what it lacks, and its repacked weights."""

import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pytest
from builders import refused
from gguf import GGMLQuantizationType, GGUFReader
from typer.testing import CliRunner

from lmsi_cli.cli.main import app
from lmsi_cli.engine import cpu_check as module
from lmsi_cli.engine import fast_copy, llama
from lmsi_cli.engine.cpu_check import CpuCheck, build_id, cpu_check, may_repack, repair_line
from lmsi_cli.engine.fast_copy import check_kind, quantise
from lmsi_cli.stages import doctor
from lmsi_cli.training.verify import gap


@pytest.fixture
def cpu(tmp_path, monkeypatch):
    """Play a CPU of these features."""

    def play(flags):
        (tmp_path / "cpu").write_text(f"flags : {flags}\n")
        monkeypatch.setattr(module, "CPU", tmp_path / "cpu")

    return play


def test_another_library_or_cpu_is_another_build(tmp_path, monkeypatch, cpu):
    import llama_cpp  # noqa: F401 - loaded before, or it would look there

    ids, file = [build_id()], tmp_path / "libggml-cpu.so"
    file.write_bytes(b"old")
    monkeypatch.setenv(module.NAMED, str(tmp_path))
    ids.append(build_id())
    (tmp_path / "libggml-cpu.so.0").write_bytes(b"old")  # the same under another name
    assert build_id() == ids[-1]
    (tmp_path / "libggml-cpu.so.0").unlink()
    file.write_bytes(b"new")  # of the same size, as a rebuilt one may be
    os.utime(file, ns=(1, 1))
    ids.append(build_id())
    cpu("fpu amx_tile")
    ids.append(build_id())
    assert len(set(ids)) == 4


def test_the_line_that_builds_llama_cpp_survives_a_shell(tmp_path, monkeypatch):
    mended = tmp_path / "with 'quotes\" $HOME" / "amx.cmake"
    monkeypatch.setattr(module, "MENDED", mended)
    line = repair_line(["cuda"])
    assert line.endswith(f" {module.PIP}")
    shown = line.removesuffix(module.PIP) + "sh -c 'printf %s \"$CMAKE_ARGS\"'"
    args = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True).stdout
    assert shlex.split(args) == ["-DGGML_CUDA=on", f"-DCMAKE_PROJECT_INCLUDE={mended}"]


ELSE, BUILT = ("avx2", "REPACK = 1"), ("amx_int8", "AMX_INT8 = 1 | REPACK = 1")


@pytest.mark.parametrize(
    ("machine", "works", "told", "line"),  # works: repacked weights, and anything
    [
        (ELSE, (True, True), "work (no AMX in this CPU)", ""),
        (BUILT, (True, True), "work, with AMX", ""),
        (("amx_int8", "REPACK = 1"), (True, True), "work, without AMX", repair_line()),
        (BUILT, (False, True), "and so without AMX", repair_line()),
        (ELSE, (False, True), "work without repacked weights", doctor.REBUILD),
        (BUILT, (False, False), "broken", ""),
    ],
)
def test_doctor_tells_the_states_apart(monkeypatch, cpu, machine, works, told, line):
    flags, features = machine
    cpu(flags)
    found = CpuCheck(build="", extra_buffers=works[0], usable=works[1], note="it died")
    lib = SimpleNamespace(
        __file__="",
        llama_print_system_info=features.encode,
        llama_supports_gpu_offload=lambda: False,
    )
    monkeypatch.setattr(doctor, "cpu_check", lambda: found)
    monkeypatch.setattr(doctor, "library", lambda: lib)
    (check,) = (c for c in doctor.examine() if c.name == "quantised models")
    assert told in check.value and check.problem == ("" if works[0] else "it died")
    assert (check.command, check.fatal) == (line, not works[1])


@pytest.mark.parametrize(
    ("check", "told", "code"),
    [
        ({}, "ready; try: lmsi run", 0),
        ({"problem": doctor.UNTRAINED, "advice": "this"}, f"type: {doctor.INSTALL}", 0),
        ({"problem": "it died", "advice": "pip this", "fatal": True}, "type: pip this", 1),
        ({"command": "x " * 200 + "end"}, "ready; faster after: " + "x " * 200 + "end", 0),
    ],
)
def test_doctor_ends_in_one_line(monkeypatch, check, told, code):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Check(name="one", value="", **check)])
    done = CliRunner().invoke(app, ["doctor"])
    assert done.stdout.splitlines()[-1].endswith(told) and done.exit_code == code


CODE = """
#include <immintrin.h>
#include <cstdint>
struct alignas(64) Shape {
    uint8_t palette, start, none[14];
    uint16_t cols[16];
    uint8_t rows[16];
};
void configure() {
    Shape s = {};
    s.palette = 1;
    s.rows[0] = 77;
    _tile_loadconfig(&s);
}
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="needs GCC")
def test_the_header_stores_all_of_a_tile_s_shape(tmp_path):
    """Compiled as llama.cpp is: without it GCC 12 drops the stores behind the first eight bytes."""
    (tmp_path / "t.cpp").write_text(CODE)
    header = module.MENDED.with_name("amx.h")
    command = ["g++", "-O3", "-mamx-tile", "-include", str(header), "-S", "-o", "-", "t.cpp"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode and "amx" in done.stderr:
        pytest.skip("this GCC knows no AMX, or not this CPU's kind")
    assert done.returncode == 0, done.stderr
    assert "ldtilecfg" in done.stdout
    assert "77" in done.stdout  # stored at byte 48


def test_a_card_that_llama_cpp_was_built_for_is_used_or_its_driver_is_blamed(tmp_path, monkeypatch):
    """Without such a build, see the commands' bad input."""
    monkeypatch.setenv(module.NAMED, str(tmp_path))
    for kind in ("base", "cpu-haswell", "blas", "vulkan"):
        (tmp_path / f"libggml-{kind}.so.0.25").touch()
    lib = SimpleNamespace(__file__="", llama_supports_gpu_offload=lambda: True)
    assert module.gpu(lib) == (True, "available (vulkan)", "")
    assert [module.gpu_layers(n, lib) for n in ("all", 7, 0, "none")] == [-1, 7, 0, 0]
    lib.llama_supports_gpu_offload = lambda: False
    told = "--gpu-layers all: ... (vulkan), but no card"
    refused(module.gpu_layers, "all", lib, told=told, hint="driver")


# -- the CPU: a child that dies takes nothing with it ------------------------------------------

DIES_WITH_EXTRA = '#!/bin/sh\ncase "$4" in 1) kill -SEGV $$;; esac\n'
ALWAYS_DIES = "#!/bin/sh\nkill -SEGV $$\n"


def test_a_crash_is_an_error_or_with_repacked_weights_alone_told_once_and_remembered(
    tmp_path, monkeypatch, caplog
):
    child = tmp_path / "python"
    monkeypatch.setattr(module.sys, "executable", str(child))
    monkeypatch.setenv("LMSI_CACHE", str(tmp_path / "cache"))

    def play(script):
        """The child is a script; this process remembers nothing."""
        child.write_text(script)
        child.chmod(0o755)
        monkeypatch.setattr(module, "cpu_check", cache(cpu_check.__wrapped__))

    play(ALWAYS_DIES)
    refused(may_repack, told="... does not work on this machine", hint="reinstall")
    play(DIES_WITH_EXTRA)  # a repaired installation is asked again
    assert may_repack() is False
    found = module.cpu_check()
    assert "dies with signal 11" in found.note
    play(ALWAYS_DIES)  # in a new process nobody is asked again
    assert module.cpu_check() == found
    assert [r.message for r in caplog.records if "signal 11" in r.message] == [caplog.messages[0]]


# -- repacked weights ---------------------------------------------------------------------------

MIXED = ("F16", "Q4_0", "Q8_0", "Q4_K", "Q6_K")  # one matrix after the other
WIDTHS = (1, 8, 33, 64)  # one token, fewer than a tile's rows, a tile and one more, whole tiles


def logits(file, repacked, widths):
    """The logits after each of 64 tokens, by how many are read at a time; not beside PyTorch."""
    llama.may_repack = lambda: repacked
    model, found = llama.LlamaModel(file), {}
    ids = np.random.default_rng(1).integers(0, model.n_vocab, 64)
    for fast_copy.CHUNK in widths:
        parts = [part.copy() for part in fast_copy.logits_along(model, ids, 1)]
        found[fast_copy.CHUNK] = np.concatenate(parts)
    return found


@pytest.mark.model
def test_repacked_weights_compute_the_same_model(one_block, tmp_path):
    """Both sides round the activations, each in its way; the same weights as F32 numbers do not.

    Two roundings of that size that have nothing in common lie 1.41 times as far apart. A tile of
    the wrong shape, or one row of a wrong scale, is not near it.
    """
    if not cpu_check().extra_buffers:
        pytest.skip("this llama.cpp cannot repack weights on this CPU")
    model, exact = tmp_path / "m.gguf", tmp_path / "f32.gguf"
    matrices = [t.name for t in GGUFReader(one_block).tensors if len(t.shape) > 1]
    kinds = [int(GGMLQuantizationType[MIXED[i % len(MIXED)]]) for i in range(len(matrices))]
    quantise(one_block, model, check_kind("Q8_0"), dict(zip(matrices, kinds, strict=True)))
    quantise(model, exact, check_kind("F32"))
    asked = (exact, False, [64]), (model, False, WIDTHS), (model, True, WIDTHS)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        true, plain, packed = pool.map(logits, *zip(*asked, strict=True))
    assert len(plain) == len(WIDTHS)
    for width, theirs in plain.items():
        rounding = gap(theirs, true[64])
        assert 0 < rounding < 0.05
        assert gap(packed[width], true[64]) < 1.1 * rounding
        assert gap(packed[width], theirs) < 1.41 * rounding


def test_nothing_repacked_computes_beside_pytorch(monkeypatch):
    """Commands in which both have to compute are in cli/test_beside_torch.py."""
    works = CpuCheck(build="", extra_buffers=True, usable=True)
    monkeypatch.setattr(module, "cpu_check", lambda: works)
    monkeypatch.setitem(sys.modules, "torch", sys)
    assert not may_repack()
    with pytest.raises(RuntimeError, match="PyTorch was imported while"):
        module.check_repacked(repacked=True)  # a model that was open before
    monkeypatch.delitem(sys.modules, "torch")
    assert may_repack()
