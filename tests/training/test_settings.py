"""What a training setting does, and which device is taken, in which arithmetic."""

import math
from contextlib import nullcontext

import msgspec
import pytest
from hf_to_gguf import build, write
from toys import job

from lmsi_cli.cli.options import read_tables
from lmsi_cli.config import SPEED_ONLY, TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.settings import resolve
from lmsi_cli.training import adapter, attention, data, devices, losses, trainer
from lmsi_cli.training.adapter import choose, trainable
from lmsi_cli.training.header import read_meta
from lmsi_cli.training.loop import learning_rate
from lmsi_cli.training.trainer import rows_of, suited

# One value other than the default for every option there is.
OTHERS = {
    "rank": 8, "alpha": 24.0, "dropout": 0.1, "target": "attn", "lr": 0.0005, "epochs": 2.5,
    "max_steps": 7, "batch_size": 3, "warmup": 0.2, "weight_decay": 0.01, "max_length": 512,
    "dtype": "fp32", "checkpoint_every": 9, "seed": 5, "layers": 3, "schedule": "linear",
    "max_grad_norm": 0.5, "row_tokens": 700, "rslora": True, "device": "cpu",
    "val_share": 0.1, "eval_every": 4, "patience": 2, "alarms": False,
    "gradient_checkpointing": "on", "loss": "scpo", "beta": 0.1, "rpo_alpha": 0.5,
    "init": "runs/a/adapter",
}  # fmt: skip


def of_file(tmp_path, values):
    file = tmp_path / "lmsi.toml"
    file.write_bytes(msgspec.toml.encode({"train": values}))
    return resolve(TrainConfig, read_tables(file)["train"])


@pytest.mark.parametrize("field", msgspec.structs.fields(TrainConfig), ids=lambda f: f.name)
def test_every_option_goes_through_a_config_file(tmp_path, field):
    value = OTHERS[field.name]
    assert value != field.default
    read = of_file(tmp_path, {field.name: value})
    assert read == msgspec.structs.replace(TrainConfig(), **{field.name: value})
    # And back: what a run folder keeps is what was read.
    assert of_file(tmp_path, msgspec.structs.asdict(read)) == read


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("lr", 0, "--lr: expected auto or a number, above 0 and at most 1, got 0"),
        ("lr", math.nan, "--lr: expected auto or a number, above 0 and at most 1, got nan"),
        ("lr", math.inf, "--lr: expected auto or a number, above 0 and at most 1, got inf"),
        ("alpha", -1.0, "--set alpha: expected a number, above 0"),
        ("rank", 0, "--rank: expected a whole number, at least 1"),
        ("schedule", "sine", "schedule: expected one of cosine, linear, constant"),
        ("device", "tpu", "--device: expected one of auto, cpu, cuda, mps"),
        *(("layers", x, "--layers: expected all") for x in ("last:2", 0, "0")),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(name, value, told):
    with pytest.raises(LmsiError) as e:
        resolve(TrainConfig, {name: value})
    assert told in str(e.value)


def test_rate_and_rows_are_chosen_by_size_where_none_are_given(gguf, monkeypatch):
    meta = read_meta(gguf)
    assert suited(TrainConfig(), meta).lr == trainer.SMALL_LR
    monkeypatch.setattr(trainer, "LARGE", meta.parameters)
    assert suited(TrainConfig(), meta).lr == trainer.LARGE_LR < trainer.SMALL_LR
    assert suited(TrainConfig(loss="scpo"), meta).lr == trainer.PAIRS_LR < trainer.LARGE_LR
    for pairs, more, loss in (
        (trainer.FEW_PAIRS, {}, "scpo"),
        (trainer.FEW_PAIRS - 1, {}, "sft"),
        (trainer.FEW_PAIRS, {"loss": "sft"}, "sft"),
    ):
        assert suited(TrainConfig(**more), meta, pairs).loss == loss
    given = TrainConfig(loss="sft", lr=0.5)
    assert suited(given, meta) == given
    few, many = trainer.LARGE_ROWS, data.MAX_ROW_TOKENS
    assert (rows_of(given, meta, "cpu"), rows_of(given, meta, "cuda")) == (few, many)
    monkeypatch.setattr(trainer, "LARGE", meta.parameters + 1)
    assert rows_of(given, meta, "cpu") == many
    assert suited(TrainConfig(), meta, trainer.FEW_PAIRS).loss == "sft"
    assert rows_of(TrainConfig(row_tokens=9), meta, "cpu") == 9
    assert resolve(TrainConfig, {"lr": "auto"}) == TrainConfig()


