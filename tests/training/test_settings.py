"""What a training setting does: which layers, how strongly, at which rate; and what is refused."""

import math

import msgspec
import pytest
from test_export import PROMPTS, exported, random_llama, write_gguf
from toys import job as toy_job

from lmsi_cli.cli.options import read_tables
from lmsi_cli.config import SPEED_ONLY, TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.settings import resolve
from lmsi_cli.training import adapter, load, trainer
from lmsi_cli.training.adapter import add_lora, choose, trainable, with_adapter
from lmsi_cli.training.data import MAX_ROW_TOKENS
from lmsi_cli.training.header import read_meta
from lmsi_cli.training.loop import learning_rate
from lmsi_cli.training.merge import read_lora
from lmsi_cli.training.trainer import rows_of, suited
from lmsi_cli.training.verify import gap, torch_logits

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
    few, many = trainer.LARGE_ROWS, MAX_ROW_TOKENS
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
    gguf = write_gguf(tmp_path / "x.gguf", "llama", random_llama())
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


def job(examples, out, **config):
    return toy_job(examples, out, **{"max_steps": 3, "batch_size": 9, **config})


def test_a_run_goes_on_with_other_rows_and_on_another_device(examples, tmp_path):
    name = job(examples, tmp_path).header.fingerprint
    other = {"checkpoint_every": 5, "row_tokens": 99, "device": "cuda"}
    assert set(other) <= set(SPEED_ONLY)
    assert job(examples, tmp_path, **other).header.fingerprint == name
    assert job(examples, tmp_path, schedule="linear").header.fingerprint != name


@pytest.mark.model
def test_llama_cpp_runs_rslora_over_the_last_layers(gguf, tmp_path):
    """The scale and the layers survive the export: the logits of both sides agree."""
    import torch
    from llama_side import opened, proven

    config = TrainConfig(rank=4, rslora=True, layers=3, target="attn")
    model = add_lora(load.load_base(gguf, "fp32"), config, gguf.name)
    for name, p in trainable(model).items():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    right = exported(model, gguf, tmp_path / "right")
    told = msgspec.json.decode((tmp_path / "right" / adapter.CONFIG).read_bytes())
    assert told["use_rslora"] and told["layers_to_transform"] == [5, 6, 7]
    assert read_lora(right).alpha == told["lora_alpha"] * 2  # the root of the rank
    assert adapter.preflight(gguf, config) == names_in(right)
    with opened(gguf, right) as llama:
        ids = [llama.encode(p) for p in PROMPTS]
        proof = proven(torch_logits(model, "fp32"), llama, ids)
        adapted = llama.logits(ids, True)
    assert proof.moved > 0.02 and proof.adapted_gap < 0.002 and proof.effect_gap < 0.05
    # PEFT reads the folder back as the same model.
    assert gap(reloaded(gguf, tmp_path / "right")(ids, True), adapted) < 0.002


def names_in(adapter):
    import gguf

    tensors = gguf.GGUFReader(adapter).tensors
    return sorted({t.name.removesuffix(".lora_a").removesuffix(".lora_b") for t in tensors})


def reloaded(gguf, folder):
    return torch_logits(with_adapter(gguf, folder), "fp32")
