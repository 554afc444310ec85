"""A merged file is what llama.cpp computes from base and adapter, and keeps all the rest."""

import numpy as np
import pytest
from broken_models import finish
from test_export import random_llama, write_gguf

from lmsi_cli.errors import LmsiError
from lmsi_cli.training.header import read_meta
from lmsi_cli.training.merge import merge, read_lora, tensor_types

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
    base = write_gguf(tmp_path / "base.gguf", "llama", random_llama())
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


def test_another_alignment_stays(files):
    from gguf import GGUFReader

    base, adapter, out = files
    tight = out.with_name("tight.gguf")
    write_gguf(tight, "llama", random_llama(), alignment=64)
    merge(tight, read_lora(adapter), out, 1.0)
    assert all(t.data_offset % 64 == 0 for t in GGUFReader(out).tensors)
    assert bytes(tensors(out)["output_norm.weight"].data) == bytes(
        tensors(base)["output_norm.weight"].data
    )


def test_metadata_and_the_order_of_tensors_stay(files):
    from gguf import GGUFReader

    base, adapter, out = files
    merge(base, read_lora(adapter), out, 1.0)
    old, new = (
        {f.name: (f.types, f.contents()) for f in GGUFReader(p).fields.values()
         if not f.name.startswith("GGUF.")}
        for p in (base, out)
    )  # fmt: skip
    assert old == new and list(tensors(base)) == list(tensors(out))
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
    weights = random_llama()
    weights[Q] = np.full((64, 64), 6e4, np.float16)
    base = write_gguf(tmp_path / "base.gguf", "llama", weights)
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
