"""An adapter to start from: the first step sees it, and one that does not fit is refused."""

import json
import shutil

import msgspec
import pytest
from toys import Watcher

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.run_folder import sha256_file
from lmsi_cli.training import checkpoint, data, export, load, lora, starting
from lmsi_cli.training.loop import fit
from lmsi_cli.training.state import Job
from lmsi_cli.training.step import row_loss
from lmsi_cli.training.validation import Validator, Watched


def trained(model, examples, out, init="", steps=12):
    settings = TrainConfig(rank=4, lr=0.02, max_steps=steps, batch_size=9, init=init)
    name = checkpoint.fingerprint(None, examples, settings, starting.fingerprint(settings))
    return fit(model, Job(examples, settings, "fp32", out, name), Watcher())


def kept(model, folder, scale=1.0):
    folder.mkdir(exist_ok=True)
    export.save_adapter(model, folder)
    origin = {"base_sha256": "b", "base_file": "m", "scale": {"chosen": scale}}
    (folder / "lmsi.json").write_text(json.dumps(origin))
    return TrainConfig(rank=4, init=str(folder))


def loss_of(model, examples):
    """Over all examples as one batch, as the first step of ``trained`` takes it."""
    rows = [data.to_batch(row) for row in data.pack(examples, 1536)]
    return sum(float(row_loss(model, row, "fp32").detach()) for row in rows) / sum(
        len(row.labels) for row in rows
    )


def test_the_first_loss_is_the_last_adapters(tiny, examples, tmp_path):
    first = tiny()
    log = trained(first, examples, tmp_path / "a").log
    config = kept(first, tmp_path / "adapter")
    again = tiny()
    starting.fill(again, config)
    begun = trained(again, examples, tmp_path / "b", config.init, steps=1).log[0].loss
    assert begun == pytest.approx(loss_of(first, examples), abs=1e-5)
    assert begun < log[0].loss / 2  # and not that of the base


def test_a_weaker_scale_is_kept(tiny, examples, tmp_path):
    model = tiny()
    trained(model, examples, tmp_path / "a")
    half = tiny()
    starting.fill(half, kept(model, tmp_path / "adapter", 0.5))
    own, other = lora.trainable(model), lora.trainable(half)
    for name, weights in own.items():
        wanted = weights / 2 if "lora_B" in name else weights
        assert (other[name] == wanted).all()


def test_the_reading_at_step_0_is_the_bases(tiny, examples, tmp_path):
    model = tiny()
    before = Validator(model, Watched(examples, True), 0, "fp32").read(0, draw=True)
    trained(model, examples, tmp_path / "a")
    after = Validator(model, Watched(examples, True), 0, "fp32").read(0, draw=True)
    assert after.loss == before.loss and after.evenness == before.evenness


def test_a_checkpoint_belongs_to_what_the_adapter_says_not_to_where_it_lies(
    tiny, examples, tmp_path
):
    model = tiny()
    config = kept(model, tmp_path / "adapter")
    shutil.copytree(tmp_path / "adapter", tmp_path / "copy")
    moved = msgspec.structs.replace(config, init=str(tmp_path / "copy"))

    def name(config):
        return checkpoint.fingerprint(None, examples, config, starting.fingerprint(config))

    assert name(config) == name(moved) != name(TrainConfig(rank=4))
    kept(model, tmp_path / "copy", 0.5)
    assert name(config) != name(moved)
    trained(model, examples, tmp_path / "a")
    kept(model, tmp_path / "copy")
    assert name(config) != name(moved)


@pytest.fixture
def place(gguf, tmp_path):
    """An adapter of rank 2 on the attention of the embedded model, all zeros."""
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for name, layer in lora.adapted(load.skeleton(gguf), "attn").items():
        out, into = load.sizes(layer)
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.zeros(2, into)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.zeros(out, 2)
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file(tensors, folder / export.WEIGHTS)
    told = {"r": 2, "lora_alpha": 32.0, "use_rslora": False, "target_modules": ["q_proj"]}
    (folder / export.CONFIG).write_text(json.dumps(told))
    origin = {"base_sha256": sha256_file(gguf), "base_file": gguf.name}
    (folder / "lmsi.json").write_text(json.dumps(origin))
    return folder


def refusal(gguf, folder, **config):
    settings = TrainConfig(**{"rank": 2, "target": "attn", "init": str(folder), **config})
    with pytest.raises(LmsiError) as caught:
        starting.check(settings, gguf, sha256_file(gguf))
    return str(caught.value)


@pytest.mark.model
def test_one_that_fits_passes(gguf, place):
    config = TrainConfig(rank=2, target="attn", init=str(place))
    starting.check(config, gguf, sha256_file(gguf))


@pytest.mark.model
def test_one_that_does_not_fit_is_refused(gguf, place, tmp_path):
    assert refusal(gguf, place, rank=16).endswith("this adapter has --rank 2, 16 now")
    assert refusal(gguf, place, alpha=16).endswith("this adapter has --alpha 32, 16 now")
    assert refusal(gguf, place, rslora=True).endswith("--rslora False, True now")
    assert "other matrices than --target mlp --layers all" in refusal(gguf, place, target="mlp")
    assert "other matrices" in refusal(gguf, place, layers=1)
    assert "no adapter in PEFT's format" in refusal(gguf, tmp_path / "nowhere")


@pytest.mark.model
def test_one_of_another_or_an_unknown_base_is_refused(gguf, place):
    (place / "lmsi.json").write_text('{"base_sha256": "00", "base_file": "other.gguf"}')
    assert "trained on another model, other.gguf" in refusal(gguf, place)
    (place / "lmsi.json").unlink()
    assert "no lmsi.json, so its base is not known" in refusal(gguf, place)
