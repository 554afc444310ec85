"""Which llama.cpp this is, what hardware it can use here, and whether it survives a decode.

Looks at files and flags, and runs child processes; loads no model itself. Its findings:

    build_id() == "0.3.36-1a2b3c4d5e"
    amx(features) == (True, True)
    gpu(llama_cpp) == (False, "not built in", "with an NVIDIA card: ...")

On CPUs with AMX, llama.cpp built by some compilers dies with a segmentation fault at the first
decode of a quantised model; ``amx.h`` says what GCC gets wrong. So a child process (this file run
as a program) first decodes a tiny random model, once per build. The result is kept in the cache
folder:

    {"extra_buffers": true, "usable": true, "build": "0.3.36-1a2b3c", "note": ""}

On a CPU with AMX, repacked weights are multiplied in its tiles. llama.cpp configures the tiles once
per thread; PyTorch (oneDNN) clears that on threads that both use, and the next product kills the
process with SIGILL. So no process computes with repacked weights beside PyTorch: training runs in
its own (``aside``), and where both must share one for a few tokens, as in the proof of an adapter,
llama.cpp does not repack. The rule is the same on every CPU, so that every machine tests it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lmsi_cli.atomic import cache_folder
from lmsi_cli.config import Layers
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import UNREADABLE, Record

LOG = logging.getLogger(__name__)
CPU = Path("/proc/cpuinfo")
NAMED = "LLAMA_CPP_LIB_PATH"  # llama-cpp-python loads its libraries from there, if it is set
MENDED = Path(__file__).with_name("amx.cmake")
PIP = (
    "pip install --force-reinstall --no-deps --no-binary llama-cpp-python --no-cache-dir "
    "llama-cpp-python"
)
REBUILD = (
    'with {card}: CMAKE_ARGS="-DGGML_{kind}=on" pip install llama-cpp-python '
    "--no-binary llama-cpp-python --force-reinstall --no-cache-dir"
)
CARDS = {"CUDA": "an NVIDIA card", "VULKAN": "another card"}
PLAIN = {"base", "cpu", "blas", "rpc"}  # parts of ggml that use no card of this machine
ALL = -1  # layers; llama.cpp's own word for it
WIDTH, HEADS, TOKENS = 256, 4, 64  # of the child's model: the smallest that fills an AMX tile
R = TypeVar("R")
TIMEOUT = 120  # seconds; a healthy child needs about one


# -- the build ------------------------------------------------------------------------------------


def libraries(package: Any) -> Path:  # noqa: ANN401 - an untyped module
    """The folder that ``llama_cpp`` loads llama.cpp from."""
    named = os.environ.get(NAMED)
    return Path(named) if named else Path(str(package.__file__)).parent / "lib"


def build_id() -> str:
    """Name this llama.cpp on this CPU: version, bytes of its CPU libraries, and the CPU's flags."""
    import llama_cpp

    files = sorted(libraries(llama_cpp).glob("*ggml-cpu*"))
    marks = sorted({_hash(f, (s := f.stat()).st_size, s.st_mtime_ns) for f in files})
    digest = hashlib.sha256("".join([*marks, *sorted(cpu_flags())]).encode()).hexdigest()[:10]
    return f"{llama_cpp.__version__}-{digest}"


@cache
def _hash(file: Path, size: int, changed: int) -> str:
    """Hash a file's bytes; it is read again if its size or time of change differ."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def cpu_flags() -> frozenset[str]:
    """The CPU's features by Linux's names; empty where they cannot be read."""
    try:
        lines = CPU.read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def amx(features: str) -> tuple[bool, bool]:
    """Whether this CPU has AMX's tiles, and whether this llama.cpp was built to use them.

    ``features`` is what ``llama_print_system_info`` says.
    """
    built = "AMX_INT8 = 1" in features
    return "amx_int8" in cpu_flags() or built, built


def repair_line(kinds: Sequence[str] = ()) -> str:
    """The line that builds llama.cpp here, for these cards too, with the fix for GCC's AMX code."""
    cards = [f"-DGGML_{kind.upper()}=on" for kind in kinds]
    arguments = shlex.join([*cards, f"-DCMAKE_PROJECT_INCLUDE={MENDED}"])
    return f"CMAKE_ARGS={shlex.quote(arguments)} {PIP}"


def gpu_layers(asked: Layers, package: Any) -> int:  # noqa: ANN401 - an untyped module
    """The number of layers that llama.cpp takes: 0 for none, -1 for all.

    llama.cpp itself takes any number and, built without GPU code, silently computes all layers on
    the CPU; here that is an LmsiError with the line that rebuilds it.
    """
    if asked in ("none", 0):
        return 0
    usable, state, advice = gpu(package)
    if not usable:
        raise LmsiError(
            f"--gpu-layers {asked}: GPU offload is {state}",
            hint=f"leave --gpu-layers out, or {advice}",
        )
    return ALL if asked == "all" else int(asked)


def gpu(package: Any) -> tuple[bool, str, str]:  # noqa: ANN401 - an untyped module
    """Whether layers can go to a GPU, the state in words, and what to do if they cannot."""
    kinds = ", ".join(backends(package))
    if package.llama_supports_gpu_offload():
        return True, f"available ({kinds})" if kinds else "available", ""
    if kinds:
        return False, f"built in ({kinds}), but no card is found", "check the card's driver"
    cards = {"METAL": "an Apple chip"} if sys.platform == "darwin" else CARDS
    lines = (REBUILD.format(card=card, kind=kind) for kind, card in cards.items())
    return False, "not built in", "; ".join(lines)


