"""Questions that do not fit are set apart and told; the others go on."""

import pytest

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Request, Wanted
from lmsi_cli.engine.context_check import split, split_for, tell
from lmsi_cli.errors import LmsiError
from tests.scripted import ScriptedEngine


def request(name, length, paths=1):
    return Request(name, (1,) * length, tuple(Wanted(i, i) for i in range(paths)), f'"{name}"')


def test_prompt_and_path_must_fit_together():
    fits, long, done = request("a", 60), request("b", 61), request("c", 99, paths=0)
    found = split([fits, long, done], max_tokens=40, room=100)
    assert found.fitting == [fits, done]
    (skipped,) = found.skipped
    assert all(word in str(skipped) for word in ("'b'", '"b"', "61 tokens", "40", "100"))


def test_a_question_of_which_one_prompt_is_too_long_is_skipped_whole_and_told_once():
    found = split([request("a", 70), request("b", 9), request("a", 9), request("a", 90)], 40, 100)
    assert [r.question_id for r in found.fitting] == ["b"]
    assert [(s.question_id, s.prompt) for s in found.skipped] == [("a", 90)]


@pytest.mark.parametrize(("ctx", "skipped"), [(0, ["b"]), (80, ["b", "a"])])
def test_a_smaller_cache_that_was_asked_for_counts(ctx, skipped):
    engine = ScriptedEngine({})  # a context of 4096
    asked = [request("b", 5000), request("a", 60), request("c", 9)]
    config = SamplingConfig(ctx=ctx, max_tokens=40)
    assert [s.question_id for s in split_for(engine, asked, config).skipped] == skipped


def test_if_nothing_fits_that_is_the_error():
    with pytest.raises(LmsiError, match=r"'a'.* 1 others"):
        split_for(ScriptedEngine({}), [request("a", 4096), request("b", 9999)], SamplingConfig())


def test_the_first_few_are_told(watcher):
    tell(split([request(f"q{i}", 9) for i in range(8)], 9, 9).skipped, watcher)
    assert len(watcher.said) == 6
    assert watcher.said[0].startswith("skipped: question 'q0'")
    assert watcher.said[-1] == "skipped: 3 more for the same reason"
