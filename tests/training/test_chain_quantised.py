"""Every common quantisation trains, and a file that cannot be trained is refused beforehand."""

import ctypes

import numpy as np
import pytest
from hf_to_gguf import EXTRA, build, write
from test_chain import TEXTS, torch_side
from test_export import write_gguf

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import adapter, load
from lmsi_cli.training.verify import SAME, check_base, gap

pytestmark = pytest.mark.model
# llama.cpp's numbers of file types.
KINDS = {
    "F16": 1,
    "BF16": 32,
    "Q8_0": 7,
    "Q6_K": 18,
    "Q5_K_M": 17,
    "Q5_0": 8,
    "Q4_K_M": 15,
    "Q4_0": 2,
    "Q4_1": 3,
    "IQ4_NL": 25,
    "IQ4_XS": 30,
    "Q3_K_M": 12,
    "Q2_K": 10,
}
# llama.cpp rounds activations to 8 bits where weights are quantised; random layers amplify it.
WIDE = 0.05


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A llama wide enough for blocks of 256, with its logits in PyTorch."""
    folder = tmp_path_factory.mktemp("whole")
    shape = {"hidden_size": 256, "intermediate_size": 256, "initializer_range": 0.06}
    model = build("llama", **shape, head_dim=64)
    return model, write(folder / "f32.gguf", "llama", model)


def quantise(source, out, number):
    import llama_cpp as c
    from llama_side import SILENT

    c.llama_log_set(SILENT, ctypes.c_void_p(0))
    settings = c.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = number, 1
    assert c.llama_model_quantize(str(source).encode(), str(out).encode(), settings) == 0
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_file_loads_as_llama_cpp_computes_it(kind, whole, tmp_path):
    from llama_side import opened

    model, source = whole
    path = quantise(source, tmp_path / "q.gguf", KINDS[kind])
    loaded = load.load_base(path, "fp32")
    with opened(path) as llama:
        ids = [llama.encode(text) for text in TEXTS]
        wanted = llama.logits(ids, False)
    mine = torch_side(loaded, ids)
    apart, lost = gap(wanted, mine), gap(mine, torch_side(model, ids))
    assert check_base(mine, wanted) == apart < (SAME if kind in ("F16", "BF16") else WIDE)
    assert apart < 0.01 or apart < lost  # nearer to the file than the file to the original


def test_bf16_training_holds_the_blocks_in_half_the_memory(whole):
    import torch

    loaded = load.load_base(whole[1], "bf16")
    kinds = {n: p.dtype for n, p in loaded.named_parameters()}
    assert kinds["model.layers.0.mlp.up_proj.weight"] is torch.bfloat16
    assert kinds["model.embed_tokens.weight"] is kinds["model.norm.weight"] is torch.float32


def test_a_type_that_cannot_be_dequantised_is_refused(whole, monkeypatch):
    import gguf

    real = gguf.dequantize

    def lacking(data, kind):
        if kind == gguf.GGMLQuantizationType.F32:
            raise NotImplementedError
        return real(data, kind)

    monkeypatch.setattr(gguf, "dequantize", lacking)
    with pytest.raises(LmsiError, match="is stored as F32, which cannot be dequantised") as e:
        load.load_base(whole[1], "fp32")
    assert "another quantisation" in e.value.hint


def test_a_weight_that_overflows_f16_is_refused(tmp_path):
    import torch

    model = build("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = 1e6
    with np.errstate(over="ignore"):
        path = write(tmp_path / "x.gguf", "llama", model, kind="F16")
    with pytest.raises(LmsiError, match=r"blk\.1\.ffn_up\.weight holds numbers that are infinite"):
        load.load_base(path, "fp32")


def test_a_missing_bias_is_no_bias_and_any_other_gap_is_refused(tmp_path):
    from llama_side import opened

    model = build("llama", attention_bias=True)
    path = write(tmp_path / "x.gguf", "llama", model, more={"attn_output.bias": None})
    with opened(path) as llama:
        ids = [llama.encode(text) for text in TEXTS]
        wanted = llama.logits(ids, False)
    assert check_base(torch_side(load.load_base(path, "fp32"), ids), wanted) < 0.003
    assert gap(torch_side(model, ids), wanted) > 0.01
    path = write(tmp_path / "y.gguf", "llama", model, more={"blk.1.ffn_norm": None})
    with pytest.raises(LmsiError, match=r"no weights for blk\.1\.ffn_norm\.weight and 0 more"):
        load.load_base(path, "fp32")


def test_a_tensor_that_transformers_has_no_place_for_is_refused(tmp_path):
    norms = {f"blk.{i}.attn_k_norm.weight": np.ones(16, np.float32) for i in range(2)}
    path = write(tmp_path / "x.gguf", "llama", build("llama"), more=norms)
    with pytest.raises(LmsiError, match=r"no place for blk\.0\.attn_k_norm\.weight and 1 more"):
        load.load_base(path, "fp32")


def test_an_architecture_out_of_reach_is_refused(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", "mamba", {})
    with pytest.raises(LmsiError, match=r"not possible: .*'mamba'.*sampling and voting work"):
        adapter.preflight(path, TrainConfig())
    with pytest.raises(LmsiError, match=r"missing\.gguf: not a readable GGUF"):
        adapter.preflight(tmp_path / "missing.gguf", TrainConfig())


def test_yarn_with_a_scale_of_its_own_is_refused(tmp_path, monkeypatch):
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
    model = build("qwen2", rope_parameters=rope | {"original_max_position_embeddings": 64})
    model.config.odd = 1.5
    monkeypatch.setitem(EXTRA, "odd", "add_rope_scaling_yarn_attn_factor")
    path = write(tmp_path / "x.gguf", "qwen2", model)
    with pytest.raises(LmsiError, match="yarn with yarn_attn_factor"):
        adapter.preflight(path, TrainConfig())
