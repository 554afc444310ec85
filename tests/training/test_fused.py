"""Hand-written gradients are the libraries' own, family by family; what differs is left alone."""

import pytest
from hf_to_gguf import build as random_model
from toys import gradient, moved

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import attention
from lmsi_cli.training.adapter import add_lora
from lmsi_cli.training.data import pack
from lmsi_cli.training.loop import speed_up
from lmsi_cli.training.losses import token_losses
from lmsi_cli.training.trainer import recompute

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "head_dim": 8}
FAMILIES = {
    "llama": {},
    "llama, biases": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen2, tied head": {"tie_word_embeddings": True},
    "qwen3": {},
    "phi3": {},
    "starcoder2": {},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}
CLOSE = 1e-4  # of the gradient's length, in fp32


def build(family, dtype="fp32", spread=0.2, **settings):
    """A small model of a family, with an adapter that acts; queries are grouped everywhere."""
    import torch

    from lmsi_cli.training.load import block_linears

    shape = {**SIZES, "initializer_range": spread, **FAMILIES.get(family, {})}
    model = random_model(family.split(",")[0], **shape).train().requires_grad_(False)
    if dtype == "bf16":  # as a file is loaded
        for linear in block_linears(model).values():
            linear.to(torch.bfloat16)
    model = add_lora(model, TrainConfig(rank=4, **settings), "tiny.gguf")
    attention.install(model)
    return moved(model, spread)


def result(model, rows, dtype="fp32"):
    """Loss and gradient of some rows."""
    model.zero_grad()
    loss = sum(token_losses(model, row, dtype).sum() for row in rows)
    loss.backward()
    return loss.item(), gradient(model)


def agree(ours, theirs, close=CLOSE):
    assert ours[0] == pytest.approx(theirs[0], rel=close)
    assert (ours[1] - theirs[1]).norm() < close * theirs[1].norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_s_loss_and_gradient_stay_the_same(family, examples):
    from lmsi_cli.training import kernels

    model, rows = build(family), pack(examples, 60)
    theirs = result(model, rows)
    assert speed_up(model, "fp32", 60)
    assert any("forward" in vars(m) for m in model.modules())
    agree(result(model, rows), theirs)
    kernels.remove(model)
    assert result(model, rows)[0] == theirs[0]


@pytest.mark.parametrize("family", ["stablelm", "nemotron"])
def test_a_family_that_keeps_the_pieces_to_itself_is_found_out(family, examples):
    model = build(family)
    assert not attention.supports(model.config, 100)  # so that training packs nothing
    with pytest.raises(ValueError, match="does not hand the pieces"):
        result(model, pack(examples, 1000))


@pytest.mark.parametrize("family", ["llama", "qwen2, tied head"])
def test_bf16_lies_as_near_to_fp32_as_the_libraries_do(family, examples):
    rows = pack(examples, 100)
    exact = result(build(family, spread=0.1), rows)
    model = build(family, "bf16", spread=0.1)

    def error(found):
        return ((found[1] - exact[1]).norm() / exact[1].norm()).item()

    theirs = error(result(model, rows, "bf16"))
    assert speed_up(model, "bf16", 100)
    ours = error(result(model, rows, "bf16"))
    assert 0 < ours < 1.3 * theirs


def test_a_model_that_computes_something_else_keeps_its_own_code(examples, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    plain = LlamaRMSNorm.forward  # as Gemma has it: the weight's distance from one is stored
    monkeypatch.setattr(LlamaRMSNorm, "forward", lambda self, x: plain(self, x) + x)
    model, rows = build("llama"), pack(examples, 60)
    theirs = result(model, rows)
    assert not speed_up(model, "fp32", 60)
    assert not any("forward" in vars(m) for m in model.modules())
    assert result(model, rows)[0] == theirs[0]


def test_dropout_keeps_peft_s_layers(examples):
    model = build("llama", dropout=0.3)
    speed_up(model, "fp32", 60)
    patched = {type(m).__name__ for m in model.modules() if "forward" in vars(m)}
    assert patched == {"LlamaRMSNorm", "LlamaMLP"}


@pytest.mark.parametrize("fast", [False, True])
def test_computing_again_going_back_changes_nothing(fast, examples):
    model, rows = build("llama"), pack(examples, 100)
    model.train()
    if fast:
        speed_up(model, "fp32", 100)
    calls = []
    block = next(m for m in model.modules() if type(m).__name__ == "LlamaMLP")
    block.register_forward_pre_hook(lambda *_: calls.append(1))  # it may stop before its end
    kept = result(model, rows)
    once = len(calls)
    recompute(model)
    agree(result(model, rows), kept)
    assert once and len(calls) == 3 * once  # and twice now


def test_the_head_s_loss_is_the_cross_entropy_whatever_the_pieces(monkeypatch):
    """Of every token by itself, as their weights differ."""
    import torch

    from lmsi_cli.training import kernels

    monkeypatch.setattr(kernels, "HEAD_ROWS", 3)
    torch.manual_seed(0)
    h, weights = torch.randn(7, 8, requires_grad=True), torch.rand(7)
    w, labels = 30 * torch.randn(20, 8), torch.randint(20, (7,))  # sure of itself: logits near 200
    ours = kernels.HeadLosses.apply(h, w, labels, torch.float32)
    theirs = torch.nn.functional.cross_entropy(h @ w.t(), labels, reduction="none")
    torch.testing.assert_close(ours, theirs)
    got, wanted = (torch.autograd.grad((x * weights).sum(), h)[0] for x in (ours, theirs))
    assert (got - wanted).norm() < 1e-5 * wanted.norm()
