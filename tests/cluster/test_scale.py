"""The simulated cluster of `benchmarks/scale.py`, small: all is drawn once, and seconds add up."""

import msgspec
import pytest

from benchmarks.cluster import simulate
from benchmarks.fleet import Fleet, Timings
from benchmarks.scale import TIMINGS, driver_s
from lmsi_cli.lines import encode_line
from lmsi_cli.records import Path

STEADY = Fleet(workers=20, spread=0.0, slow=0.0, life=1e9, pause=0.0)


def timings():
    return msgspec.json.decode(TIMINGS.read_bytes(), type=Timings)


def test_an_even_fleet_is_busy():
    ran = simulate(timings(), STEADY, questions=10_000, paths=32)
    assert (ran.kept, ran.missing, ran.again, ran.deaths) == (320_000, 0, 0, 0)
    assert ran.utilisation > 0.95
    assert ran.twice < 0.01 * ran.kept  # what idle workers drew at the end
    assert ran.utilisation + ran.ending + ran.idle + ran.lost == pytest.approx(1, abs=0.003)


def test_deaths_cost_work_and_no_path():
    mortal = msgspec.structs.replace(STEADY, life=600.0, cut_off=0.5)
    ran = simulate(timings(), mortal, questions=10_000, paths=32)
    assert ran.deaths > 10
    assert ran.again == 0
    # a death of each worker in ten minutes: chance may meet one question three times
    assert ran.set_apart <= 1 and ran.missing <= 32 * ran.set_apart
    assert ran.twice > 0 and ran.lost > 0  # what came late of workers held for dead


def test_who_stands_still_at_the_end_holds_nobody_up():
    restless = msgspec.structs.replace(STEADY, pause=60.0, between=600.0)
    ran = simulate(timings(), restless, questions=10_000, paths=32)
    assert (ran.missing, ran.again) == (0, 0)
    assert ran.paused > 0.05
    assert ran.tail_s < 20  # of 60 that each stands still for
    assert ran.utilisation + ran.paused > 0.95


def test_memory_follows_the_fleet_and_not_the_questions():
    few, many = (simulate(timings(), STEADY, n, 32).dispatch_mib for n in (8_000, 16_000))
    assert max(many) < 1.3 * max(few)
    assert many[-1] < many[0]


def test_the_same_seed_is_the_same_run():
    one, two = (simulate(timings(), Fleet(workers=10), 500, 8) for _ in range(2))
    kept = {"rss_mib", "wall_s", "dispatch_us"}
    assert all(getattr(one, f) == getattr(two, f) for f in set(one.__struct_fields__) - kept)


def test_the_drivers_part_is_timed():
    path = Path(
        question_id="q", path=0, seed=1, text=" 1.", num_generated_tokens=2, logprob=-1.0,
        stop_reason="answer", predicted_answer="1", extract_rule="marker",
    )  # fmt: skip
    assert 1e-7 < driver_s([encode_line(path)], times=500) < 1e-2
