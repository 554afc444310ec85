"""Does llama.cpp survive a quantised model on this CPU? Asked in a child process, once per build.

On CPUs with AMX, llama.cpp built by some compilers dies with a segmentation fault at the first
decode of a quantised model: what GCC gets wrong stands in ``amx.h``. A child can die for us. Knows
nothing of the user's model: it writes a tiny random one. The answer is kept in the cache folder as
one JSON object:

    {"extra_buffers": true, "usable": true, "build": "0.3.36-1a2b3c", "note": ""}
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import msgspec

from lmsi_cli.engine.builds import build_id
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record

LOG = logging.getLogger(__name__)
GOES_ON = "lmsi goes on without them, slower; `lmsi doctor` tells what mends it"
TIMEOUT = 120  # seconds; a healthy child needs about one
WIDTH, HEADS, TOKENS = 256, 4, 64  # of the tiny model: the smallest that fills an AMX tile


class Probe(Record, frozen=True, kw_only=True):
    """What the children told us."""

    build: str
    extra_buffers: bool
    usable: bool
    note: str = ""


def cache_folder() -> Path:
    """Where lmsi remembers facts about this machine; ``LMSI_CACHE`` moves it."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("LMSI_CACHE") or Path(home) / "lmsi")


@cache
def probe() -> Probe:
    """The remembered answer for this build, or a fresh one."""
    file = cache_folder() / f"probe-{build_id()}.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Probe)
    except (OSError, msgspec.ValidationError, msgspec.DecodeError):
        result = _ask()
    if result.usable:  # a broken installation may be repaired; do not hold it against the build
        _remember(file, result)
    return result


def extra_buffers_work() -> bool:
    """Whether llama.cpp may repack weights for this CPU's special units.

    Raises:
        LmsiError: llama.cpp dies on a quantised model either way.
    """
    found = probe()
    if not found.usable:
        raise LmsiError(
            f"llama.cpp does not work on this machine: {found.note}",
            hint="reinstall llama-cpp-python; `lmsi doctor` shows the line",
        )
    return found.extra_buffers


def _ask() -> Probe:
    fast = _child_survives(extra_buffers=True)
    if fast == "":
        return Probe(build=build_id(), extra_buffers=True, usable=True)
    slow = _child_survives(extra_buffers=False)
    note = f"with repacked weights llama.cpp {fast}"
    if slow == "":
        # said here, when it is found out, and so only once; `lmsi doctor` repeats it
        LOG.warning("note: %s on this CPU; %s", note, GOES_ON)
        return Probe(build=build_id(), extra_buffers=False, usable=True, note=note)
    return Probe(
        build=build_id(), extra_buffers=False, usable=False, note=f"{note}; without, it {slow}"
    )


def _remember(file: Path, result: Probe) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_bytes(msgspec.json.encode(result))
        fresh.replace(file)
    except OSError:
        return  # a read-only home costs a second at every start, nothing else


def _child_survives(extra_buffers: bool) -> str:
    """Run the child; an empty string, or what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "probe.gguf"
        write_tiny_model(model)
        command = [
            sys.executable,
            "-m",
            "lmsi_cli.engine.probe",
            str(model),
            str(int(extra_buffers)),
        ]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return f"hangs for more than {TIMEOUT} s"
    if done.returncode == 0:
        return ""
    return (
        f"dies with signal {-done.returncode}"
        if done.returncode < 0
        else (f"fails: {done.stderr.decode(errors='replace').strip()[-200:]}")
    )


def write_tiny_model(path: Path) -> None:
    """Write a one-layer Llama with random weights in Q8_0 and Q4_0, the types AMX code takes."""
    import gguf
    import numpy as np

    rng = np.random.default_rng(0)
    w = gguf.GGUFWriter(path, "llama")
    _tiny_metadata(w)
    kinds = gguf.GGMLQuantizationType
    shapes = {
        "token_embd": (TOKENS, WIDTH),
        "blk.0.attn_q": (WIDTH, WIDTH),
        "output": (TOKENS, WIDTH),
    }
    shapes |= {f"blk.0.{n}": (WIDTH, WIDTH) for n in ("attn_k", "attn_v", "attn_output")}
    shapes |= {f"blk.0.{n}": (WIDTH, WIDTH) for n in ("ffn_gate", "ffn_up", "ffn_down")}
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


def _tiny_metadata(w) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    w.add_context_length(64)
    w.add_embedding_length(WIDTH)
    w.add_block_count(1)
    w.add_feed_forward_length(WIDTH)
    w.add_head_count(HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(WIDTH // HEADS)
    w.add_vocab_size(TOKENS)
    w.add_tokenizer_model("no_vocab")


def _decode_once(path: str, extra_buffers: bool) -> int:
    """The child's work: load, decode 32 tokens at once and one alone."""
    import numpy as np

    from lmsi_cli.engine import llama
    from lmsi_cli.engine.context import Batch

    lib = llama.library()
    params = lib.llama_model_default_params()
    params.use_extra_bufts = extra_buffers
    model = lib.llama_model_load_from_file(path.encode(), params)
    if not model:
        sys.exit(f"cannot load the probe: {llama.last_complaint()}")
    context_params = lib.llama_context_default_params()
    context_params.n_ctx, context_params.n_threads = 64, 2
    context = lib.llama_init_from_model(model, context_params)
    batch = Batch(64)
    for size, at in ((32, 0), (1, 32)):
        batch.clear()
        ids = np.arange(size, dtype=np.int32)
        batch.add(ids, ids + at, 0, 1)
        if lib.llama_decode(context, batch.raw(lib)) != 0:
            sys.exit("the probe's decode failed")
    return 0


if __name__ == "__main__":
    sys.exit(_decode_once(sys.argv[1], sys.argv[2] == "1"))