@pytest.mark.parametrize(("layers", "blocks"), [("all", {0, 1}), (1, {1})])
def test_layers_are_counted_from_the_last(tiny, layers, blocks):
    found = {int(name.split("layers.")[1].split(".")[0]) for name in trainable(tiny(layers=layers))}
    assert found == blocks


def test_more_layers_than_there_are_is_refused(tiny):
    model = tiny().get_base_model()
    assert choose(model, TrainConfig(rank=4, layers=2))[1]["layers_to_transform"] == [0, 1]
    with pytest.raises(LmsiError, match="--layers 3: this model has 2 layers") as e:
        choose(model, TrainConfig(rank=4, layers=3))
    assert "up to 2" in e.value.hint


def test_a_rank_above_that_of_a_matrix_is_refused_before_weights_are_read(tmp_path):
    gguf = write(tmp_path / "x.gguf", "llama", build("llama"))
    assert adapter.preflight(gguf, TrainConfig(rank=32))
    with pytest.raises(LmsiError, match=r"--rank 33 is more than .*k_proj' \(32 x 64\) itself has"):
        adapter.preflight(gguf, TrainConfig(rank=33))
    assert adapter.preflight(gguf, TrainConfig(target="mlp", rank=33))
    assert len(adapter.preflight(gguf, TrainConfig(target="mlp", layers=1))) == 3


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("linear", [0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("constant", [0.5] + [1] * 9),
    ],
)
def test_schedules(schedule, rates):
    config = TrainConfig(lr=1.0, warmup=0.2, schedule=schedule)
    assert [learning_rate(i, 10, config) for i in range(10)] == pytest.approx(rates)


def test_a_run_goes_on_with_other_rows_and_on_another_device(examples, tmp_path):
    name = job(examples, tmp_path).header.fingerprint
    other = {"checkpoint_every": 5, "row_tokens": 99, "device": "cuda"}
    assert set(other) <= set(SPEED_ONLY)
    assert job(examples, tmp_path, **other).header.fingerprint == name
    assert job(examples, tmp_path, schedule="linear").header.fingerprint != name


# -- devices: there is no GPU here, so torch is asked by fakes -------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """Pretend that torch finds so many GPUs."""
    import torch

    def build(cuda=0, mps=False, capability=(8, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return build


@pytest.mark.parametrize(
    ("there", "wanted", "device"),
    [
        ({}, "auto", "cpu"),
        ({"cuda": 1}, "auto", "cuda:0"),
        ({"cuda": 1}, "cpu", "cpu"),
        ({"mps": True}, "auto", "mps"),
        ({"cuda": 1, "mps": True}, "mps", "mps"),
    ],
)
def test_auto_takes_a_gpu_and_a_name_what_it_says(machine, there, wanted, device):
    machine(**there)
    assert devices.pick(wanted) == device


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(machine, wanted):
    machine()
    with pytest.raises(LmsiError, match=f"--device {wanted}: torch finds no such device here"):
        devices.pick(wanted)


@pytest.mark.parametrize(
    ("capability", "wanted", "device", "dtype"),
    [
        ((8, 0), "auto", "cuda:0", "bf16"),
        ((9, 0), "auto", "cuda:0", "bf16"),
        ((7, 5), "auto", "cuda:0", "fp32"),  # emulates bf16
        ((8, 0), "fp32", "cuda:0", "fp32"),
        ((8, 0), "auto", "mps", "fp32"),
        ((8, 0), "bf16", "mps", "bf16"),
    ],
)
def test_bf16_where_the_device_multiplies_it(machine, capability, wanted, device, dtype):
    machine(cuda=1, capability=capability)
    assert devices.pick_dtype(wanted, device) == dtype


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
