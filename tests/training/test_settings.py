"""What a training setting does, which device is taken, and whether a run fits into its memory."""

import math
from contextlib import nullcontext

import commands
import pytest
from builders import refused
from hf_to_gguf import build, write
from toys import job

from lmsi_cli.config import SPEED_ONLY, TrainConfig
from lmsi_cli.settings import resolve
from lmsi_cli.training import adapter, attention, data, devices, losses, memory, trainer
from lmsi_cli.training.data import MAX_ROW_TOKENS, TokenExample
from lmsi_cli.training.header import GgufMeta, read_meta
from lmsi_cli.training.loop import learning_rate
from lmsi_cli.training.trainer import rows_of, suited


@pytest.mark.parametrize(
    ("name", "value"),
    [*(("lr", x) for x in (0, math.nan, math.inf)), ("alpha", -1.0), ("device", "tpu"),
     *(("layers", x) for x in ("last:2", 0, "0"))],
)  # fmt: skip
def test_values_out_of_range_are_refused(name, value):
    refused(resolve, TrainConfig, {name: value}, told=f"... {name}: expected")


def test_rate_and_rows_are_chosen_by_size_where_none_are_given(gguf, monkeypatch):
    meta = read_meta(gguf)
    assert suited(TrainConfig(), meta).lr == trainer.SMALL_LR
    monkeypatch.setattr(trainer, "LARGE", meta.parameters)
    assert suited(TrainConfig(), meta).lr == trainer.LARGE_LR < trainer.SMALL_LR
    assert suited(TrainConfig(loss="scpo"), meta).lr == trainer.PAIRS_LR < trainer.LARGE_LR
    pairs = trainer.FEW_PAIRS
    assert [suited(TrainConfig(), meta, n).loss for n in (pairs, pairs - 1)] == ["scpo", "sft"]
    assert suited(TrainConfig(loss="sft"), meta, pairs).loss == "sft"
    given = TrainConfig(loss="sft", lr=0.5)
    assert suited(given, meta) == given
    few, many = trainer.LARGE_ROWS, MAX_ROW_TOKENS
    assert (rows_of(given, meta, "cpu"), rows_of(given, meta, "cuda")) == (few, many)
    monkeypatch.setattr(trainer, "LARGE", meta.parameters + 1)
    assert rows_of(given, meta, "cpu") == many
    assert suited(TrainConfig(), meta, pairs).loss == "sft"
    assert rows_of(TrainConfig(row_tokens=9), meta, "cpu") == 9


def test_layers_are_counted_from_the_last_and_more_than_there_is_is_refused(tmp_path):
    gguf = write(tmp_path / "x.gguf", "llama", build("llama"))

    def matrices(**config):
        return adapter.preflight(gguf, TrainConfig(**config))

    last = [f"blk.1.attn_{x}.weight" for x in ("k", "output", "q", "v")]
    assert matrices(target="attn", layers=1) == last
    assert len(matrices(rank=32)) == len(matrices(layers=2)) == 14
    assert len(matrices(target="mlp", rank=33)) == 6
    for config, told, hint in (
        ({"rank": 33}, "... --rank 33 ... k_proj' (32 x 64)", "8 to 64"),
        ({"layers": 3}, "... --layers 3: this model has 2 layers", "up to 2"),
        ({"target": "nose"}, "... 'nose' names no layer", "all, attn, mlp or some of"),
    ):
        refused(matrices, **config, told=told, hint=hint)


def test_a_rate_rises_and_falls_by_its_schedule():
    def rates(schedule):
        config = TrainConfig(lr=1.0, warmup=0.2, schedule=schedule)
        return pytest.approx([learning_rate(step, 5, config) for step in range(5)], abs=1e-3)

    assert rates("linear") == [1, 1, 0.75, 0.5, 0.25]
    assert rates("cosine") == [1, 1, 0.854, 0.5, 0.146]
    assert rates("constant") == [1] * 5


def test_a_run_goes_on_with_other_rows_and_on_another_device(examples, tmp_path):
    name = job(examples, tmp_path).header.fingerprint
    other = {"checkpoint_every": 5, "row_tokens": 99, "device": "cuda"}
    assert set(other) <= set(SPEED_ONLY)
    assert job(examples, tmp_path, **other).header.fingerprint == name
    assert job(examples, tmp_path, schedule="linear").header.fingerprint != name


# -- devices: there is no GPU here, so torch is asked by fakes -------------------------------------


