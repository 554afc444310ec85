"""Preference pairs: the loss is the formula's, however packed, stopped, resumed or split."""

import json

import pytest
from builders import Watcher, preference
from toys import CODEC, gradient, job, moved

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import attention
from lmsi_cli.training.adapter import trainable
from lmsi_cli.training.data import pack, single, tokenize
from lmsi_cli.training.loop import LOG, fit, speed_up
from lmsi_cli.training.losses import accumulate


@pytest.fixture
def pairs(examples):
    """Six pairs of three formats: each example's completion against another one."""
    made = []
    for i, e in enumerate(examples[:6]):
        other = [*e.completion[:2], (e.completion[-1] + 7) % 64, i + 1]
        made.append(e._replace(weight=(i + 1) / 8, rejected=other))
    return made


def slow_logs(model, example):
    """A sequence's log-probability by the model's own code, one sequence at a time."""
    import torch

    ids = torch.tensor([example.prompt + example.completion])
    logs = model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
    first = len(example.prompt)
    return sum(logs[i - 1, ids[0, i]] for i in range(first, ids.shape[1]))


def slow_loss(model, pairs, config):
    """TRL's DPO loss (``sigmoid``, plus ``rpo_alpha`` of the chosen one), times each weight."""
    import torch
    from torch.nn.functional import logsigmoid

    total = 0.0
    for pair in pairs:
        with torch.no_grad(), model.disable_adapter():
            ref_chosen, ref_rejected = (slow_logs(model, side) for side in single([pair]))
        chosen, rejected = (slow_logs(model, side) for side in single([pair]))
        delta = (chosen - ref_chosen) - (rejected - ref_rejected)
        nll = -chosen / len(pair.completion)
        total = total + pair.weight * (-logsigmoid(config.beta * delta) + config.rpo_alpha * nll)
    return total / len(pairs)


@pytest.mark.parametrize("limit", [0, 60, 1000], ids=["a row each", "some rows", "one row"])
@pytest.mark.parametrize("fused", [False, True], ids=["libraries", "fused"])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_packed_pairs_have_the_loss_and_gradient_of_the_slow_way(tiny, pairs, limit, fused, alpha):
    config = TrainConfig(loss="scpo", rpo_alpha=alpha, row_tokens=limit)
    model = moved(tiny(), seed=1)
    slow = slow_loss(model, pairs, config)
    slow.backward()
    wanted = gradient(model)
    model.zero_grad()
    attention.install(model)
    if fused:
        assert speed_up(model, "fp32", limit)
    figures = accumulate(model, pairs, config, "fp32", len(pairs))
    assert figures["loss"] == pytest.approx(slow.item(), rel=1e-5)
    # The hand-written kernels round a little differently: by 1.3e-5 here, in packed rows.
    close = 5e-5 if fused and limit else 1e-5
    assert (gradient(model) - wanted).norm() < close * wanted.norm()
    apart = figures["rewards_chosen"] - figures["rewards_rejected"]
    assert figures["rewards_margins"] == pytest.approx(apart)


def test_a_pair_holds_its_prompt_once_and_below_the_format_s_prefix(pairs):
    both = [pairs[0], pairs[3]]  # of one format, with 20 ids in common
    [row] = pack(both)
    prompts = sum(len(p.prompt) - 1 - p.shared for p in both)
    tails = sum(1 + len(e.completion) for e in single(both))
    assert len(row.ids) == both[0].shared + prompts + tails
    chains = [attention.seen(row.pieces, i) for i in range(len(row.pieces))]
    assert chains == [[0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 4], [0, 4, 5], [0, 4, 6]]
    assert [weight for _, weight in row.parts] == [0.125, 0.125, 0.5, 0.5]


@pytest.mark.parametrize("limit", [1, 40, 70, 1000])
def test_a_pair_is_never_torn(pairs, limit):
    rows = pack(pairs, limit)
    assert all(len(row.parts) % 2 == 0 for row in rows)
    assert sum(len(row.parts) for row in rows) == 12
    lone = pack(pairs, 0)
    assert [len(row.parts) for row in lone] == [1] * 12
    assert all(a.ids[:-9] for a in lone) and lone[0].ids[:4] == lone[1].ids[:4]


def test_the_base_does_not_depend_on_the_adapter_and_is_free_to_train_again(tiny, pairs):
    rewards = []
    for model in (tiny(), moved(tiny())):
        attention.install(model)
        config = TrainConfig(loss="scpo", beta=0.5, rpo_alpha=1.0, row_tokens=1000)
        rewards.append(accumulate(model, pairs, config, "fp32", len(pairs)))
        assert all(p.requires_grad for p in trainable(model).values())
    still, away = rewards  # at first B is zero, and nothing moved
    assert still["rewards_chosen"] == still["rewards_rejected"] == still["rewards_accuracies"] == 0
    assert abs(away["rewards_chosen"]) > 0.1


def test_training_draws_the_sides_apart_and_the_log_says_so_in_trl_s_words(tiny, pairs, tmp_path):
    done = fit(tiny(), job(pairs, tmp_path, max_steps=30, loss="scpo"), Watcher())
    first, *_, last = map(json.loads, (tmp_path / LOG).read_text().splitlines())
    assert first["rewards/margins"] == 0 and last["rewards/margins"] > 1
    assert last["rewards/accuracies"] == 1
    assert {"rewards/chosen", "rewards/rejected"} < first.keys()
    assert done.log[-1].loss < done.log[0].loss / 2


def test_pairs_become_ids_and_a_pair_with_one_long_side_is_left_out():
    made = [preference(prompt="ab", chosen="c", rejected=x) for x in ("de", "d" * 20)]
    [pair], dropped = tokenize(made, CODEC, 10)
    assert dropped == 1
    assert (pair.prompt, pair.weight, pair.heads) == ([1, 97, 98], 0.5, [(1, 97)])
    assert (pair.completion, pair.rejected) == ([99, 2], [100, 101, 2])
    assert [e.completion for e in single([pair])] == [pair.completion, pair.rejected]
