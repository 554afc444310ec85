"""What PyTorch trained is what llama.cpp runs, as an adapter or merged into a file of its own."""

import json

import numpy as np
import pytest
from broken_models import finish
from hf_to_gguf import build, write
from safetensors.numpy import load_file, save_file

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import adapter, load, verify
from lmsi_cli.training.adapter import add_lora, save_adapter, trainable, with_adapter
from lmsi_cli.training.header import read_meta, repository
from lmsi_cli.training.merge import load_merged, merge, read_lora, save_merged, tensor_types
from lmsi_cli.training.verify import gap, torch_logits

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
    """The scale and the layers survive the export; rows in another order are found out."""
    from llama_side import opened, proven

    model = with_random_b(gguf, rslora=True, layers=3, target="attn")
    right = exported(model, gguf, tmp_path / "right")
    told = json.loads((tmp_path / "right" / adapter.CONFIG).read_text())
    assert told["use_rslora"] and told["layers_to_transform"] == [5, 6, 7]
    lora = read_lora(right)
    assert lora.alpha == told["lora_alpha"] * 2  # the root of the rank
    assert adapter.preflight(gguf, TrainConfig(target="attn", layers=3)) == sorted(lora.pairs)
    with opened(gguf, right) as llama:
        ids = [llama.encode(p) for p in PROMPTS]
        proof = proven(torch_logits(model, "fp32"), llama, ids)
        adapted = llama.logits(ids, True)
    assert proof.moved > 0.02
    assert proof.base_gap < 0.002 and proof.adapted_gap < 0.002 and proof.effect_gap < 0.05
    again = torch_logits(with_adapter(gguf, tmp_path / "right"), "fp32")  # as PEFT reads it
    assert gap(again(ids, True), adapted) < 0.002

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
def test_tensors_that_cannot_go_into_a_gguf_are_named(gguf, tmp_path, key, message):
    (tmp_path / adapter.CONFIG).write_text('{"lora_alpha": 8}')
    save_file({key: np.zeros((2, 2), np.float32)}, tmp_path / adapter.WEIGHTS)
    with pytest.raises(LmsiError, match=message):
        adapter.to_gguf(tmp_path, gguf, tmp_path / "adapter.gguf")


def weights(change):
    def spoil(folder):
        file = folder / adapter.WEIGHTS
        save_file(change(load_file(file)), file)

    return spoil


def setting(**changed):
    def spoil(folder):
        saved = json.loads((folder / adapter.CONFIG).read_text())
        (folder / adapter.CONFIG).write_text(json.dumps(saved | changed))

    return spoil


UNREADABLE = "PEFT cannot read this adapter"
SPOILED = {
    "a matrix is missing": (weights(lambda t: dict([*t.items()][1:])), "not the matrices that"),
    "lists in place of matrices": (
        weights(lambda t: {k: x.reshape(-1) for k, x in t.items()}), UNREADABLE),
    "of another rank": (setting(r=2), UNREADABLE),
    "a setting of another kind": (setting(lora_alpha=[]), UNREADABLE),
}  # fmt: skip


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

    rope = {"rope_type": "llama3", "rope_theta": 5e5, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "factor": factor,
            "original_max_position_embeddings": original}  # fmt: skip
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
    more = {"rope_freqs.weight": np.array(factors, np.float32)}
    gguf = write(tmp_path / "x.gguf", "llama", build("llama"), more=more)
    exported(with_random_b(gguf), gguf, tmp_path / "adapter")
    with pytest.raises(LmsiError, match="no place in a Hugging Face") as e:
        save_merged(gguf, tmp_path / "adapter", tmp_path, "F32")
    assert "--to gguf" in e.value.hint


# -- a merged file is what llama.cpp computes from base and adapter --------------------------------


Q = "blk.0.attn_q.weight"


def write_adapter(path, alpha=8.0, shapes=((Q, 64, 64), ("blk.1.ffn_up.weight", 96, 64)), rank=4):
    import gguf

    rng = np.random.default_rng(1)
    w = gguf.GGUFWriter(path, "llama")
    w.add_type("adapter")
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", alpha)
    for name, rows, columns in shapes:
        for half, shape in (("lora_a", (rank, columns)), ("lora_b", (rows, rank))):
            w.add_tensor(f"{name}.{half}", rng.normal(size=shape).astype(np.float32) / 8)
    return finish(w, path)


@pytest.fixture
def files(tmp_path):
    base = write(tmp_path / "base.gguf", "llama", build("llama"))
    return base, write_adapter(tmp_path / "a.gguf"), tmp_path / "out.gguf"


