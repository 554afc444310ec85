"""--base: the original weights train if, and only if, they are those of the GGUF file."""

import json

import pytest
from hf_to_gguf import build, save_folder, write
from test_chain import TEXTS, pairs
from test_chain_quantised import quantise
from toys import Watcher

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import bases, export, origin
from lmsi_cli.training.data import Codec
from lmsi_cli.training.trainer import train
from lmsi_cli.training.verify import Witness, torch_logits, verify

pytestmark = pytest.mark.model
WIDE = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64, "initializer_range": 0.06}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A folder, the file made of it in Q4_K, and the model."""
    home = tmp_path_factory.mktemp("pair")
    model = build("llama", **WIDE)
    whole = write(home / "f32.gguf", "llama", model)
    return save_folder(model, home / "hf"), quantise(whole, home / "q4.gguf", 15), model


def test_the_originals_train_and_the_adapter_runs_over_the_file(pair, tmp_path):
    from llama_side import opened

    folder, path, _ = pair
    progress = Watcher()
    config = TrainConfig(
        rank=4, alpha=16, max_steps=3, batch_size=2, lr=0.02, dtype="fp32", base=str(folder)
    )
    with opened(path) as llama:
        codec = Codec(llama.encode, lambda _, text: llama.encode(text))
        ids = [codec.prompt(text) for text in TEXTS]
        seen = Witness(ids, llama.logits(ids, False))
        trained = train(pairs(), path, config, tmp_path, codec, progress, seen)
    found = trained.summary.original
    assert (found.folder, found.file_type) == ("hf", "Q4_K")
    assert 0.05 < found.weights < 0.12 and 0.02 < found.logits < 0.3
    assert any(f"{found.logits:.2%} from its logits" in line for line in progress.said)
    assert any("vocabularies agree: 268 tokens" in line for line in progress.said)
    # Trained on the originals, proven on what will run it.
    export.to_gguf(tmp_path, path, tmp_path / "adapter.gguf")
    ours = torch_logits(bases.adapted(path, tmp_path, "fp32"), "fp32")
    with opened(path, tmp_path / "adapter.gguf") as llama:
        proof = verify(ours, llama.logits, ids)
    assert proof.moved > 0.2


def refusal(folder, path):
    with pytest.raises(LmsiError) as caught:
        origin.load_original(folder, path, "fp32", lambda _: None)
    return str(caught.value)


def test_another_model_of_the_same_shape_is_refused(pair, tmp_path):
    folder = save_folder(build("llama", seed=1, **WIDE), tmp_path / "hf")
    assert "lies 1" in (told := refusal(folder, pair[1])) and "% apart" in told


def test_a_fine_tuned_sister_is_refused_by_its_norms(pair, tmp_path):
    """Q4_K would hide that the matrices differ by a hundredth; the norms are stored whole."""
    import torch

    model = build("llama", **WIDE)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * p.std() * 0.01)
    folder = save_folder(model, tmp_path / "hf")
    assert "norm.weight lies" in refusal(folder, pair[1])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is gelu, in the file silu"),
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}}, "factor"),
        ({"rms_norm_eps": 1e-3}, "rms_norm_eps is 0.001, in the file"),
        ({"intermediate_size": 128}, "intermediate_size is 128, in the file 256"),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, "rope_theta is 500000"),
        ({"model_type": "qwen2"}, "architecture qwen2, in the file llama"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "asks for code of its own"),
    ],
)
def test_other_settings_are_refused(pair, tmp_path, change, what):
    import shutil

    folder = shutil.copytree(pair[0], tmp_path / "hf")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | change))
    assert what in refusal(folder, pair[1])


def test_logits_further_apart_than_the_weights_explain_are_refused():
    import numpy as np

    ours = np.random.default_rng(0).normal(size=(4, 100))
    found = origin.Original(folder="hf", file_type="Q8_0", weights=0.006, worst="x")
    near = bases.same_logits(found, ours, ours * 1.02)
    assert near.logits == pytest.approx(0.02)
    with pytest.raises(LmsiError, match=r"the logits lie 10\.0% apart, .* in Q8_0 explain 5\.7%"):
        bases.same_logits(found, ours, ours * 1.1)


def test_another_vocabulary_is_refused(pair, tmp_path):
    import shutil

    folder = shutil.copytree(pair[0], tmp_path / "hf")
    told = json.loads((folder / "tokenizer.json").read_text())
    vocab = told["model"]["vocab"]
    vocab["A"], vocab["B"] = vocab["B"], vocab["A"]
    (folder / "tokenizer.json").write_text(json.dumps(told))
    assert "token 65 is 'B', in the file 'A' (2 differ)" in refusal(folder, pair[1])


def test_pickles_adapters_and_empty_folders_are_refused(pair, tmp_path):
    import shutil

    assert "no config.json here" in refusal(tmp_path, pair[1])
    folder = shutil.copytree(pair[0], tmp_path / "hf")
    (folder / "model.safetensors").unlink()
    assert "no weights" in refusal(folder, pair[1])
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin is a pickle" in refusal(folder, pair[1])
    (folder / "adapter_config.json").write_text("{}")
    assert "holds an adapter" in refusal(folder, pair[1])


def test_the_embedded_model_written_out_is_its_own_original(gguf, tmp_path):
    """An HF folder made of tinymath in F16 has the file's weights to the last digit."""
    from lmsi_cli.training import load

    load.load_base(gguf, "fp32").save_pretrained(tmp_path / "hf")
    said = []
    _, found = origin.load_original(tmp_path / "hf", gguf, "fp32", said.append)
    assert found.weights == 0 and "no vocabulary to compare" in said[0]
