"""Neither packing nor hand-written gradients change a step; a model that differs is left alone."""

import pytest
from hf_to_gguf import CASES, build
from toys import gradient, moved

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import attention
from lmsi_cli.training.adapter import add_lora
from lmsi_cli.training.architectures import PACKING
from lmsi_cli.training.data import pack
from lmsi_cli.training.load import block_linears
from lmsi_cli.training.loop import speed_up
from lmsi_cli.training.losses import token_losses
from lmsi_cli.training.trainer import recompute

PACKED = [
    name
    for name, case in CASES.items()
    if case["model"] in PACKING and name != "qwen2moe"  # a window by its name
]


def adapted(name, dtype="fp32", packs=True, spread=0.15, **settings):
    """A small model of a family, with an adapter that acts."""
    import torch

    shape = {"initializer_range": spread, **CASES[name]["config"]}
    model = build(CASES[name]["model"], **shape).train().requires_grad_(False)
    if dtype == "bf16":  # as a file is loaded
        for linear in block_linears(model).values():
            linear.to(torch.bfloat16)
    model = add_lora(model, TrainConfig(rank=4, **settings), "tiny.gguf")
    if packs:
        attention.install(model)
    return moved(model, spread)


def result(model, rows, dtype="fp32"):
    """Loss and gradient of some rows."""
    model.zero_grad()
    loss = sum(token_losses(model, row, dtype).sum() for row in rows)
    loss.backward()
    return loss.item(), gradient(model)


def agree(ours, theirs):
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    assert (ours[1] - theirs[1]).norm() < 1e-4 * theirs[1].norm()


@pytest.mark.parametrize("name", PACKED)
def test_every_family_s_loss_and_gradient_stay_the_same(name, examples):
    from lmsi_cli.training import kernels

    model, rows = adapted(name, packs=False), pack(examples, 60)
    assert attention.supports(model.config, 100)
    alone = result(model, pack(examples, 0))
    attention.install(model)
    packed = result(model, rows)
    agree(packed, alone)
    assert speed_up(model, "fp32", 60)
    assert any("forward" in vars(m) for m in model.modules())
    agree(result(model, rows), alone)
    kernels.remove(model)
    assert result(model, rows)[0] == packed[0]


@pytest.mark.parametrize("name", ["stablelm", "nemotron"])
def test_rows_whose_examples_would_see_one_another_are_refused(name, examples):
    model, rows = adapted(name, packs=False), pack(examples, 1000)
    assert not attention.supports(model.config, 100)  # so that training packs nothing
    with pytest.raises(ValueError, match=attention.NAME):
        result(model, rows)
    attention.install(model)
    with pytest.raises(ValueError, match="does not hand the pieces"):
        result(model, rows)


@pytest.mark.parametrize("name", ["llama, wide heads", "qwen2"])
def test_bf16_lies_as_near_to_fp32_as_the_libraries_do(name, examples):
    rows = pack(examples, 100)
    exact = result(adapted(name, spread=0.1), rows)
    model = adapted(name, "bf16", spread=0.1)

    def error(found):
        return ((found[1] - exact[1]).norm() / exact[1].norm()).item()

    theirs = error(result(model, rows, "bf16"))
    assert speed_up(model, "bf16", 100)
    ours = error(result(model, rows, "bf16"))
    assert 0 < ours < 1.3 * theirs


def test_what_computes_something_else_keeps_its_own_code(examples, monkeypatch):
    """PEFT's layers with dropout; and a whole model, if one of its kinds of layers differs."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    model = adapted("llama, tied", dropout=0.3)
    speed_up(model, "fp32", 60)
    patched = {type(m).__name__ for m in model.modules() if "forward" in vars(m)}
    assert patched == {"LlamaRMSNorm", "LlamaMLP"}
    plain = LlamaRMSNorm.forward  # as Gemma has it: the weight's distance from one is stored
    monkeypatch.setattr(LlamaRMSNorm, "forward", lambda self, x: plain(self, x) + x)
    model, rows = adapted("llama, tied"), pack(examples, 60)
    theirs = result(model, rows)
    assert not speed_up(model, "fp32", 60)
    assert not any("forward" in vars(m) for m in model.modules())
    assert result(model, rows)[0] == theirs[0]


@pytest.mark.parametrize("fast", [False, True])
def test_computing_again_going_back_changes_nothing(fast, examples):
    model, rows = adapted("llama, tied"), pack(examples, 100)
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
