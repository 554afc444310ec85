"""What a folder gives to train on; a step's loss is the formula's, however its rows are packed."""

import json
from types import SimpleNamespace

import pytest
from builders import Watcher, example, preference, refused
from toys import CODEC, gradient, job, moved

from lmsi_cli.config import TrainConfig
from lmsi_cli.jsonl import write_records
from lmsi_cli.run_folder import RunDir
from lmsi_cli.training import attention
from lmsi_cli.training.adapter import trainable
from lmsi_cli.training.data import pack, single, tokenize
from lmsi_cli.training.examples import check, chosen, one_each, origin, read, split
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


def test_texts_become_ids_with_their_format_s_prefix_and_a_pair_with_a_long_side_is_left_out():
    [one], _ = tokenize([example(prompt="ab", completion="c")], CODEC, 10)
    assert (one.prompt, one.completion, one.name) == ([1, 97, 98], [99, 2], "q1 (cot-zero)")
    made = [preference(prompt="ab", chosen="c", rejected=x) for x in ("de", "d" * 20)]
    [pair], dropped = tokenize(made, CODEC, 10)
    assert (pair.prompt, pair.weight, dropped) == ([1, 97, 98], 0.5, 1)
    assert (pair.completion, pair.rejected) == ([99, 2], [100, 101, 2])
    few, other = "x" * 20, "y" * 20
    asked = {
        "cot-few": [few + "ab", few + "ac"],
        "direct-few": [other + "a", other + "b"],
        "cot-zero": ["short a", "short b"],
    }
    texts = [example(prompt=p, format=kind) for kind, both in asked.items() for p in both]
    kept, _ = tokenize(texts, CODEC, 100)
    assert [e.shared for e in kept] == [22, 22, 21, 21, 0, 0]  # BOS counts; 7 are not worth it


def test_rows_fill_up_to_the_limit_lose_nothing_and_hold_a_prefix_once(examples):
    for limit in (0, 40, 60, 100, 1000):
        rows = pack(examples, limit)
        assert sum(len(r.labels) for r in rows) == sum(len(e.completion) for e in examples)
        assert all(len(r.ids) <= limit or len(r.pieces) <= 2 for r in rows)
    [row] = rows
    assert len(row.ids) == 20 + 30 + sum(e.length - e.shared for e in examples)


def test_a_pair_holds_its_prompt_once_and_is_never_torn(pairs):
    both = [pairs[0], pairs[3]]  # of one format, with 20 ids in common
    [row] = pack(both)
    prompts = sum(len(p.prompt) - 1 - p.shared for p in both)
    assert len(row.ids) == 20 + prompts + sum(1 + len(e.completion) for e in single(both))
    for limit in (1, 40, 70, 1000):
        rows = pack(pairs, limit)
        assert all(len(row.parts) % 2 == 0 for row in rows)
        assert sum(len(row.parts) for row in rows) == 12
    assert [len(row.parts) for row in pack(pairs, 0)] == [1] * 12


def test_only_plain_causal_attention_is_packed():
    for window, fits in ((2048, True), (2047, False)):
        config = SimpleNamespace(model_type="phi3", sliding_window=window)
        assert attention.supports(config, 2048) is fits
    mixed = SimpleNamespace(model_type="qwen3", layer_types=["full_attention", "sliding_attention"])
    assert not attention.supports(mixed, 2048)


# -- the loss of a step ----------------------------------------------------------------------------


def logs(model, example):
    """A completion's log-probability by the model's own code, one sequence at a time."""
    import torch

    ids = torch.tensor([example.prompt + example.completion])
    found = model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
    return sum(found[i - 1, ids[0, i]] for i in range(len(example.prompt), ids.shape[1]))


def slow_loss(model, batch, config):
    """The mean over all completion tokens; of pairs, TRL's DPO loss times each weight.

    That is ``sigmoid``, plus ``rpo_alpha`` of the chosen one.
    """
    import torch
    from torch.nn.functional import logsigmoid

    if config.loss == "sft":
        return -sum(logs(model, e) for e in batch) / sum(len(e.completion) for e in batch)
    total = 0.0
    for pair in batch:
        with torch.no_grad(), model.disable_adapter():
            ref_chosen, ref_rejected = (logs(model, side) for side in single([pair]))
        chosen, rejected = (logs(model, side) for side in single([pair]))
        delta = (chosen - ref_chosen) - (rejected - ref_rejected)
        nll = -chosen / len(pair.completion)
        total = total + pair.weight * (-logsigmoid(config.beta * delta) + config.rpo_alpha * nll)
    return total / len(batch)


