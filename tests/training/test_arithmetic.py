"""bf16 is taken where it is measured to be faster, by a margin that noise does not cross."""

import pytest

from lmsi_cli.training import arithmetic
from lmsi_cli.training.arithmetic import Rates, compare


@pytest.mark.parametrize(
    ("bf16", "pays"), [(400e9, True), (131e9, True), (129e9, False), (100e9, False), (2e9, False)]
)
def test_bf16_must_win_by_a_margin(bf16, pays):
    assert Rates(bf16=bf16, fp32=100e9).pays is pays


def test_the_best_of_several_turns_counts(monkeypatch):
    # Two clock readings per product: bf16 takes 9 (first turn), then 1; fp32 9, then 2, once 50.
    spans = [9, 9] + [1, 50] + [1, 2] + [7, 2] * (arithmetic.TURNS - 2)
    readings = iter([t for span in spans for t in (0, span)])
    monkeypatch.setattr(arithmetic.time, "perf_counter", lambda: next(readings))
    rates = compare(8, 4)
    assert rates.bf16 == 2 * rates.fp32 == 2 * arithmetic.TOKENS * 8 * 4
