"""What PyTorch trained is what llama.cpp runs: names, row order, scale, base weights."""

import json

import numpy as np
import pytest
from broken_models import finish
from hf_to_gguf import build, write

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import adapter, load, verify
from lmsi_cli.training.adapter import add_lora, save_adapter, trainable, with_adapter
from lmsi_cli.training.header import repository
from lmsi_cli.training.merge import load_merged, save_merged
from lmsi_cli.training.verify import torch_logits

PROMPTS = ["Q: Ann has 3 boxes with 4 pens each. How many pens?\nA:", "Q: Tom", "A: 3 + 4 ="]


def with_random_b(gguf, **config):
    """The base with an adapter that acts on every layer: a fresh one would be a no-op."""
    import torch

    model = add_lora(load.load_base(gguf, "fp32"), TrainConfig(rank=4, **config), gguf.name)
    for name, p in trainable(model).items():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    return model


def exported(model, gguf, folder):
    folder.mkdir(exist_ok=True)
    save_adapter(model, folder)
    adapter.to_gguf(folder, gguf, folder / "adapter.gguf")
    return folder / "adapter.gguf"


@pytest.mark.model
def test_llama_cpp_runs_the_adapter_that_pytorch_has(gguf, tmp_path, monkeypatch):
    from llama_side import opened, proven

    model = with_random_b(gguf)
    right = exported(model, gguf, tmp_path / "right")
    with opened(gguf, right) as llama:
        ids = [llama.encode(p) for p in PROMPTS]
        fresh = llama.logits(ids, False)
        proof = proven(torch_logits(model, "fp32"), llama, ids)
        assert (llama.logits(ids, False) == fresh).all()  # off again, it is the base again
    assert proof.moved > 0.02
    assert proof.base_gap < 0.002 and proof.adapted_gap < 0.002 and proof.effect_gap < 0.05

    monkeypatch.setattr(adapter, "order", lambda *_: None)
    wrong = exported(model, gguf, tmp_path / "wrong")
    with opened(gguf, wrong) as llama, pytest.raises(LmsiError, match="disagree on the adapter"):
        proven(torch_logits(model, "fp32"), llama, ids)


@pytest.mark.model
def test_prompts_read_together_have_the_logits_of_each_alone(gguf, monkeypatch):
    logits = torch_logits(with_random_b(gguf), "fp32")
    prompts = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3], [11]]
    together = logits(prompts, True)
    monkeypatch.setattr(verify, "ROOM", 1)
    np.testing.assert_allclose(together, logits(prompts, True), atol=1e-4)


LLAMA = "https://huggingface.co/meta-llama/Llama-3.2-1B-Instruct"


@pytest.mark.parametrize(
    ("general", "told"),
    [
        ({"name": "Llama 3.2 1B Instruct GGUF", "base_model.0.repo_url": LLAMA}, LLAMA[23:]),
        ({"name": "My Tune", "base_model.0.repo_url": LLAMA}, ""),  # a parent has other weights
        ({"name": "My Tune", "source.repo_url": f"{LLAMA}/"}, LLAMA[23:]),
        ({"name": "SmolLM2-135M", "organization": "HuggingFaceTB"}, "HuggingFaceTB/SmolLM2-135M"),
        ({"name": "Smollm2 135M", "organization": "HuggingFaceTB"}, ""),
        ({"name": "meta-llama/Llama-2-7b"}, "meta-llama/Llama-2-7b"),
        ({"name": "../x", "source.url": "https://github.com/a/b", "organization": [1]}, ""),
        ({}, ""),
    ],
)
def test_the_base_is_named_as_the_file_tells(general, told):
    assert repository(general) == told


@pytest.mark.model
def test_preflight_names_what_the_adapter_will_act_on(gguf):
    names = adapter.preflight(gguf, TrainConfig(target="attn"))
    assert len(names) == 8 * 4
    assert names[:4] == [f"blk.0.attn_{x}.weight" for x in ("k", "output", "q", "v")]
    with pytest.raises(LmsiError, match="names no layer"):
        adapter.preflight(gguf, TrainConfig(target="nose"))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("base_model.model.lm_head.weight", "no LoRA matrix"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "only one of its two"),
    ],
)
def test_tensors_that_cannot_go_into_a_gguf_are_named(tmp_path, key, message):
    from safetensors.numpy import save_file

    (tmp_path / adapter.CONFIG).write_text('{"lora_alpha": 8}')
    save_file({key: np.zeros((2, 2), np.float32)}, tmp_path / adapter.WEIGHTS)
    base = write_gguf(tmp_path / "base.gguf", "llama", {})
    with pytest.raises(LmsiError, match=message):
        adapter.to_gguf(tmp_path, base, tmp_path / "adapter.gguf")


LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.model
def without_a_matrix(folder):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / adapter.WEIGHTS)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, folder / adapter.WEIGHTS)


def flat(folder):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / adapter.WEIGHTS)
    save_file({k: t.reshape(-1) for k, t in tensors.items()}, folder / adapter.WEIGHTS)


def with_setting(**changed):
    def change(folder):
        saved = json.loads((folder / adapter.CONFIG).read_text())
        (folder / adapter.CONFIG).write_text(json.dumps(saved | changed))

    return change


SPOILED = {
    "a matrix is missing": (without_a_matrix, "not the matrices that"),
    "lists in place of matrices": (flat, "PEFT cannot read this adapter"),
    "of another rank": (with_setting(r=2), "PEFT cannot read this adapter"),
    "a setting of another kind": (with_setting(lora_alpha=[]), "PEFT cannot read this adapter"),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILED.values(), ids=SPOILED)
def test_an_adapter_is_read_whole_or_refused(tmp_path, spoil, said):
    gguf = write(tmp_path / "base.gguf", "llama", build("llama", head_dim=64))
    exported(with_random_b(gguf), gguf, tmp_path / "a")
    with_adapter(gguf, tmp_path / "a")
    spoil(tmp_path / "a")
    with pytest.raises(LmsiError, match=f"{tmp_path / 'a'}.*{said}"):
        with_adapter(gguf, tmp_path / "a")


@pytest.mark.parametrize(("factor", "original"), [(8.0, 8192), (32.0, 64)])  # 3.1's; short
def test_llama_3_goes_into_a_hugging_face_folder_as_it_came(tmp_path, factor, original):
    import torch

    rope = {**LLAMA3, "factor": factor, "original_max_position_embeddings": original}
    llama = build("llama", head_dim=64, rope_parameters=rope, max_position_embeddings=1 << 17)
    gguf = write(tmp_path / "base.gguf", "llama", llama)
    exported(with_random_b(gguf), gguf, tmp_path / "adapter")
    save_merged(gguf, tmp_path / "adapter", tmp_path, "F32")
    made = load_merged(tmp_path)
    assert {k: made.config.rope_parameters[k] for k in rope} == rope
    merged = with_adapter(gguf, tmp_path / "adapter")
    ids = torch.arange(200)[None] % 256
    with torch.no_grad():
        got, wanted, base = (model(ids).logits.numpy() for model in (made, merged, llama))
    assert got == pytest.approx(wanted, abs=1e-4) and np.abs(got - base).max() > 1


@pytest.mark.model
@pytest.mark.parametrize("factors", [[1, 1, 2, 3, 2, 3, 4, 8], [1, 1, 2, 8, 8, 8, 8, 8], [0] * 8])
def test_other_factors_have_no_place_there(tmp_path, factors):
    gguf = write_gguf(tmp_path / "x.gguf", "llama", random_llama(), factors)
    exported(with_random_b(gguf), gguf, tmp_path / "adapter")
    with pytest.raises(LmsiError, match="no place in a Hugging Face") as e:
        save_merged(gguf, tmp_path / "adapter", tmp_path, "F32")
    assert "--to gguf" in e.value.hint


def random_llama():
    """Two layers of width 64, four heads of 16 on two KV heads, 64 tokens, tied head."""
    rng = np.random.default_rng(0)
    shapes = {
        "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64),
        "ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96),
    }  # fmt: skip
    tensors = {"token_embd.weight": rng.normal(size=(64, 64)), "output_norm.weight": np.ones(64)}
    for i in range(2):
        tensors |= {f"blk.{i}.{n}.weight": rng.normal(size=s) / 4 for n, s in shapes.items()}
        tensors |= {f"blk.{i}.{n}_norm.weight": np.ones(64) for n in ("attn", "ffn")}
    return {name: t.astype(np.float32) for name, t in tensors.items()}


def write_gguf(path, architecture, tensors, factors=None, alignment=0):
    """A GGUF file with the shape of ``random_llama`` and no tokenizer."""
    import gguf

    w = gguf.GGUFWriter(path, architecture)
    w.add_context_length(256)
    w.add_embedding_length(64)
    w.add_block_count(2)
    w.add_feed_forward_length(96)
    w.add_head_count(4)
    w.add_head_count_kv(2)
    w.add_rope_dimension_count(16)
    w.add_rope_freq_base(10000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(64)
    w.add_tokenizer_model("no_vocab")
    if alignment:
        w.add_custom_alignment(alignment)
    if factors:
        tensors = tensors | {"rope_freqs.weight": np.array(factors, np.float32)}
    for name, tensor in tensors.items():
        w.add_tensor(name, tensor)
    return finish(w, path)
