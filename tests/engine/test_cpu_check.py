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
from lmsi_cli.engine.cpu_check import CpuCheck, amx, build_id, cpu_check, may_repack, repair_line
from lmsi_cli.errors import LmsiError
from lmsi_cli.stages import doctor

AMX = "flags : fpu amx_tile amx_int8\n"


@pytest.fixture
def lib(tmp_path, monkeypatch):
    """A folder that llama.cpp is loaded from, by LLAMA_CPP_LIB_PATH."""
    import llama_cpp  # noqa: F401 - loaded before, or it would look there

    monkeypatch.setenv(module.NAMED, str(tmp_path))
    (tmp_path / "libggml-cpu.so").write_bytes(b"old")
    return tmp_path


def test_a_library_that_changed_is_another_build(lib, monkeypatch):
    file = lib / "libggml-cpu.so"
    first = build_id()
    assert first == build_id()
    (lib / "libggml-cpu.so.0").write_bytes(b"old")  # the same under another name
    assert build_id() == first
    (lib / "libggml-cpu.so.0").unlink()
    file.write_bytes(b"new")  # of the same size, as a rebuilt one may be
    os.utime(file, ns=(1, 1))
    other = build_id()
    monkeypatch.delenv(module.NAMED)
    assert len({first, other, build_id()}) == 3


def test_the_cpu_counts(lib, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "CPU", tmp_path / "none")
    nothing = build_id()
    (tmp_path / "cpu").write_text(AMX)
    monkeypatch.setattr(module, "CPU", tmp_path / "cpu")
    assert build_id() != nothing
    assert amx("REPACK = 1 |") == (True, False)
    assert amx("AMX_INT8 = 1 | REPACK = 1 |") == (True, True)


@pytest.mark.parametrize("name", ["plain", "with 'quotes\" $HOME"])
def test_the_line_survives_a_shell(tmp_path, monkeypatch, name):
    monkeypatch.setattr(module, "MENDED", tmp_path / name / "amx.cmake")
    line = repair_line(["cuda"])
    assert line.endswith(f" {module.PIP}")
    shown = line.removesuffix(module.PIP) + "sh -c 'printf %s \"$CMAKE_ARGS\"'"
    args = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True).stdout
    assert shlex.split(args) == [
        "-DGGML_CUDA=on", f"-DCMAKE_PROJECT_INCLUDE={tmp_path / name / 'amx.cmake'}",
    ]  # fmt: skip


BUILT, ELSE = "AMX_INT8 = 1 | REPACK = 1", "REPACK = 1"
STATES = [  # the CPU, the build, whether repacking and anything works; what doctor tells
    ("avx2", ELSE, (True, True), "work (no AMX in this CPU)", ""),
    ("amx_int8", BUILT, (True, True), "work, with AMX", ""),
    ("amx_int8", ELSE, (True, True), "work, without AMX", repair_line()),
    ("amx_int8", BUILT, (False, True), "and so without AMX", repair_line()),
    ("avx2", ELSE, (False, True), "work without repacked weights", doctor.REBUILD),
    ("amx_int8", BUILT, (False, False), "broken", doctor.REBUILD),
]


@pytest.mark.parametrize("state", STATES)
def test_doctor_tells_the_states_apart(monkeypatch, tmp_path, state):
    """On a machine that is played."""
    flags, features, works, value, command = state
    (tmp_path / "cpu").write_text(f"flags : {flags}\n")
    note = "" if works[0] else "it died"
    found = CpuCheck(build="", extra_buffers=works[0], usable=works[1], note=note)
    monkeypatch.setattr(module, "CPU", tmp_path / "cpu")
    monkeypatch.setattr(doctor, "cpu_check", lambda: found)
    lib = SimpleNamespace(
        __file__="",
        llama_print_system_info=features.encode,
        llama_supports_gpu_offload=lambda: False,
    )
    monkeypatch.setattr(doctor, "library", lambda: lib)
    (check,) = (c for c in doctor.examine() if c.name == "quantised models")
    assert value in check.value and check.problem == note
    assert works[1] is False or check.command == command


@pytest.mark.parametrize(
    ("check", "told", "code"),
    [
        ({}, "ready; try: lmsi run", 0),
        ({"problem": "little", "advice": "close"}, "ready, but: little; close", 0),
        ({"problem": doctor.UNTRAINED, "advice": "this"}, f"type: {doctor.INSTALL}", 0),
        ({"problem": "it died", "advice": "pip this", "fatal": True}, "type: pip this", 1),
        ({"command": "x " * 200 + "end"}, "ready; faster after: " + "x " * 200 + "end", 0),
    ],
)
def test_doctor_ends_in_one_line(monkeypatch, check, told, code):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Check(name="one", value="", **check)])
    done = CliRunner().invoke(app, ["doctor"])
    assert done.stdout.splitlines()[-1].endswith(told) and done.exit_code == code


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


# -- GPU layers: possible, or refused with the line that makes them so -------------------------


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Play a build of llama.cpp: its libraries by name, and whether it finds a card."""

    def play(*kinds, card):
        monkeypatch.delenv(module.NAMED, raising=False)  # else that folder would be looked at
        (tmp_path / "lib").mkdir()
        for kind in ("base", "cpu", *kinds):
            (tmp_path / "lib" / f"libggml-{kind}.so.0.25").touch()
        file = str(tmp_path / "__init__.py")
        return SimpleNamespace(__file__=file, llama_supports_gpu_offload=lambda: card)

    return play


def test_with_a_card_layers_go_to_it(build):
    lib = build("cuda", card=True)
    assert [module.gpu_layers(n, lib) for n in ("all", 7, 0, "none")] == [-1, 7, 0, 0]
    assert module.gpu(lib) == (True, "available (cuda)", "")


@pytest.mark.parametrize("asked", ["all", 1])
@pytest.mark.parametrize(
    ("kinds", "told", "hint"),
    [(("blas", "cpu-haswell"), "not built in", "pip install"), (("vulkan",), "(vulkan)", "driver")],
)
def test_without_a_card_that_can_be_used_the_way_to_one_is_told(build, asked, kinds, told, hint):
    lib = build(*kinds, card=False)
    with pytest.raises(LmsiError) as e:
        module.gpu_layers(asked, lib)
    assert f"--gpu-layers {asked}" in str(e.value) and told in str(e.value)
    assert hint in e.value.hint and (hint == "driver") is ("pip" not in e.value.hint)
    assert module.gpu_layers("none", lib) == module.gpu_layers(0, lib) == 0


# -- the CPU: a child that dies takes nothing with it ---------------------------------------------

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
