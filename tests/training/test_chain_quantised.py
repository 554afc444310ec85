"""Every common quantisation trains, and a file that cannot be trained is refused beforehand."""

import numpy as np
import pytest
from broken_models import relabelled
from hf_to_gguf import EXTRA, build, write
from test_chain import TEXTS, torch_side

from lmsi_cli.config import TrainConfig
from lmsi_cli.engine.fast_copy import check_kind, quantise
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import adapter, load
from lmsi_cli.training.verify import SAME, check_base, gap

pytestmark = pytest.mark.model
KINDS = ("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_0", "Q4_1", "IQ4_NL",
         "IQ4_XS", "Q3_K_M", "Q2_K")  # fmt: skip
# llama.cpp rounds activations to 8 bits where weights are quantised; random layers amplify it.
WIDE = 0.05


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A llama wide enough for blocks of 256, with its logits in PyTorch."""
    folder = tmp_path_factory.mktemp("whole")
    shape = {"hidden_size": 256, "intermediate_size": 256, "initializer_range": 0.06}
    model = build("llama", **shape, head_dim=64)
    return model, write(folder / "f32.gguf", "llama", model)


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_file_loads_as_llama_cpp_computes_it(kind, whole, tmp_path):
    from llama_side import opened

    model, source = whole
    path = tmp_path / "q.gguf"
    quantise(source, path, check_kind(kind))
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


def test_a_missing_bias_is_no_bias(tmp_path):
    from llama_side import opened

    model = build("llama", attention_bias=True)
    path = write(tmp_path / "x.gguf", "llama", model, more={"attn_output.bias": None})
    with opened(path) as llama:
        ids = [llama.encode(text) for text in TEXTS]
        wanted = llama.logits(ids, False)
    assert check_base(torch_side(load.load_base(path, "fp32"), ids), wanted) < 0.003
    assert gap(torch_side(model, ids), wanted) > 0.01


NORMS = {f"blk.{i}.attn_k_norm.weight": np.ones(16, np.float32) for i in range(2)}
REFUSED = {
    "overflow": ({"kind": "F16"}, r"blk\.1\.ffn_up\.weight holds numbers that are infinite"),
    "a tensor missing": (
        {"more": {"blk.1.ffn_norm": None}}, r"no weights for blk\.1\.ffn_norm\.weight and 0 more"),
    "a tensor without a place": (
        {"more": NORMS}, r"no place for blk\.0\.attn_k_norm\.weight and 1 more"),
}  # fmt: skip


@pytest.mark.parametrize(("how", "told"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_not_the_whole_model_is_refused(tmp_path, how, told):
    model = build("llama")
    model.model.layers[1].mlp.up_proj.weight.data[3, 5] = 1e6  # more than F16 can hold
    with np.errstate(over="ignore"):
        path = write(tmp_path / "x.gguf", "llama", model, **how)
    with pytest.raises(LmsiError, match=told):
        load.load_base(path, "fp32")


def test_an_architecture_out_of_reach_is_refused(gguf, tmp_path):
    path = relabelled(gguf, tmp_path / "x.gguf", "mamba")
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
