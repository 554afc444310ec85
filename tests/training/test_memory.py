"""The formula against measured peaks, and a run that does not fit is refused before it starts."""

import random

import pytest
from commands import call, refused

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import memory
from lmsi_cli.training.data import MAX_ROW_TOKENS, TokenExample
from lmsi_cli.training.header import GgufMeta

MIB, GIB = 1 << 20, 1 << 30
STARTED = 421 * MIB  # what the process held before the runs that were measured


def header(blocks, width, heads, keys, inner, vocabulary):
    """The matrices of a Qwen or a Llama whose head is its embedding; ``keys`` is their width."""
    block = {
        "attn_q": (width, width), "attn_k": (keys, width), "attn_v": (keys, width),
        "attn_output": (width, width), "ffn_gate": (inner, width), "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }  # fmt: skip
    shapes = {f"blk.{i}.{name}.weight": s for i in range(blocks) for name, s in block.items()}
    shapes["token_embd.weight"] = (vocabulary, width)
    values = {"embedding_length": width}
    return GgufMeta("qwen2", blocks, heads, heads, shapes, None, values, {})


TINYMATH = header(8, 512, 8, 256, 1536, 1165)
QWEN_HALF = header(24, 896, 14, 128, 4864, 151_936)
QWEN_ONE_AND_A_HALF = header(28, 1536, 12, 256, 8960, 151_936)


def texts(count, prefix, tail):
    """Prompts and completions of random tokens; every other format begins with a common prefix."""
    rng = random.Random(0)

    def some(n):
        return [rng.randrange(5, 1000) for _ in range(n)]

    formats = ("cot-few", "direct-few", "cot-zero", "direct-zero")
    heads = {"cot-few": some(prefix), "direct-few": some(prefix), "cot-zero": [], "direct-zero": []}
    for i in range(count):
        name = formats[i % 4]
        answer = 4 if name.startswith("direct") else rng.randrange(tail // 2, tail * 3 // 2)
        yield heads[name] + some(rng.randrange(tail // 2, tail)), some(answer)


def total(units, config, dtype="bf16", meta=TINYMATH):
    return sum(memory.need(meta, units, dtype, config))


@pytest.mark.parametrize(
    ("meta", "settings", "dtype", "peak"),
    [
        (TINYMATH, {"max_steps": 20}, "bf16", 1301),
        (TINYMATH, {"max_steps": 20, "rank": 4, "row_tokens": 384}, "fp32", 824),
        (TINYMATH, {"max_steps": 10, "batch_size": 16, "recompute": True}, "bf16", 1079),
        (TINYMATH, {"max_steps": 80}, "bf16", 1560),
        (QWEN_HALF, {"max_steps": 3}, "bf16", 4483),
        (QWEN_HALF, {"max_steps": 14}, "bf16", 4662),
        (QWEN_HALF, {"max_steps": 3, "rank": 32, "recompute": True}, "bf16", 3345),
        (QWEN_HALF, {"max_steps": 3, "layers": 12, "row_tokens": 512}, "bf16", 2875),
        (QWEN_ONE_AND_A_HALF, {"max_steps": 2}, "bf16", 8413),
    ],
)
def test_the_formula_is_near_the_measured_peaks(monkeypatch, meta, settings, dtype, peak):
    """Peaks in MiB of `benchmarks/fits.py` of 27fa0f4, as docs/training.md has them."""
    monkeypatch.setattr(memory, "resident", lambda: STARTED)
    way = "on" if settings.pop("recompute", False) else "off"
    config = TrainConfig(
        **{"gradient_checkpointing": way, "row_tokens": MAX_ROW_TOKENS, **settings}
    )
    units = [TokenExample(*ids) for ids in texts(config.max_steps * config.batch_size, 350, 60)]
    assert (STARTED + total(units, config, dtype, meta)) / MIB == pytest.approx(peak, rel=0.2)


def choose(monkeypatch, watcher, gib, **settings):
    monkeypatch.setattr(memory, "resident", lambda: STARTED)
    monkeypatch.setattr(memory, "free_bytes", lambda: int(gib * GIB))
    units = [TokenExample(*ids) for ids in texts(40, 350, 60)]
    config = TrainConfig(row_tokens=MAX_ROW_TOKENS, **settings)
    return memory.recomputing(QWEN_HALF, units, "bf16", config, watcher.say)


def test_what_fits_is_told_and_left_as_it_is(monkeypatch, watcher):
    assert not choose(monkeypatch, watcher, 9)
    [line] = watcher.said
    assert line.startswith("memory: about 4.") and "(weights 1.2, adapter 0.1, " in line


def test_checkpointing_is_switched_on_where_only_that_fits(monkeypatch, watcher):
    assert choose(monkeypatch, watcher, 3)
    for gib, asked in ((3, "off"), (0.5, "auto")):
        with pytest.raises(LmsiError, match=rf"GiB more memory, and {gib:.1f} are free") as e:
            choose(monkeypatch, watcher, gib, gradient_checkpointing=asked)
        assert "--set row_tokens=512" in e.value.hint


@pytest.mark.model
@pytest.mark.usefixtures("aside_here")
def test_a_run_that_does_not_fit_ends_with_one_line_and_leaves_nothing(run, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 50 * MIB)
    done = call("train", run.root, "--force", "--device", "cpu", "--quiet")
    told = "GiB more memory, and 0.0 are free"
    refused(done, told, hint="--set gradient_checkpointing=on", notes=9)
    assert not run.adapter_origin.exists() and not list(run.adapter.glob("*"))


def test_a_control_group_is_heeded(tmp_path, monkeypatch):
    inner = tmp_path / "groups" / "a" / "b"
    inner.mkdir(parents=True)
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    for folder, limit in ((inner, "max"), (inner.parent, "3000000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("2500000\n")
        (folder / "memory.stat").write_text("anon 5\ninactive_file 400000\n")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "OWN_GROUP", own)
    assert memory.free_bytes() == 900_000
    own.write_text("4:memory:/a\n")
    assert memory.free_bytes() > 900_000


def test_idle_memory_is_given_back_after_it_has_grown(monkeypatch):
    sizes, given = [100, 110, 119, 121, 80, 90, 97, 60], []
    monkeypatch.setattr(memory, "resident", lambda: sizes.pop(0))
    monkeypatch.setattr(memory, "give_back", lambda: given.append(len(sizes)))
    trimmer = memory.Trimmer()
    for _ in range(8):
        trimmer.after_step()
    assert given == [4, 1]  # at 121, against 100; at 97, against 80
