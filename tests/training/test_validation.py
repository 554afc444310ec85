"""What is measured on questions that training does not see, and what that measuring must not do."""

import random

import pytest
from toys import Watcher

from lmsi_cli.config import TrainConfig
from lmsi_cli.records import TrainExample
from lmsi_cli.training import checkpoint, validation
from lmsi_cli.training.data import TokenExample, share_prefixes
from lmsi_cli.training.loop import fit
from lmsi_cli.training.lora import trainable
from lmsi_cli.training.state import Job
from lmsi_cli.training.validation import Validator, Watched, due, one_each, split


def pairs(questions, each=3):
    """Training examples of several formats per question."""
    return [
        TrainExample(prompt="Q", completion=" A", format=kind, question_id=f"q{n}", path=k)
        for n in range(questions)
        for k, kind in zip(range(each), ["cot-few", "cot-zero", "cot-zero"], strict=True)
    ]


@pytest.mark.parametrize(
    ("questions", "share", "held"),
    [(79, 0.05, 0), (80, 0.05, 8), (400, 0.05, 20), (4000, 0.05, 64), (400, 0.0, 0)],
)
def test_questions_are_set_apart_whole(questions, share, held):
    parts = split(pairs(questions), share)
    sides = [{e.question_id for e in side} for side in parts]
    assert len(sides[1]) == held and not sides[0] & sides[1]
    assert len(parts.held) == 3 * held and len(parts.train) == 3 * (questions - held)


def test_those_that_stay_keep_their_order_and_more_questions_hold_out_the_same_ones():
    few, many = split(pairs(400), 0.05), split(pairs(800), 0.05)
    assert few.train == [e for e in pairs(400) if e in few.train]
    ids = {e.question_id for e in many.held}
    assert sum(e.question_id in ids for e in few.held) > len(few.held) / 2


def test_one_example_per_question_of_either_format():
    found = one_each(pairs(60))
    assert len(found) == len({e.question_id for e in found}) == 60
    assert {e.format for e in found} == {"cot-few", "cot-zero"}
    assert found == one_each(list(reversed(pairs(60))))


@pytest.mark.parametrize(
    ("total", "every", "steps"),
    [
        (400, 0, [*range(0, 401, 40)]),
        (50, 0, [0, 20, 40, 50]),
        (10, 4, [0, 4, 8, 10]),
        (4, 0, [0, 4]),
    ],
)
def test_some_ten_validations_and_the_last_step(total, every, steps):
    assert [s for s in range(total + 1) if due(s, total, every)] == steps


def held(examples, seed=1):
    """Examples of the same kind as the fixture's, with other tails."""
    rng = random.Random(seed)
    return share_prefixes(
        [e._replace(completion=[rng.randrange(64) for _ in e.completion]) for e in examples],
        [str(i % 3) for i in range(len(examples))],
    )


def test_the_base_has_no_divergence_from_itself_and_packing_changes_nothing(tiny, examples):
    import torch

    model = tiny()
    packed = Validator(model, Watched(examples, True), 0, "fp32")
    first = packed.read(0, draw=True)
    assert first.divergence == pytest.approx(0, abs=1e-6) and 0 < first.evenness <= 1
    for p in trainable(model).values():
        torch.nn.init.normal_(p, std=0.3)
    moved = packed.read(1, draw=False)
    assert moved.divergence > 0.05 and moved.loss != first.loss and moved.evenness is None


def test_the_divergence_is_a_lower_bound_and_nearly_the_whole(tiny, examples, monkeypatch):
    import torch

    def measured(cells):
        monkeypatch.setattr(validation, "CELLS", cells)
        model = tiny()
        validator = Validator(model, Watched(examples, True), 0, "fp32")
        torch.manual_seed(0)
        for p in trainable(model).values():
            torch.nn.init.normal_(p, std=0.2)
        return validator.read(1, draw=False).divergence

    whole, lumped = measured(63), measured(16)
    assert 0 < lumped < whole


def run(model, examples, out, watched, **config):
    settings = TrainConfig(
        **{"lr": 0.02, "max_steps": 12, "batch_size": 4, "rank": 4, "dropout": 0.2, **config}
    )
    name = checkpoint.fingerprint(None, examples, settings)
    return fit(model, Job(examples, settings, "fp32", out, name, watched), Watcher())


def test_a_watched_run_computes_what_an_unwatched_one_does(tiny, examples, tmp_path):
    """Dropout draws from the same generator as the drawn answers would."""
    plain = run(tiny(dropout=0.2), examples, tmp_path / "a", None)
    seen = run(tiny(dropout=0.2), examples, tmp_path / "b", Watched(examples, False), eval_every=3)
    assert [x.loss for x in plain.log] == [x.loss for x in seen.log]
    assert [r.step for r in seen.readings] == [0, 3, 6, 9, 12] and not plain.readings


def test_the_best_adapter_is_the_one_that_is_left(tiny, examples, tmp_path):
    model = tiny()
    watched = Watched(held(examples), True)  # other completions: learning the first ones hurts
    done = run(model, examples, tmp_path, watched, eval_every=2, max_steps=30, alarms=False)
    lowest = min(done.readings[1:], key=lambda r: r.loss)
    assert done.best == lowest.step < 30
    again = Validator(model, watched, 1536, "fp32").read(lowest.step, draw=False)
    assert again.loss == pytest.approx(lowest.loss, abs=1e-6)
    assert not model.training


def test_patience_ends_a_run_that_no_longer_gains(tiny, examples, tmp_path):
    watched = Watched(held(examples), True)
    config = {"eval_every": 2, "max_steps": 40, "alarms": False, "patience": 3}
    done = run(tiny(), examples, tmp_path, watched, **config)
    assert "no lower loss on held-out questions since step" in done.stopped
    assert len(done.log) < 40
    again = run(tiny(), examples, tmp_path, watched, **config)  # the same end, at once
    assert again == done


def test_without_held_out_questions_nothing_is_called_best(tiny, examples, tmp_path):
    done = run(tiny(), examples, tmp_path, None)
    assert (done.best, done.stopped, done.readings) == (None, "", [])
    assert not (tmp_path / checkpoint.BEST).exists()
    assert not (tmp_path / validation.LOG).exists()


def test_a_text_of_one_token_cannot_be_measured():
    assert validation.watched([TokenExample([], [5])], True) is None
