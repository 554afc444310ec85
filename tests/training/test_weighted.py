"""Examples of unequal weight count so much more or less, however packed."""

import pytest

from lmsi_cli.training import attention, kernels
from lmsi_cli.training.adapter import trainable
from lmsi_cli.training.step import accumulate, speed_up


def tokens_of(examples):
    return sum(e.predicted for e in examples)


def gradient(model):
    import torch

    return torch.cat([p.grad.flatten() for p in trainable(model).values()])


def moved(model):
    import torch

    for p in trainable(model).values():
        torch.nn.init.normal_(p, std=0.2)
    return model


def slow(model, examples):
    """The weighted mean over all completion tokens, an example at a time, by the model's code."""
    import torch
    from torch.nn.functional import cross_entropy

    total, tokens = 0.0, 0
    for e in examples:
        ids = torch.tensor([e.prompt + e.completion])
        logits = model(input_ids=ids, use_cache=False).logits[0, len(e.prompt) - 1 : -1]
        total = total + e.weight * cross_entropy(
            logits, torch.tensor(e.completion), reduction="sum"
        )
        tokens += len(e.completion)
    return total / tokens


@pytest.mark.parametrize("limit", [0, 60, 1000], ids=["a row each", "some rows", "one row"])
@pytest.mark.parametrize("by_hand", [False, True], ids=["libraries", "fused"])
def test_weighted_examples_count_so_much_however_packed(tiny, examples, limit, by_hand):
    model = moved(tiny())
    examples = [e._replace(weight=i / 4) for i, e in enumerate(examples)]
    wanted = slow(model, examples)
    wanted.backward()
    theirs = gradient(model)
    model.zero_grad()
    attention.install(model)
    if by_hand:
        assert speed_up(model, "fp32", limit)
    figures = accumulate(model, examples, limit, "fp32", tokens_of(examples))
    assert figures.loss == pytest.approx(wanted.item(), rel=1e-5)
    assert (gradient(model) - theirs).norm() < 2e-5 * theirs.norm()


def test_a_weight_of_two_is_the_example_twice(tiny, examples):
    model = moved(tiny())
    attention.install(model)
    heavy = [examples[0]._replace(weight=2.0), *examples[1:3]]
    one = accumulate(model, heavy, 1000, "fp32", 10).loss
    two = accumulate(model, [examples[0], *examples[:3]], 1000, "fp32", 10).loss
    assert one == pytest.approx(two, rel=1e-5)


def test_every_token_s_loss_adds_up_to_the_row_s(tiny, examples):
    import torch

    torch.manual_seed(0)
    h, w = torch.randn(300, 16, requires_grad=True), torch.randn(50, 16)
    labels, weights = torch.randint(50, (300,)), torch.rand(300)
    each = kernels.head_losses().apply(h, w, labels, torch.float32)
    wanted = torch.nn.functional.cross_entropy(h @ w.t(), labels, reduction="none")
    torch.testing.assert_close(each, wanted)
    (got,) = torch.autograd.grad((each * weights).sum(), h)
    (theirs,) = torch.autograd.grad((wanted * weights).sum(), h)
    torch.testing.assert_close(got, theirs)
