"""Spoiled files of every kind: a right result, or one line that names the file; see ``feeding``.

At full length, by hand, with what came of it in a table: `pytest tests/fuzz --inputs 10000 -s`.
"""

from collections import Counter
from operator import attrgetter

import feeding
import kinds
import pytest
from hypothesis import given
from hypothesis import strategies as st

# Inputs of each kind where no number is asked for; those of a run folder are whole commands.
FEW = {"questions": 200, "tables": 60, "run": 40, "trained": 0, "adapter": 12, "model": 60,
       "loaded": 30, "template": 80, "replies": 30}  # fmt: skip


@pytest.mark.model
@pytest.mark.parametrize("kind", FEW)
def test_rubbish_is_read_rightly_or_refused_in_a_line(kind, request):
    count = request.config.getoption("--inputs", 0) or FEW[kind]
    if not count:
        pytest.skip("by hand only: it trains")
    told = list(feeding.feed(kind, range(count)))
    codes = Counter(o.code for o in told)
    slowest, largest = (max(told, key=attrgetter(name)) for name in ("seconds", "mib"))
    print(f"\n{kind}: {count} inputs, exit codes {dict(codes)}, slowest {slowest.seconds:.2f} s, "
          f"most memory {largest.mib:.0f} MiB")  # fmt: skip
    assert not [f"{kind}:{o.number}: {o.fault}" for o in told if o.fault]


@pytest.mark.parametrize("kind", ["questions", "tables"])
def test_hypothesis_finds_no_smaller_fault(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = kinds.KINDS[kind](tmp_path)

    @given(st.randoms(use_true_random=False))  # chance that it can shrink
    def fed(rng):
        code, fault = target(rng)
        assert code in (0, 1) and not fault

    fed()
