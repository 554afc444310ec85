"""What a run foretells of its time: trials, what is read off them, and what is counted."""

import pytest

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import attention, data, pace, validation
from lmsi_cli.training.pace import Costs, Pace, Trial

EACH = Costs(token=100, label=10, pair=0)


def example(length, shared=0, labels=4):
    return data.TokenExample([*range(2, length - labels + 2)], [7] * labels, shared)


def row_of(*lengths, shared=0):
    [row] = data.pack([example(n, shared) for n in lengths], 100_000)
    return row


@pytest.mark.parametrize("tokens", [1, 5, 20, 21, 30, 59, 60])
def test_a_cut_row_is_a_row(tokens):
    row = row_of(30, 50, shared=20)
    part = pace.cut(row, tokens)
    assert len(part.ids) == len(part.positions) == sum(p.length for p in part.pieces) == tokens
    assert part.ids == row.ids[:tokens] and part.pieces[0].parent is None
    assert len(part.keep) == len(part.labels) == sum(p.labels for p in part.parts) > 0
    assert max(part.keep) < tokens


def test_a_row_that_is_short_enough_stays_whole():
    row = row_of(30, 50, shared=20)
    whole = pace.cut(row, 1000)
    assert (whole.ids, whole.pieces, whole.labels) == (row.ids, row.pieces, row.labels)


def test_the_typical_row_is_the_one_in_which_half_of_the_work_is_done():
    rows = [row_of(10)] * 10 + [row_of(200), row_of(210), row_of(220)]
    one, other = pace.typical(rows, EACH)
    assert (len(one.ids), len(other.ids)) == (210, 220)
    assert pace.typical(rows[-1:], EACH) == (rows[-1], rows[-1])


def machine(monkeypatch, fixed, rate, growth=0.0):
    """Trials of a machine with known costs; returns the sizes that were tried."""
    sizes = []

    def trial(model, row, each, dtype):
        touched = max(0, len(row.ids) - max(sizes, default=0))
        sizes.append(len(row.ids))
        seconds = fixed + rate * each.of(row) + growth * touched
        return Trial(len(row.ids), each.of(row), seconds, 0.4 * seconds)

    monkeypatch.setattr(pace, "_trial", trial)
    return sizes


@pytest.fixture
def module():
    import torch

    return torch.nn.Linear(1, 1)


def test_what_a_machine_costs_is_found(module, monkeypatch):
    rows = [row_of(900), row_of(1000), row_of(1100)]
    sizes = machine(monkeypatch, fixed=0.01, rate=2e-6, growth=1e-3)
    found = pace.measure(module, rows, EACH, "fp32")
    assert sizes[:2] == [32, 33] and sizes[-2:] == [1000, 999]
    assert found.of(EACH.of(rows[2])) == pytest.approx(0.01 + 2e-6 * EACH.of(rows[2]), rel=0.2)
    assert found.forward == pytest.approx(0.4)
    assert found.once(1100) == pytest.approx(100 * 1e-3, rel=0.1) and found.once(900) == 0


def test_trials_keep_to_their_time(module, monkeypatch):
    rows = [row_of(1000) for _ in range(3)]
    for rate in (1e-5, 1e-4, 1e-3):  # 1 s, 10 s and 100 s a row
        fixed = 5000 * rate  # as on real machines, a short row costs more than its share
        sizes = machine(monkeypatch, fixed, rate)
        pace.measure(module, rows, EACH, "fp32")
        first, *later = (fixed + n * 101 * rate for n in sizes[1:])
        allowed = max(pace.SPENT, pace.SHARE * 3 * first * 1000 / 33)
        assert sum(later) <= max(0, allowed - first) or len(sizes) == 2


def test_a_long_run_tries_whole_rows_however_slow_they_are(module, monkeypatch):
    rows = [row_of(1000) for _ in range(200)]
    sizes = machine(monkeypatch, fixed=0.0, rate=1e-3)
    pace.measure(module, rows, EACH, "fp32")
    assert max(sizes) == 1000


def test_longer_rows_take_the_rate_of_the_last_stretch():
    # Up to 100 tokens a row waits for the weights: 1 s; each token beyond takes 0.01 s.
    trials = [Trial(n, n, max(1.0, n / 100), 0.0) for n in (32, 33, 132, 400, 399)]
    found = pace.read(trials)
    assert found.of(1000) == pytest.approx(10, rel=0.1)
    assert pace.read(trials[:2]).of(33) == pytest.approx(1)


def test_validations_and_their_drawn_answers_are_counted():
    told = Pace(0.0, 1.0, least=0.5)
    asked = TrainConfig(eval_every=10)
    drawn = validation.PROMPTS * validation.TOKENS * 0.5
    # After 0 to 40 steps; answers are drawn at the first and at the last one.
    assert pace.validations(3.0, told, asked, 0, 40) == 5 * 3.0 + 2 * drawn
    assert pace.validations(3.0, told, asked, 35, 40) == 3.0 + drawn


def test_a_watched_run_takes_longer_and_a_resumed_one_less(tiny, monkeypatch):
    monkeypatch.setattr(pace, "measure", lambda *_: Pace(1.0, 0.0, forward=0.5))
    model, units = tiny(), [example(20) for _ in range(8)]
    attention.install(model)
    settings = TrainConfig(max_steps=20, batch_size=4)

    def told(done=0, watched=()):
        return pace.foretell(model, units, settings, 1000, "fp32", done, watched)

    assert (told(), told(5), told(20)) == (20, 15, 0)
    assert told(watched=units[:2]) == 20 + 2 * 0.5


def test_trials_leave_a_model_as_it_was(tiny):
    import torch

    model, units = tiny(), [example(40, labels=8) for _ in range(4)]
    attention.install(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state, training = torch.get_rng_state(), model.training
    seconds = pace.foretell(model, units, TrainConfig(max_steps=2, batch_size=2), 1000, "fp32")
    assert seconds > 0 and model.training == training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
