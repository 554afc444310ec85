"""Which llama.cpp is here: its build, its CPU and its GPU, and what to type where it lacks one."""

import os
import shlex
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from lmsi_cli.cli.main import app
from lmsi_cli.engine import cpu_check as module
from lmsi_cli.engine.cpu_check import CpuCheck, build_id, cpu_check, may_repack, repair_line
from lmsi_cli.errors import LmsiError
from lmsi_cli.stages import doctor


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


BUILT, ELSE = "AMX_INT8 = 1 | REPACK = 1", "REPACK = 1"


@pytest.mark.parametrize(
    ("flags", "features", "works", "told", "command"),  # works: repacked weights, and anything
    [
        ("avx2", ELSE, (True, True), "work (no AMX in this CPU)", ""),
        ("amx_int8", BUILT, (True, True), "work, with AMX", ""),
        ("amx_int8", ELSE, (True, True), "work, without AMX", repair_line()),
        ("amx_int8", BUILT, (False, True), "and so without AMX", repair_line()),
        ("avx2", ELSE, (False, True), "work without repacked weights", doctor.REBUILD),
        ("amx_int8", BUILT, (False, False), "broken", ""),
    ],
)
def test_doctor_tells_the_states_apart(monkeypatch, cpu, flags, features, works, told, command):
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
    assert (check.command, check.fatal) == (command, not works[1])


@pytest.mark.parametrize(
    ("check", "told", "code"),
    [
        ({}, "ready; try: lmsi run", 0),
        ({"problem": "little", "advice": "close"}, "ready, but: little; close", 0),
        ({"problem": doctor.UNTRAINED, "advice": "this"}, f"type: {doctor.INSTALL}", 0),
        ({"problem": "it died", "advice": "pip this", "fatal": True}, "type: pip this", 1),
        ({"command": "x " * 200 + "end"}, "ready; faster after: " + "x " * 200 + "end", 0),
    ],
    ids=["well", "doubt", "no training", "broken", "slow"],
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


# -- GPUs; the commands' tests hold the refusal ------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "card", "state", "advice"),
    [
        (("cuda",), True, "available (cuda)", ""),
        (("blas", "cpu-haswell"), False, "not built in", "pip install"),
        (("vulkan",), False, "built in (vulkan), but no card is found", "driver"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_told_with_the_way_to_it(
    tmp_path, monkeypatch, kinds, card, state, advice
):
    monkeypatch.delenv(module.NAMED, raising=False)  # else that folder would be looked at
    (tmp_path / "lib").mkdir()
    for kind in ("base", "cpu", *kinds):
        (tmp_path / "lib" / f"libggml-{kind}.so.0.25").touch()
    file = str(tmp_path / "__init__.py")
    lib = SimpleNamespace(__file__=file, llama_supports_gpu_offload=lambda: card)
    usable, told, hint = module.gpu(lib)
    assert (usable, told) == (card, state) and advice in hint


def test_layers_go_to_a_card_as_asked():
    lib = SimpleNamespace(__file__="", llama_supports_gpu_offload=lambda: True)
    assert [module.gpu_layers(n, lib) for n in ("all", 7, 0, "none")] == [-1, 7, 0, 0]


# -- the CPU: a child that dies takes nothing with it ------------------------------------------

DIES_WITH_EXTRA = '#!/bin/sh\ncase "$4" in 1) kill -SEGV $$;; esac\n'
ALWAYS_DIES = "#!/bin/sh\nkill -SEGV $$\n"


@pytest.fixture
def play(tmp_path, monkeypatch):
    """No remembered answer, neither on disk nor in this process; the child is a script."""
    monkeypatch.setenv("LMSI_CACHE", str(tmp_path / "cache"))

    def as_child(script):
        child = tmp_path / "python"
        child.write_text(script)
        child.chmod(0o755)
        monkeypatch.setattr(module.sys, "executable", str(child))
        cpu_check.cache_clear()

    yield as_child
    cpu_check.cache_clear()


def test_a_crash_with_repacked_weights_falls_back_says_why_once_and_is_remembered(play, caplog):
    play(DIES_WITH_EXTRA)
    assert may_repack() is False
    found = cpu_check()
    assert "dies with signal 11" in found.note
    play(ALWAYS_DIES)  # in a new process nobody is asked again
    assert cpu_check() == found
    assert [r.message for r in caplog.records if "signal 11" in r.message] == [caplog.messages[0]]


def test_a_crash_either_way_is_an_error_with_a_hint(play, tmp_path):
    play(ALWAYS_DIES)
    with pytest.raises(LmsiError, match="does not work on this machine") as e:
        may_repack()
    assert "reinstall" in e.value.hint
    assert not list((tmp_path / "cache").glob("*"))  # a repaired installation is asked again
