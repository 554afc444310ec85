"""What PyTorch trained is what llama.cpp runs, as an adapter or merged into a file of its own."""

import json
import shutil
from unittest.mock import Mock

import msgspec
import numpy as np
import pytest
from builders import refused
from gguf import GGUFReader
from hf_to_gguf import build, write
from safetensors.numpy import load as decode
from safetensors.numpy import save as encode
from toys import Llama, moved, proven

from lmsi_cli.config import TrainConfig
from lmsi_cli.engine.fast_copy import check_kind, kinds, quantise
from lmsi_cli.errors import LmsiError
from lmsi_cli.stages import train as stage
from lmsi_cli.stages.export import check_place
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.training import adapter, load, verify
from lmsi_cli.training.adapter import CONFIG, WEIGHTS, add_lora, save_adapter, with_adapter
from lmsi_cli.training.header import repository
from lmsi_cli.training.merge import load_merged, merge, read_lora, save_merged, tensor_types
from lmsi_cli.training.verify import Sides, gap, torch_logits


def adapted(gguf, spread=0.1, **config):
    """The base with an adapter that acts on every layer: a fresh one would be a no-op."""
    config = TrainConfig(rank=4, **config)
    return moved(add_lora(load.load_base(gguf, "fp32"), config, gguf.name), spread)


