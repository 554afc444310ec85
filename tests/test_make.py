"""`make install` with a Python that only notes what it is asked; and the pins that it installs."""

import os
import re
import shlex
import shutil
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")

PYTHON = """#!/bin/sh
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi
echo "$CMAKE_ARGS | $*" >> asked
"""
GCC = "g++ 12.2.0\\nCopyright (C) 2022 Free Software Foundation, Inc."
CLANG = "clang version 19.1.0"


def install(folder, flags, compiler):
    """Make in a folder; the settings and arguments of every pip call for llama.cpp."""
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    for name, text in (("python", PYTHON), ("cxx", f"#!/bin/sh\nprintf '{compiler}\\n'\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "cpu").write_text(f"processor: 0\nflags\t\t: fpu {flags}\n")
    env = {**os.environ, "CXX": "./cxx", "CMAKE_ARGS": "-DGGML_BLAS=on"}
    command = ["make", "-s", "install", "PYTHON=./python", "CPUINFO=cpu"]
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
    calls = [line.partition(" | ") for line in (folder / "asked").read_text().splitlines()]
    return [(args, what) for args, _, what in calls if "llama-cpp-python" in what]


def test_with_amx_and_gcc_alone_llama_cpp_is_built_with_our_header(tmp_path):
    elsewhere = [("avx2", GCC), ("amx_tile amx_int8", CLANG), ("amx_int8x", GCC)]
    for number, (flags, compiler) in enumerate(elsewhere):
        assert install(tmp_path / str(number), flags, compiler) == [], (flags, compiler)
    folder = tmp_path / "a b"  # a space in the name
    [(args, what)] = install(folder, "amx_tile amx_int8", GCC)
    mended = f"-DCMAKE_PROJECT_INCLUDE={folder}/lmsi_cli/engine/amx.cmake"
    assert shlex.split(args) == ["-DGGML_BLAS=on", mended]
    assert what.endswith("--no-cache-dir --no-binary llama-cpp-python llama-cpp-python")


def test_pinned_packages_install_on_the_oldest_python_that_is_promised():
    """Debian 12 has 3.11.2; a package may ask for more than the project does."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.M))
    assert len(pins) > 100
    for name, pinned in pins.items():
        with suppress(PackageNotFoundError):  # some pins are of platforms
            if version(name) == pinned:
                asked = SpecifierSet(metadata(name).get("Requires-Python") or "")
                assert asked.contains("3.11.0"), f"{name} {pinned} asks for Python {asked}"
