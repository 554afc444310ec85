"""What training starts from: originals that are the file's own, and an adapter that fits it."""

import json
import shutil

import msgspec
import pytest
from hf_to_gguf import build, write
from llama_side import opened
from test_chain import TEXTS, pairs
from test_chain_quantised import quantise
from toys import Watcher, job

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import adapter, checkpoint, data, original_weights
from lmsi_cli.training.data import Codec
from lmsi_cli.training.loop import fit
from lmsi_cli.training.losses import row_loss
from lmsi_cli.training.original_weights import check_adapter, fill_adapter, load_original
from lmsi_cli.training.trainer import train
from lmsi_cli.training.verify import Witness, torch_logits, verify

WIDE = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64, "initializer_range": 0.06}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A folder, and the file made of it in Q4_K."""
    home = tmp_path_factory.mktemp("pair")
    model = build("llama", **WIDE)
    whole = write(home / "f32.gguf", "llama", model)
    model.save_pretrained(home / "hf")
    return home / "hf", quantise(whole, home / "q4.gguf", 15)


@pytest.mark.model
def test_the_originals_train_and_the_adapter_runs_over_the_file(pair, tmp_path):
    folder, path = pair
    config = TrainConfig(
        rank=4, alpha=16, max_steps=3, batch_size=2, lr=0.02, dtype="fp32", base=str(folder)
    )
    with opened(path) as llama:
        codec = Codec(llama.encode, lambda _, text: llama.encode(text))
        ids = [codec.prompt(text) for text in TEXTS]
        seen = Witness(ids, llama.logits(ids, False))
        trained = train(pairs(), path, config, tmp_path, codec, Watcher(), seen)
        with pytest.raises(LmsiError, match="the logits lie"):
            other = Witness(ids, seen.logits[::-1])
            original_weights.load_proven(path, str(folder), "fp32", other, print)
    found = trained.summary.original
    assert (found.folder, found.file_type) == ("hf", "Q4_K")
    assert 0.05 < found.weights < 0.12 and 0.02 < found.logits < 0.3
    # Trained on the originals, proven on what will run it.
    adapter.to_gguf(tmp_path, path, tmp_path / "adapter.gguf")
    ours = torch_logits(adapter.with_adapter(path, tmp_path, "fp32"), "fp32")
    with opened(path, tmp_path / "adapter.gguf") as llama:
        assert verify(ours, llama.logits, ids).moved > 0.2


def other_seed(model):
    return build("llama", seed=1, **WIDE)


def other_size(model):
    return build("llama", **{**WIDE, "intermediate_size": 128})


def with_biases(model):
    return build("llama", **WIDE, attention_bias=True)


def fine_tuned(model):
    """Q4_K would hide that the matrices differ by a hundredth; the norms are stored whole."""
    import torch

    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * p.std() * 0.01)
    return model


def words_swapped(model):
    import torch

    rows = model.get_input_embeddings().weight.data
    rows[[65, 66, 67, 68]] = rows[[66, 65, 68, 67]]
    rows[70:90] = torch.flip(rows[70:90], (0,))
    return model


@pytest.mark.model
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (other_seed, "apart"),
        (other_size, "size"),
        (with_biases, "bias"),
        (fine_tuned, "norm.weight"),
        (words_swapped, "token_embd.weight"),
    ],
)
def test_another_model_is_refused(pair, tmp_path, change, what):
    folder = tmp_path / "hf"
    change(build("llama", **WIDE)).save_pretrained(folder)
    with pytest.raises(LmsiError, match="is not the model of the GGUF file") as e:
        load_original(folder, pair[1], "fp32")
    assert what in str(e.value)


def test_folders_that_cannot_be_read_safely_are_refused(tmp_path):
    def refused():
        with pytest.raises(LmsiError, match="no model in safetensors here") as e:
            original_weights.load_original(tmp_path, tmp_path / "m.gguf", "fp32")
        assert "--base" in e.value.hint

    (tmp_path / "pytorch_model.bin").write_text("a pickle can run code")
    refused()
    (tmp_path / "adapter_model.safetensors").write_text("")
    (tmp_path / "adapter_config.json").write_text("{}")
    refused()


def saved(model, folder):
    folder.mkdir(exist_ok=True)
    adapter.save_adapter(model, folder)
    origin = {"base_sha256": "b", "base_file": "m"}
    (folder / "lmsi.json").write_text(json.dumps(origin))
    return {"init": str(folder), "alpha": 32.0, "rank": 4}


def loss_of(model, examples):
    """Over all examples as one batch, as the first step takes it."""
    rows = data.pack(examples, 1536)
    total = sum(float(row_loss(model, row, "fp32").detach()) for row in rows)
    return total / sum(len(row.labels) for row in rows)


def test_the_first_loss_is_the_last_adapters(tiny, examples, tmp_path):
    first, again = tiny(), tiny()
    log = fit(first, job(examples, tmp_path / "a", batch_size=9), Watcher()).log
    config = saved(first, tmp_path / "adapter")
    fill_adapter(again, TrainConfig(**config))
    task = job(examples, tmp_path / "b", max_steps=1, batch_size=9, **config)
    begun = fit(again, task, Watcher()).log[0].loss
    assert begun == pytest.approx(loss_of(first, examples), abs=1e-5)
    assert begun < log[0].loss / 2  # and not that of the base


def test_weights_to_start_from_decide_the_checkpoints_name(tiny, examples, tmp_path):
    model, other = tiny(), tiny()
    fit(model, job(examples, tmp_path / "a"), Watcher())
    config = TrainConfig(**saved(model, tmp_path / "adapter"))
    copy = shutil.copytree(tmp_path / "adapter", tmp_path / "copy")

    def name(config):
        start = original_weights.fingerprint(config)
        return checkpoint.fingerprint(None, examples, config, start)

    moved = msgspec.structs.replace(config, init=str(copy))
    assert name(config) == name(moved) != name(TrainConfig(rank=4))
    saved(other, copy)
    assert name(config) != name(moved)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"rank": 16}, "rank 4, 16 now"),
        ({"alpha": 16.0}, "alpha 32.0, 16.0 now"),
        ({"rslora": True}, "rslora False, True now"),
    ],
)
def test_other_settings_are_refused(tiny, tmp_path, config, what):
    right = saved(tiny(), tmp_path / "adapter")
    check_adapter(TrainConfig(**right), "b")
    with pytest.raises(LmsiError, match=what):
        check_adapter(TrainConfig(**right | config), "b")
    with pytest.raises(LmsiError, match="trained on another model, m"):
        check_adapter(TrainConfig(**right), "c")


@pytest.mark.parametrize("config", [{"target": "mlp"}, {"layers": 1}], ids=str)
def test_other_matrices_are_refused(tiny, tmp_path, config):
    right = saved(tiny(), tmp_path / "adapter")
    with pytest.raises(LmsiError, match="acts on other matrices"):
        fill_adapter(tiny(**config), TrainConfig(**right | config))


@pytest.mark.parametrize("missing", ["adapter_config.json", "lmsi.json"])
def test_an_unfinished_adapter_is_refused(tiny, tmp_path, missing):
    config = TrainConfig(**saved(tiny(), tmp_path / "adapter"))
    (tmp_path / "adapter" / missing).unlink()
    with pytest.raises(LmsiError, match=f"no {missing}"):
        check_adapter(config, "b")