def backends(package: Any) -> list[str]:  # noqa: ANN401 - an untyped module
    """Kinds of cards that this llama.cpp was built for, such as ``["cuda"]``."""
    files = libraries(package).glob("*ggml-*")
    names = {f.name.partition("ggml-")[2].partition(".")[0] for f in files}
    return sorted(n for n in names if n and n.partition("-")[0] not in PLAIN)


# -- the check, and what is remembered of this machine --------------------------------------------


class CpuCheck(Record, frozen=True, kw_only=True):
    """What the child processes showed: whether a quantised model works, and with repacking."""

    build: str
    extra_buffers: bool
    usable: bool
    note: str = ""


def remember(file: Path, record: object) -> None:
    """Keep a record in the cache folder; if that fails, it is only worked out again later."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_bytes(msgspec.json.encode(record))
        fresh.replace(file)
    except OSError as e:
        LOG.info("%s: not kept: %s", file, e)


def recall(file: Path, kind: type[R]) -> R | None:
    """Read a kept record; None if there is none that can be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (OSError, *UNREADABLE):
        return None


@cache
def cpu_check() -> CpuCheck:
    """The remembered answer for this build, or a fresh one."""
    build = build_id()
    file = cache_folder() / f"probe-{build}.json"
    if known := recall(file, CpuCheck):
        return known
    fast = _child_fails(extra_buffers=True)
    slow = _child_fails(extra_buffers=False) if fast else ""
    note = f"with repacked weights llama.cpp {fast}" if fast else ""
    if slow:
        note = f"{note}; without, it {slow}"
    elif fast:
        goes_on = "lmsi goes on without them, slower; `lmsi doctor` tells what mends it"
        LOG.warning("note: %s on this CPU; %s", note, goes_on)  # here, so that it is said once
    result = CpuCheck(build=build, extra_buffers=not fast, usable=not slow, note=note)
    if result.usable:  # a broken installation may be repaired; do not hold it against the build
        remember(file, result)
    return result


def may_repack() -> bool:
    """Whether a model that is loaded now may have its weights repacked.

    LmsiError: llama.cpp dies on a quantised model either way.
    """
    found = cpu_check()
    if not found.usable:
        raise LmsiError(
            f"llama.cpp does not work on this machine: {found.note}",
            hint="reinstall llama-cpp-python; `lmsi doctor` shows the line",
        )
    # OpenVINO configures the tiles as PyTorch does, with the same library
    return found.extra_buffers and not {"torch", "openvino"} & sys.modules.keys()


def torch_is_here() -> bool:
    """Whether PyTorch has been imported; whether it has computed cannot be found out."""
    return "torch" in sys.modules


def check_repacked(repacked: bool) -> None:
    """Refuse to go on with repacked weights beside PyTorch; called before every decode.

    RuntimeError: PyTorch was imported while a model was open, a bug in the program.
    """
    if repacked and torch_is_here():
        raise RuntimeError(
            "PyTorch was imported while a model with repacked weights was open: close the model "
            "first, or let PyTorch work in another process (lmsi_cli.aside)"
        )


def _child_fails(extra_buffers: bool) -> str:
    """Run the child; returns how it failed, in words, or an empty string if all is well."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", __name__, folder, str(int(extra_buffers))]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return f"hangs for more than {TIMEOUT} s"
    if done.returncode < 0:
        return f"dies with signal {-done.returncode}"
    if done.returncode:
        return f"fails: {done.stderr.decode(errors='replace').strip()[-200:]}"
    return ""


# -- the child ------------------------------------------------------------------------------------


def write_tiny_model(path: Path) -> None:
    """Write a one-layer Llama with random weights in Q8_0 and Q4_0, the types AMX code takes."""
    import gguf
    import numpy as np

    rng, kinds = np.random.default_rng(0), gguf.GGMLQuantizationType
    w: Any = gguf.GGUFWriter(path, "llama")
    w.add_context_length(TOKENS)
    w.add_embedding_length(WIDTH)
    w.add_block_count(1)
    w.add_feed_forward_length(WIDTH)
    w.add_head_count(HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(WIDTH // HEADS)
    w.add_vocab_size(TOKENS)
    w.add_tokenizer_model("no_vocab")
    blocks = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {"token_embd": (TOKENS, WIDTH), "output": (TOKENS, WIDTH)}
    shapes |= {f"blk.0.{name}": (WIDTH, WIDTH) for name in blocks}
    for name, shape in shapes.items():
        kind = kinds.Q4_0 if "ffn" in name else kinds.Q8_0
        values = rng.normal(0, 0.02, shape).astype(np.float32)
        w.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        w.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def decode(path: Path, extra_buffers: bool) -> None:
    """Load a model and decode 32 tokens at once and one alone; exits with a message on failure."""
    import llama_cpp as lib

    params = lib.llama_model_default_params()
    params.use_extra_bufts = extra_buffers
    model = lib.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        sys.exit("cannot load the probe")
    context_params = lib.llama_context_default_params()
    context_params.n_ctx, context_params.n_threads = TOKENS, 2
    context = lib.llama_init_from_model(model, context_params)
    for size in (32, 1):
        ids = (lib.llama_token * size)(*range(size))
        if lib.llama_decode(context, lib.llama_batch_get_one(ids, size)) != 0:
            sys.exit("the probe's decode failed")


if __name__ == "__main__":
    tiny = Path(sys.argv[1]) / "probe.gguf"
    write_tiny_model(tiny)
    decode(tiny, extra_buffers=sys.argv[2] == "1")
