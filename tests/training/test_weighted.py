"""Examples of unequal weight, and the plain path, which weights must leave as it was."""

import pytest
from toys import Watcher

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import attention, checkpoint, devices, fused, kernels
from lmsi_cli.training.data import pack, to_batch
from lmsi_cli.training.loop import fit
from lmsi_cli.training.lora import trainable
from lmsi_cli.training.schedule import learning_rate, plan
from lmsi_cli.training.state import Job
from lmsi_cli.training.step import accumulate, row_loss, speed_up


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
    figures = accumulate(model, examples, limit, "fp32")
    assert figures.loss == pytest.approx(wanted.item(), rel=1e-5)
    assert (gradient(model) - theirs).norm() < 2e-5 * theirs.norm()


def test_a_weight_of_two_is_the_example_twice(tiny, examples):
    model = moved(tiny())
    attention.install(model)
    heavy = [examples[0]._replace(weight=2.0), *examples[1:3]]
    one = accumulate(model, heavy, 1000, "fp32").loss * sum(len(e.completion) for e in heavy)
    twice = [examples[0], *examples[:3]]
    two = accumulate(model, twice, 1000, "fp32").loss * sum(len(e.completion) for e in twice)
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


def written_out(h, w, labels):
    """The summed loss of a head, in the order of operations that plain training has always had."""
    import torch

    losses = []
    for part, wanted in zip(torch.split(h, 128), torch.split(labels, 128), strict=True):
        logits = part @ w.t()
        top = logits.amax(1, keepdim=True).float()
        hit = logits.gather(1, wanted[:, None]).float()
        total = logits.float().sub_(top).exp_().sum(1, keepdim=True)
        losses.append((total.log() + top - hit).sum())
    return torch.stack(losses).sum()


def test_the_plain_head_is_bit_for_bit_what_it_was():
    import torch

    torch.manual_seed(0)
    h, w, labels = torch.randn(300, 16), torch.randn(50, 16), torch.randint(50, (300,))
    got = kernels.head_loss().apply(h, w, labels, torch.float32)
    assert torch.equal(got, written_out(h, w, labels))


@pytest.mark.parametrize("packed", [True, False])
def test_plain_training_is_bit_for_bit_the_plain_loop(tiny, examples, tmp_path, packed):
    """Rows, sums and divisions as they were before there were weights and pairs."""
    import torch

    config = TrainConfig(rank=4, lr=0.02, batch_size=4, max_steps=6, row_tokens=60 if packed else 0)
    name = checkpoint.fingerprint(None, examples, config)
    log = fit(tiny(), Job(examples, config, "fp32", tmp_path, name), Watcher()).log

    torch.manual_seed(config.seed)
    model = tiny()
    attention.install(model)
    fused.replace(model)
    model.train()
    optimizer = devices.adamw(trainable(model).values(), config)
    steps = plan(len(examples), config)
    for number, (indices, line) in enumerate(zip(steps, log, strict=True)):
        rows = pack([examples[i] for i in indices], config.row_tokens)
        count, total = sum(len(row.labels) for row in rows), 0.0
        for row in rows:
            batch = to_batch(row)
            decoder, head = fused.head_of(model)
            pieces = attention.argument(model, batch.pieces)
            hidden = decoder(
                input_ids=batch.ids, position_ids=batch.positions, use_cache=False, **pieces
            ).last_hidden_state[0, batch.keep]
            loss = kernels.head_loss().apply(hidden, head.weight, batch.labels, torch.float32)
            loss = loss / count
            loss.backward()
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(trainable(model).values(), config.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number, len(steps), config)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert (line.loss, line.grad_norm) == (total, float(norm))


def test_equal_weights_take_the_plain_way(tiny, examples, monkeypatch):
    from lmsi_cli.training import step

    monkeypatch.setattr(step, "token_losses", None)
    [row] = pack(examples)
    model = tiny()
    attention.install(model)
    assert row_loss(model, to_batch(row), "fp32").item() > 0