def exported(model, gguf, folder):
    folder.mkdir(exist_ok=True)
    save_adapter(model, folder)
    adapter.to_gguf(folder, gguf, folder / "adapter.gguf")
    return folder / "adapter.gguf"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A llama of two blocks, and the folder of an adapter that acts on all of it."""
    folder = tmp_path_factory.mktemp("small")
    base = write(folder / "base.gguf", "llama", build("llama"), alignment=1024)
    return base, exported(adapted(base), base, folder / "adapter").parent


@pytest.mark.model
def test_llama_cpp_runs_the_adapter_that_pytorch_has(gguf, tmp_path, monkeypatch):
    """The scale and the layers survive the export; rows in another order are found out."""
    model = adapted(gguf, 0.05, rslora=True, layers=3, target="attn")
    right = exported(model, gguf, tmp_path / "right")
    told = json.loads((tmp_path / "right" / CONFIG).read_text())
    assert told["use_rslora"] and told["layers_to_transform"] == [5, 6, 7]
    lora = read_lora(right)
    assert lora.alpha == told["lora_alpha"] * 2  # the root of the rank
    assert adapter.preflight(gguf, TrainConfig(target="attn", layers=3)) == sorted(lora.pairs)
    with Llama(gguf, right) as llama:
        ids = [llama.encode(p) for p in ("Q: Ann has 3 boxes.\nA:", "Q: Tom", "A: 3 + 4 =")]
        proof = proven(torch_logits(model, "fp32"), llama, ids)
        wanted = llama.logits(ids, True)
    assert proof.moved > 0.02
    assert proof.base_gap < 0.002 and proof.adapted_gap < 0.002 and proof.effect_gap < 0.05
    again = torch_logits(with_adapter(gguf, tmp_path / "right"), "fp32")  # as PEFT reads it
    assert gap(again(ids, True), wanted) < 0.002

    monkeypatch.setattr(adapter, "order", lambda *_: None)
    wrong = exported(model, gguf, tmp_path / "wrong")
    with Llama(gguf, wrong) as llama:
        refused(proven, torch_logits(model, "fp32"), llama, ids, told="... disagree on the adapter")


def test_prompts_read_together_have_the_logits_of_each_alone(small, monkeypatch):
    logits = torch_logits(with_adapter(*small), "fp32")
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
    ],
)
def test_the_base_is_named_as_the_file_tells(general, told):
    assert repository(general) == told


UNREADABLE = "PEFT cannot read this adapter"
SPOILED = {
    "no weights": (WEIGHTS, lambda _: None, WEIGHTS),
    "weights cut off": (WEIGHTS, lambda data: data[:1000], WEIGHTS),
    "a matrix is missing": (
        WEIGHTS, lambda data: encode(dict([*decode(data).items()][1:])), "not the matrices that"),
    "lists in place of matrices": (
        WEIGHTS, lambda data: encode({k: x.reshape(-1) for k, x in decode(data).items()}),
        UNREADABLE),
    "no settings": (CONFIG, lambda _: None, CONFIG),
    "settings cut off": (CONFIG, lambda data: data[:20], CONFIG),
    "settings of nothing": (CONFIG, lambda _: b"{}", CONFIG),
    "settings that are a list": (CONFIG, lambda _: b"[1]", CONFIG),
    "of another rank": (CONFIG, lambda data: data.replace(b'"r": 4', b'"r": 2'), UNREADABLE),
    "a setting of another kind": (
        CONFIG, lambda data: data.replace(b'"lora_alpha": 32.0', b'"lora_alpha": []'), UNREADABLE),
}  # fmt: skip


@pytest.mark.parametrize(("name", "spoil", "said"), SPOILED.values(), ids=SPOILED)
def test_an_adapter_is_read_whole_or_refused(small, tmp_path, name, spoil, said):
    base, right = small
    folder = shutil.copytree(right, tmp_path / "a")
    left = spoil((folder / name).read_bytes())
    (folder / name).unlink()
    if left is not None:
        (folder / name).write_bytes(left)
    refused(with_adapter, base, folder, told=f"... {folder} ... {said}")


@pytest.mark.parametrize(("factor", "original"), [(8.0, 8192), (32.0, 64)])  # 3.1's; short
def test_llama_3_goes_into_a_hugging_face_folder_as_it_came(tmp_path, factor, original):
    import torch

    rope = {"rope_type": "llama3", "rope_theta": 5e5, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "factor": factor,
            "original_max_position_embeddings": original}  # fmt: skip
    llama = build("llama", head_dim=64, rope_parameters=rope, max_position_embeddings=1 << 17)
    gguf = write(tmp_path / "base.gguf", "llama", llama)
    exported(adapted(gguf), gguf, tmp_path / "adapter")
    save_merged(gguf, tmp_path / "adapter", tmp_path, "F32")
    made = load_merged(tmp_path)
    assert {k: made.config.rope_parameters[k] for k in rope} == rope
    merged = with_adapter(gguf, tmp_path / "adapter")
    ids = torch.arange(200)[None] % 256
    with torch.no_grad():
        got, wanted, base = (model(ids).logits[0].numpy() for model in (made, merged, llama))
    assert gap(got, wanted) < 1e-4 and gap(base, wanted) > 0.1


@pytest.mark.parametrize("factors", [[1, 1, 2, 3, 2, 3, 4, 8], [1, 1, 2, 8, 8, 8, 8, 8], [0] * 8])
def test_other_factors_have_no_place_there(small, tmp_path, factors):
    more = {"rope_freqs.weight": np.array(factors, np.float32)}
    gguf = write(tmp_path / "x.gguf", "llama", build("llama"), more=more)
    told = "... no place in a Hugging Face"
    refused(save_merged, gguf, small[1], tmp_path, "F32", told=told, hint="--to gguf")


# -- a merged file is what llama.cpp computes from base and adapter --------------------------------


def tensors(path):
    return {t.name: t for t in GGUFReader(path).tensors}


def entries(path):
    fields = GGUFReader(path).fields.values()
    return {f.name: (f.types, f.contents()) for f in fields if not f.name.startswith("GGUF.")}


@pytest.mark.model
def test_a_merged_file_computes_the_same_and_keeps_all_else(small, tmp_path):
    base, folder = small
    lora, out = read_lora(folder / "adapter.gguf"), tmp_path / "out.gguf"
    ids = [[*range(1, 40)], [5, 3] * 20]
    with Llama(base, folder / "adapter.gguf") as llama:
        plain, wanted = llama.logits(ids), llama.logits(ids, True)
    assert gap(wanted, plain) > 0.1
    for scale, logits in ((0.0, plain), (1.0, wanted)):
        merge(base, lora, out, scale)
        with Llama(out) as llama:
            assert gap(llama.logits(ids), logits) < 0.003
    old, new = tensors(base), tensors(out)
    assert list(old) == list(new) and entries(base) == entries(out)
    assert all(t.data_offset % 1024 == 0 for t in new.values())  # the file's own alignment
    same = {name for name, t in old.items() if bytes(new[name].data) == bytes(t.data)}
    assert same == old.keys() - lora.pairs and len(same) == 7  # embedding, head and norms


def test_what_cannot_be_merged_is_refused_and_f32_holds_a_sum_that_f16_cannot(
    small, gguf, tmp_path
):
    base = write(tmp_path / "base.gguf", "llama", build("llama"), kind="F16")
    lora, out = read_lora(small[1] / "adapter.gguf"), tmp_path / "out.gguf"
    refused(read_lora, base, told="... not a LoRA adapter")
    refused(merge, gguf, lora, out, 1.0, told="... has no counterpart")  # it is another base's
    lora = lora._replace(alpha=1e9)
    refused(merge, base, lora, out, 1.0, told="... holds numbers that F16 cannot")
    merge(base, lora, out, 1.0, wide=True)
    found = tensors(out).values()
    assert found and all(np.isfinite(t.data).all() for t in found)


@pytest.mark.model
def test_the_quantiser_keeps_what_is_of_the_type_and_refuses_what_it_cannot(gguf, tmp_path):
    small, again = tmp_path / "q.gguf", tmp_path / "again.gguf"
    quantise(gguf, small, check_kind("q4_k_m"))
    quantise(small, again, kinds()["Q4_K_M"], tensor_types(small))
    old, new = ({n: bytes(t.data) for n, t in tensors(p).items()} for p in (small, again))
    assert old == new
    refused(check_kind, "Q9", told="... none of llama.cpp's", hint="Q8_0")
    refused(quantise, gguf, again, kinds()["IQ2_XXS"], told="... imatrix")


# -- the proof catches an adapter that does nothing or that llama.cpp runs otherwise ---------------


RNG = np.random.default_rng(0)
BASE, EFFECT, NOISE, OTHER = RNG.standard_normal((4, 8, 100)).astype(np.float32)


def side(effect, noise=0.0):
    off = BASE + noise * NOISE
    return Sides(off, off + effect + noise * OTHER)


def test_two_back_ends_that_agree_up_to_rounding_pass():
    proof = verify.verify(side(0.1 * EFFECT), side(0.1 * EFFECT, noise=0.004))
    assert proof.ok and proof.prompts == 8
    assert (proof.moved, proof.base_gap) == pytest.approx((0.1, 0.004), rel=0.1)
    assert gap(BASE + 7, BASE) == pytest.approx(0, abs=1e-6)  # softmax ignores it


NOTHING = "does nothing", "lmsi train RUN --overwrite"
APART = "disagree on the adapter", "please report it"
WEAK = "disagree on the adapter", "lmsi train RUN --overwrite"
STRANGERS = "compute different logits", ""


@pytest.mark.parametrize(
    ("trained", "exported", "noise", "told"),
    [
        (0 * EFFECT, 0 * EFFECT, 0, NOTHING),
        (0.01 * EFFECT, 0.01 * EFFECT, 0.02, NOTHING),  # no more than rounding
        (np.nan * EFFECT, 0.1 * EFFECT, 0.004, NOTHING),
        (0.1 * EFFECT, 0 * EFFECT, 0.004, APART),  # ignored
        (0.1 * EFFECT, 0.1 * OTHER, 0.004, APART),  # another one
        (0.01 * EFFECT, 0 * EFFECT, 0.004, APART),  # within 2%, yet not there
        (0.1 * EFFECT, np.nan * EFFECT, 0.004, APART),
        (0.2 * EFFECT, -0.2 * EFFECT, 0.03, APART),
        (0.05 * EFFECT, -0.05 * EFFECT, 0.03, WEAK),  # no fault of the program
        (0.1 * EFFECT, 0.1 * EFFECT, 0.2, STRANGERS),
        (0.1 * EFFECT, 0.1 * EFFECT, np.nan, STRANGERS),
    ],
)
def test_each_failure_is_told_apart(trained, exported, noise, told):
    words, hint = told
    refused(verify.verify, side(trained), side(exported, noise), told=f"... {words}", hint=hint)


def test_only_an_export_may_be_replaced_and_only_if_asked(tmp_path):
    place, note = tmp_path / "b", tmp_path / "b" / "lmsi.json"
    check_place(place, False)
    place.mkdir()
    for content in (None, '{"rank": 16}'):  # the folder of a trained adapter has one, too
        note.write_text(content) if content else None
        for overwrite in (False, True):
            with pytest.raises(LmsiError, match="and no export"):
                check_place(place, overwrite)
    note.write_text('{"export": "gguf"}')
    with pytest.raises(LmsiError, match="is there already") as e:
        check_place(place, False)
    assert "--overwrite" in e.value.hint
    check_place(place, True)


SHORT = TrainConfig(rank=2, max_steps=2, batch_size=3, lr=0.01, dtype="fp32", device="cpu")


@pytest.mark.model
def test_an_adapter_whose_proof_failed_is_measured_by_nobody(run, gguf, watcher, monkeypatch):
    def train(task):
        return stage.train_run(run, gguf, task, SHORT, watcher)

    run.adapter.mkdir()
    run.adapter_gguf.write_bytes(b"of a training that was killed")
    with monkeypatch.context() as m:
        m.setattr(stage, "verify", Mock(side_effect=LmsiError("the adapter does nothing")))
        told = f"{run.unproven_gguf}: the adapter does nothing"
        refused(train, load_task("number"), told=told)
    assert run.unproven_gguf.exists() and not run.adapter_gguf.exists()
    assert not run.adapter_origin.exists()
    # It is proven again, not trained again; no question is left that was not trained on.
    run.questions.write_text('{"id":"q2","question":"Ann has 2 pens and buys 2. How many pens?"}\n')
    bare, steps = msgspec.structs.replace(load_task("number"), exemplars=()), len(watcher.done)
    assert train(bare).proof.ok and len(watcher.done) == steps
    assert run.adapter_gguf.exists() and not run.unproven_gguf.exists()