def tensors(path):
    from gguf import GGUFReader

    return {t.name: t for t in GGUFReader(path).tensors}


def test_the_sum_is_alpha_by_rank_times_b_a_in_the_files_own_rows(files):
    base, adapter, out = files
    merge(base, read_lora(adapter), out, 0.5)
    old, new, lora = tensors(base), tensors(out), tensors(adapter)
    a, b = lora[f"{Q}.lora_a"].data, lora[f"{Q}.lora_b"].data
    assert new[Q].data == pytest.approx(old[Q].data + 0.5 * 8 / 4 * (b @ a), abs=1e-5)
    for name in old.keys() - {Q, "blk.1.ffn_up.weight"}:
        assert bytes(new[name].data) == bytes(old[name].data)


@pytest.mark.parametrize("alignment", [32, 64])
def test_metadata_alignment_and_the_order_of_tensors_stay(tmp_path, alignment):
    from gguf import GGUFReader

    base, out = tmp_path / "base.gguf", tmp_path / "out.gguf"
    write(base, "llama", build("llama"), alignment=alignment)
    merge(base, read_lora(write_adapter(tmp_path / "a.gguf")), out, 1.0)
    old, new = (
        {f.name: (f.types, f.contents()) for f in GGUFReader(p).fields.values()
         if not f.name.startswith("GGUF.")}
        for p in (base, out)
    )  # fmt: skip
    assert old == new and list(tensors(base)) == list(tensors(out))
    assert all(t.data_offset % alignment == 0 for t in GGUFReader(out).tensors)
    norm = "output_norm.weight"
    assert bytes(tensors(out)[norm].data) == bytes(tensors(base)[norm].data)
    assert read_meta(out).architecture == "llama" and "license" not in read_meta(out).general


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        (((Q, 32, 64),), "has no counterpart"),
        ((("blk.9.attn_q.weight", 64, 64),), "no counterpart"),
    ],
)
def test_an_adapter_of_another_base_is_refused(files, tmp_path, shapes, told):
    other = write_adapter(tmp_path / "other.gguf", shapes=shapes)
    with pytest.raises(LmsiError, match=told):
        merge(files[0], read_lora(other), files[2], 1.0)


def test_what_is_no_adapter_is_refused(files):
    with pytest.raises(LmsiError, match="not a LoRA adapter"):
        read_lora(files[0])


def test_a_sum_that_f16_cannot_hold_is_refused_and_f32_holds_it(tmp_path):
    model = build("llama")
    model.model.layers[0].self_attn.q_proj.weight.data.fill_(6e4)
    base = write(tmp_path / "base.gguf", "llama", model, kind="F16")
    adapter = write_adapter(tmp_path / "a.gguf", alpha=1e6)
    with pytest.raises(LmsiError, match="holds numbers that F16 cannot"):
        merge(base, read_lora(adapter), tmp_path / "out.gguf", 1.0)
    merge(base, read_lora(adapter), tmp_path / "out.gguf", 1.0, wide=True)
    assert np.isfinite(tensors(tmp_path / "out.gguf")[Q].data).all()


@pytest.mark.model
def test_llama_cpp_computes_the_same_from_the_merged_file(files):
    from llama_side import opened

    base, adapter, out = files
    merge(base, read_lora(adapter), out, 1.0)
    ids = [[*range(1, 40)], [5, 3] * 20]
    with opened(base, adapter) as llama:
        plain, wanted = llama.logits(ids, False), llama.logits(ids, True)
    with opened(out) as llama:
        got = llama.logits(ids, False)
    assert np.abs(wanted - plain).max() > 0.1
    assert got == pytest.approx(wanted, abs=2e-3)


@pytest.mark.model
def test_the_quantiser_keeps_what_is_of_the_type_and_refuses_what_it_cannot(gguf, tmp_path):
    from lmsi_cli.engine.fast_copy import check_kind, kinds, quantise

    small, again = tmp_path / "q.gguf", tmp_path / "again.gguf"
    quantise(gguf, small, check_kind("q4_k_m"))
    own = tensor_types(small)
    quantise(small, again, kinds()["Q4_K_M"], own)
    old, new = tensors(small), tensors(again)
    assert {n: bytes(t.data) for n, t in old.items()} == {n: bytes(t.data) for n, t in new.items()}
    with pytest.raises(LmsiError, match=r"none of llama\.cpp's") as e:
        check_kind("Q9")
    assert "Q8_0" in e.value.hint
    with pytest.raises(LmsiError, match="imatrix"):
        quantise(gguf, again, kinds()["IQ2_XXS"])