@pytest.fixture(params=[0, 1 << 19], ids=["torch's attention", "ours"])
def kernel(request, monkeypatch):
    monkeypatch.setattr(attention, "SMALL", request.param)


CONFIGS = [
    TrainConfig(loss=loss, rpo_alpha=alpha, row_tokens=limit)
    for loss, alpha in (("sft", 1.0), ("scpo", 0.0), ("scpo", 1.0))
    for limit in (0, 60, 1000)  # a row each, some rows, one row
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.loss} {c.rpo_alpha} {c.row_tokens}")
@pytest.mark.parametrize("by_hand", [False, True], ids=["libraries", "fused"])
@pytest.mark.usefixtures("kernel")
def test_a_step_is_that_of_one_sequence_at_a_time(tiny, examples, pairs, config, by_hand):
    batch = pairs if config.loss == "scpo" else examples
    model = moved(tiny(), seed=1)
    slow = slow_loss(model, batch, config)
    slow.backward()
    wanted = gradient(model)
    model.zero_grad()
    attention.install(model)
    if by_hand:
        assert speed_up(model, "fp32", config.row_tokens)
    over = len(pairs) if config.loss == "scpo" else sum(e.predicted for e in examples)
    figures = accumulate(model, batch, config, "fp32", over)
    assert all(p.requires_grad for p in trainable(model).values())
    assert figures["loss"] == pytest.approx(slow.item(), rel=1e-5)
    assert (gradient(model) - wanted).norm() < 1e-4 * wanted.norm()


def test_training_draws_the_sides_apart_and_the_log_says_so_in_trl_s_words(tiny, pairs, tmp_path):
    fit(tiny(), job(pairs, tmp_path, max_steps=30, loss="scpo"), Watcher())
    first, *_, last = map(json.loads, (tmp_path / LOG).read_text().splitlines())
    figures = ("chosen", "rejected", "margins", "accuracies")  # at first nothing has moved
    assert {first[f"rewards/{name}"] for name in figures} == {0}
    margin = last["rewards/chosen"] - last["rewards/rejected"]
    assert last["rewards/margins"] == pytest.approx(margin)
    assert margin > 1 and last["rewards/accuracies"] == 1
    assert last["loss"] < first["loss"] / 2


# -- what a folder gives to train on ---------------------------------------------------------------


def test_the_loss_says_which_file_is_read_and_named_by_its_hash(tmp_path):
    run, scpo = RunDir(tmp_path), TrainConfig(loss="scpo")
    write_records(run.train, [example("q1"), example("q2")])
    write_records(run.pairs, [preference(), preference(0.0)])
    assert list(read(run, TrainConfig())) == [example("q1"), example("q2")]
    assert list(read(run, scpo)) == [preference(), preference(0.0)]
    assert list(origin(run, TrainConfig())) == ["train_sha256"]
    assert list(origin(run, scpo)) == ["pairs_sha256"]
    write_records(run.pairs, [preference(0.0)])
    told = "... pairs.jsonl: no preference pairs"
    refused(check, run, scpo, told=told, hint="--set pair_share=0.25")


def many(questions):
    """Three examples of two formats for each question."""
    return [
        example(f"q{n}", format=kind, path=k)
        for n in range(questions)
        for k, kind in enumerate(["cot-few", "cot-zero", "cot-zero"])
    ]


@pytest.mark.parametrize(
    ("questions", "share", "held"),
    [(79, 0.05, 0), (80, 0.05, 8), (400, 0.05, 20), (4000, 0.05, 64), (400, 0.0, 0)],
)
def test_questions_are_set_apart_whole(questions, share, held):
    train, apart = split(many(questions), share)
    sides = [{e.question_id for e in side} for side in (train, apart)]
    assert len(sides[1]) == held and not sides[0] & sides[1]
    assert len(apart) == 3 * held and len(train) == 3 * (questions - held)


def test_one_example_per_question_of_either_format_or_of_a_pair_the_chosen_side():
    found = one_each(many(60))
    assert len(found) == len({e.question_id for e in found}) == 60
    assert {e.format for e in found} == {"cot-few", "cot-zero"}
    assert found == one_each(list(reversed(many(60))))
    assert chosen([preference(), example("q2")]) == [example("q1"), example("q2")]