def test_a_gpu_and_bf16_are_taken_where_they_are_and_a_name_or_refused(monkeypatch):
    import torch

    def machine(cuda=0, mps=False, capability=(8, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    machine(cuda=1, mps=True)
    assert [devices.pick(x) for x in ("auto", "cpu", "mps")] == ["cuda:0", "cpu", "mps"]
    assert [devices.pick_dtype(x, "cuda:0") for x in ("auto", "fp32")] == ["bf16", "fp32"]
    assert [devices.pick_dtype(x, "mps") for x in ("auto", "bf16")] == ["fp32", "bf16"]
    machine(cuda=1, capability=(7, 5))  # it emulates bf16
    assert devices.pick_dtype("auto", "cuda:0") == "fp32"
    machine(mps=True)
    assert devices.pick("auto") == "mps"
    machine()
    assert devices.pick("auto") == "cpu"
    for wanted in ("cuda", "mps"):
        refused(devices.pick, wanted, told=f"--device {wanted}: torch finds no such device here")


def test_all_tensors_of_a_row_follow_the_model(tiny, examples, monkeypatch):
    import torch

    made, plain = [], torch.tensor

    def spy(*args, **settings):
        made.append(plain(*args, **settings))
        return made[-1]

    model, row = tiny().to("meta"), data.pack(examples)[0]
    attention.install(model)
    monkeypatch.setattr(torch, "tensor", spy)
    # torch has no autocast for "meta", neither ours nor that of the attention written by hand
    monkeypatch.setattr(devices, "autocast", lambda *_: nullcontext())
    monkeypatch.setattr(attention, "SMALL", 0)
    found = losses.token_losses(model, row, "fp32")
    assert (found.device.type, found.shape) == ("meta", (len(row.labels),))
    assert len(made) >= 4 and {t.device.type for t in made} == {"meta"}


@pytest.mark.parametrize(
    ("native", "gain", "dtype"),
    [(True, 1.31, "bf16"), (True, 1.29, "fp32"), (False, 4.0, "fp32")],
)
def test_a_processor_must_have_bf16_and_win_by_a_margin(monkeypatch, native, gain, dtype):
    assert devices.bf16_gain(64, 64) > 0
    monkeypatch.setattr(devices, "native_bf16", lambda: native)
    monkeypatch.setattr(devices, "bf16_gain", lambda out, into: gain)
    assert devices.pick_dtype("auto", "cpu", (64, 64)) == dtype


# -- memory: the formula against measured peaks ----------------------------------------------------


MIB, GIB = 1 << 20, 1 << 30
STARTED = 421 * MIB  # what the process held before the runs that were measured


def header(blocks, width, heads, keys, inner, vocabulary):
    """The matrices of a Qwen or a Llama with a head of its own; ``keys`` is their width."""
    block = {
        "attn_q": (width, width), "attn_k": (keys, width), "attn_v": (keys, width),
        "attn_output": (width, width), "ffn_gate": (inner, width), "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }  # fmt: skip
    shapes = {f"blk.{i}.{name}.weight": s for i in range(blocks) for name, s in block.items()}
    shapes |= dict.fromkeys(("token_embd.weight", "output.weight"), (vocabulary, width))
    values = {"embedding_length": width}
    return GgufMeta("qwen2", blocks, heads, heads, shapes, None, values, {})


TINYMATH = header(8, 512, 8, 256, 1536, 1165)
QWEN_HALF = header(24, 896, 14, 128, 4864, 151_936)
QWEN_ONE_AND_A_HALF = header(28, 1536, 12, 256, 8960, 151_936)
# Of what was measured: exemplars of 350 tokens, a question of 59 and a path of 89.
LONGEST = [TokenExample([5] * 409, [5] * 89)]


@pytest.mark.parametrize(
    ("meta", "settings", "dtype", "peak"),
    [
        (TINYMATH, {}, "bf16", 1301),
        (TINYMATH, {"rank": 4, "row_tokens": 384}, "fp32", 824),
        (TINYMATH, {"batch_size": 16, "gradient_checkpointing": "on"}, "bf16", 1079),
        (QWEN_HALF, {}, "bf16", 4081),
        (QWEN_HALF, {"rank": 32, "gradient_checkpointing": "on"}, "bf16", 2896),
        (QWEN_HALF, {"layers": 12, "row_tokens": 512}, "bf16", 2461),
        (QWEN_ONE_AND_A_HALF, {}, "bf16", 7572),
    ],
)
def test_the_formula_is_near_the_measured_peaks(monkeypatch, meta, settings, dtype, peak):
    """Peaks in MiB of `benchmarks/fits.py` of 27fa0f4, as docs/training.md has them."""
    monkeypatch.setattr(memory, "resident", lambda: STARTED)
    config = TrainConfig(**{"row_tokens": MAX_ROW_TOKENS, **settings})
    needed = STARTED + sum(memory.need(meta, LONGEST, dtype, config))
    assert needed / MIB == pytest.approx(peak, rel=0.2)


def choose(monkeypatch, watcher, gib, **settings):
    monkeypatch.setattr(memory, "resident", lambda: STARTED)
    monkeypatch.setattr(memory, "free_bytes", lambda: int(gib * GIB))
    config = TrainConfig(row_tokens=MAX_ROW_TOKENS, **settings)
    return memory.recomputing(QWEN_HALF, LONGEST, "bf16", config, watcher.say)


def test_checkpointing_is_switched_on_where_only_that_fits(monkeypatch, watcher):
    assert not choose(monkeypatch, watcher, 9)
    [line] = watcher.said
    assert line.startswith("memory: about 4.") and "(weights 1.2, adapter 0.1, " in line
    assert choose(monkeypatch, watcher, 3)
    for gib, asked in ((3, "off"), (0.5, "auto")):
        given, told = (monkeypatch, watcher, gib), f"... GiB more memory, and {gib:.1f} are free"
        hint = "--set row_tokens=512"
        refused(choose, *given, gradient_checkpointing=asked, told=told, hint=hint)


@pytest.mark.model
@pytest.mark.usefixtures("aside_here")
def test_a_run_that_does_not_fit_ends_with_one_line_and_leaves_nothing(run, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 50 * MIB)
    done = commands.call("train", run.root, "--force", "--device", "cpu", "--quiet")
    told, hint = "and 0.0 are free", "--set gradient_checkpointing=on"
    commands.refused(done, told, hint=hint, notes=9)
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
    sizes, given = [100, 110, 119, 121, 80, 90, 97, 60, 65, 70], []
    monkeypatch.setattr(memory, "resident", lambda: sizes.pop(0))
    monkeypatch.setattr(memory, "give_back", lambda: given.append(len(sizes)))
    trimmer = memory.Trimmer()
    for seconds in [1, 1, 1, 1, 1, 1, 1, 1, 6, 1]:
        trimmer.after_step(seconds)
    assert given == [6, 3, 1]  # at 121, against 100; at 97, against 80; after a slow step
