"""Of the moments of ``soak.py``, which tries hundreds by hand: those that no other test has.

Signals on one command each are in ``test_kill.py`` and ``test_ended_early.py``.
"""

import pytest
import soak
import soak_jobs
from soak_blows import BLOWS

pytestmark = [pytest.mark.model, pytest.mark.slow]
OTHERS = [b for b in BLOWS if b.name in ("full disk", "read-only folder", "clock jumps")]
LITTLE = {"sample": {**soak_jobs.SETTINGS["sample"], "limit": 6}}


def test_sampling_on_a_full_disk_in_a_read_only_folder_and_under_a_clock_that_jumps(
    tmp_path, one_block
):
    blows = [blow for blow in OTHERS if blow.possible()]
    if not blows:
        pytest.skip("needs Linux and root, or faketime")
    jobs = soak_jobs.made(tmp_path, one_block, {"sample"}, {**soak_jobs.SETTINGS, **LITTLE})
    found = [*soak.soak(jobs, tmp_path, len(blows), 138, blows)]
    assert [each["faults"] for each in found] == [[]] * len(blows)
    assert found[0]["hit"]
