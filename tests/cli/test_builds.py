"""Which llama.cpp is here: a changed library has another name, and each state its own advice."""

import os
import shlex
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from lmsi_cli.engine import builds
from lmsi_cli.engine.cpu_check import CpuCheck
from lmsi_cli.stages import doctor

AMX = "flags : fpu amx_tile amx_int8\n"


@pytest.fixture
def lib(tmp_path, monkeypatch):
    """A folder that llama.cpp is loaded from, by LLAMA_CPP_LIB_PATH."""
    import llama_cpp  # noqa: F401 - loaded before, or it would look there

    monkeypatch.setenv(builds.NAMED, str(tmp_path))
    (tmp_path / "libggml-cpu.so").write_bytes(b"old")
    return tmp_path


def test_a_library_that_changed_is_another_build(lib):
    file = lib / "libggml-cpu.so"
    first = builds.build_id()
    assert first == builds.build_id()
    (lib / "libggml-cpu.so.0").write_bytes(b"old")  # the same under another name
    assert builds.build_id() == first
    (lib / "libggml-cpu.so.0").unlink()
    file.write_bytes(b"new")  # of the same size, as a rebuilt one may be
    os.utime(file, ns=(1, 1))
    assert builds.build_id() != first


def test_the_folder_that_is_named_counts(lib, monkeypatch):
    named = builds.build_id()
    monkeypatch.delenv(builds.NAMED)
    assert builds.build_id() != named
    assert builds.libraries(SimpleNamespace(__file__="/a/llama_cpp/__init__.py")).name == "lib"


def test_the_cpu_counts(lib, monkeypatch, tmp_path):
    monkeypatch.setattr(builds, "CPU", tmp_path / "none")
    nothing = builds.build_id()
    (tmp_path / "cpu").write_text(AMX)
    monkeypatch.setattr(builds, "CPU", tmp_path / "cpu")
    assert builds.build_id() != nothing
    assert builds.amx("REPACK = 1 |") == (True, False)
    assert builds.amx("AMX_INT8 = 1 | REPACK = 1 |") == (True, True)


@pytest.mark.parametrize("name", ["plain", "with a space", "with 'quotes\" $HOME"])
def test_the_line_survives_a_shell(tmp_path, monkeypatch, name):
    monkeypatch.setattr(builds, "MENDED", tmp_path / name / "amx.cmake")
    line = builds.repair_line(["cuda"])
    assert line.endswith(f" {builds.PIP}")
    shown = line.removesuffix(builds.PIP) + "sh -c 'printf %s \"$CMAKE_ARGS\"'"
    args = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True).stdout
    assert shlex.split(args) == [
        "-DGGML_CUDA=on", f"-DCMAKE_PROJECT_INCLUDE={tmp_path / name / 'amx.cmake'}",
    ]  # fmt: skip


def found(monkeypatch, tmp_path, flags, features, works, usable=True):
    """What doctor says of quantised models on a machine that is played."""
    (tmp_path / "cpu").write_text(f"flags : {flags}\n")
    told = CpuCheck(build="", extra_buffers=works, usable=usable, note="" if works else "it died")
    monkeypatch.setattr(builds, "CPU", tmp_path / "cpu")
    monkeypatch.setattr(doctor, "cpu_check", lambda: told)
    lib = SimpleNamespace(
        __file__="",
        llama_print_system_info=features.encode,
        llama_supports_gpu_offload=lambda: False,
    )
    monkeypatch.setattr(doctor, "library", lambda: lib)
    return next(c for c in doctor._llama() if c.name == "quantised models")


BUILT = "AMX_INT8 = 1 | REPACK = 1"


def test_doctor_tells_the_states_apart(monkeypatch, tmp_path):
    def told(*machine):
        check = found(monkeypatch, tmp_path, *machine)
        return check.value, check.problem, check.command

    line = builds.repair_line()
    assert told("avx2", "REPACK = 1", True) == ("work (no AMX in this CPU)", "", "")
    assert told("amx_int8", BUILT, True) == ("work, with AMX", "", "")
    value, problem, command = told("amx_int8", "REPACK = 1", True)
    assert (value.split(":")[0], problem, command) == ("work, without AMX", "", line)
    value, problem, command = told("amx_int8", BUILT, False)
    assert (value, problem, command) == (
        "work without repacked weights, and so without AMX", "it died", line,
    )  # fmt: skip
    value, problem, command = told("avx2", "REPACK = 1", False)
    assert (value, problem, command) == ("work without repacked weights", "it died", doctor.REBUILD)
    assert told("amx_int8", BUILT, False, False)[0] == "broken"


def test_the_line_is_shown_whole(monkeypatch, lmsi):
    check = doctor.Check(name="quantised models", value="", command="x " * 200 + "end")
    monkeypatch.setattr(doctor, "examine", lambda: [check])
    assert "x " * 200 + "end" in lmsi("doctor").stdout.splitlines()


@pytest.mark.skipif(not shutil.which("g++"), reason="needs GCC")
def test_the_header_stores_all_of_a_tile_s_shape(tmp_path):
    """Compiled as llama.cpp is: without it GCC 12 drops the stores behind the first eight bytes."""
    (tmp_path / "t.cpp").write_text(CODE)
    header = builds.MENDED.with_name("amx.h")
    command = ["g++", "-O3", "-mamx-tile", "-include", str(header), "-S", "-o", "-", "t.cpp"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode and "amx" in done.stderr:
        pytest.skip("this GCC knows no AMX, or not this CPU's kind")
    assert done.returncode == 0, done.stderr
    assert "ldtilecfg" in done.stdout
    assert "77" in done.stdout  # stored at byte 48


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
