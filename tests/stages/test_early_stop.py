"""Early stopping through the stages: what is drawn, what is resumed, and how the vote marks it."""

import contextlib
import tempfile
from collections import Counter
from pathlib import Path as File

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import IDENTITY, sampled, settled, voted

from lmsi_cli.config import SampleConfig
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Path, Vote
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.sample import bind

# The helpers' script: q0 says 0, 0; q1 says 2, nothing, something cut off, 2; q2 says 4, a false
# equation, 4; q3 says 6 and 7 by turns and is never decided.
STOPPING = SampleConfig(paths=12, stop="window:2")
DRAWN = {"q0": 2, "q1": 4, "q2": 3, "q3": 12}


def paths_of(root):
    return list(read_records(RunDir(root).paths, Path))


def drawn(root):
    return dict(Counter(p.question_id for p in paths_of(root)))


def marked(root):
    return {v.question_id for v in read_records(RunDir(root).votes, Vote) if v.stopped}


def test_a_decided_question_draws_no_more(tmp_path):
    summary = sampled(tmp_path, STOPPING)
    assert drawn(tmp_path) == DRAWN
    assert (summary.new_paths, summary.stopped) == (21, 3)
    # beside each deciding path one more runs in the script, a token long
    assert (summary.cancelled, summary.cancelled_tokens, summary.never_drawn) == (3, 3, 24)
    assert summary.tokens == 3 + sum(p.num_generated_tokens for p in paths_of(tmp_path))


@given(st.lists(st.integers(0, 21), max_size=4))
@settings(max_examples=10)
def test_interrupted_anywhere_it_ends_with_the_same_decisions(lives):
    with tempfile.TemporaryDirectory() as folder:
        for fail_after in lives:
            with contextlib.suppress(KeyboardInterrupt):
                sampled(File(folder), STOPPING, fail_after)
        sampled(File(folder), STOPPING)
        assert drawn(folder) == DRAWN
        again = sampled(File(folder), STOPPING, fail_after=0)  # asked for a path, it would raise
        assert (again.new_paths, again.stopped, again.never_drawn) == (0, 3, 0)


def test_a_path_behind_a_missing_one_decides_nothing_and_stays(tmp_path):
    sampled(tmp_path / "full", SampleConfig(paths=12))
    late = [p for p in paths_of(tmp_path / "full") if p.question_id == "q0" and p.path in (1, 5)]
    run = RunDir(tmp_path)
    bind(run, settled(STOPPING), IDENTITY)
    write_records(run.paths, late)
    sampled(tmp_path, STOPPING)
    assert paths_of(tmp_path)[:2] == late
    assert drawn(tmp_path) == {**DRAWN, "q0": 3}  # path 0 decides with path 1; path 5 was there


def test_more_paths_go_on_where_it_is_not_decided(tmp_path):
    few = sampled(tmp_path, SampleConfig(paths=3, stop="window:2"))
    assert (few.stopped, few.new_paths) == (1, 11)  # q2 had all that was asked for
    more = sampled(tmp_path, STOPPING)
    assert (more.stopped, more.new_paths) == (3, 10)
    assert drawn(tmp_path) == DRAWN


def test_an_interrupted_question_is_not_a_stopped_one(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sampled(tmp_path, STOPPING, fail_after=3)  # one of q1
    voted(tmp_path)
    assert (drawn(tmp_path), marked(tmp_path)) == ({"q0": 2, "q1": 1}, {"q0"})


@pytest.mark.parametrize("paths", [2, 5, 12])
@pytest.mark.parametrize("stop", ["beta:0.8", "window:2", "window:3"])
def test_the_sampler_and_the_vote_agree_on_what_was_stopped(tmp_path, stop, paths):
    summary = sampled(tmp_path, SampleConfig(paths=paths, stop=stop))
    assert voted(tmp_path).stopped == summary.stopped == len(marked(tmp_path))
    assert marked(tmp_path) <= {q for q, n in drawn(tmp_path).items() if n < paths}
