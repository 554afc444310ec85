"""Requests before they are drawn, each path in one block, and paths when they have ended."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import ScriptedEngine

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Generated, Request, Token, Wanted, blocks
from lmsi_cli.engine.checks import split, split_for
from lmsi_cli.engine.paths import to_path
from lmsi_cli.prompts import Task


def requests(questions, paths, templates):
    return [
        Request(f"q{q}", (1, t), tuple(Wanted(k, k) for k in range(t, paths, templates)), block=t)
        for q in range(questions)
        for t in range(templates)
    ]


@given(st.integers(1, 4), st.integers(0, 9), st.integers(1, 5), st.booleans())
def test_every_path_is_in_one_block_with_prompts_like_its_own(questions, paths, templates, in_turn):
    found = blocks(requests(questions, paths, templates), in_turn)
    wanted = [(r.question_id, w.path, r.block) for block in found for r in block for w in r.wanted]
    assert sorted(wanted) == sorted(
        (f"q{q}", k, k % templates) for q in range(questions) for k in range(paths)
    )
    for block in found:
        assert len({r.block for r in block}) == 1
        assert len(block) == questions  # those with nothing wanted keep the shared prefix as it was
    if in_turn and templates > 1:
        order = [path for _, path, _ in wanted]
        assert order == sorted(order)


def request(name, length, paths=1):
    return Request(name, (1,) * length, tuple(Wanted(i, i) for i in range(paths)), f'"{name}"')


def test_a_question_of_which_one_prompt_is_too_long_is_skipped_whole_and_told_once():
    asked = [request("a", 70), request("b", 60), request("a", 9), request("a", 90)]
    found = split([*asked, request("c", 99, paths=0)], 40, 100)
    assert [r.question_id for r in found.fitting] == ["b", "c"]
    (skipped,) = found.skipped
    assert all(word in str(skipped) for word in ("'a'", '"a"', "90 tokens", "40", "100"))


@pytest.mark.parametrize(("ctx", "skipped"), [(0, ["b"]), (80, ["b", "a"])])
def test_a_smaller_cache_that_was_asked_for_counts(ctx, skipped):
    engine = ScriptedEngine({})  # a context of 4096
    asked = [request("b", 5000), request("a", 60), request("c", 9)]
    config = SamplingConfig(ctx=ctx, max_tokens=40)
    assert [s.question_id for s in split_for(engine, asked, config).skipped] == skipped


# -- paths that have ended: which tokens an answer is made of ----------------------------------


@pytest.mark.parametrize(
    ("pieces", "answer", "its"),
    [
        ((" The answer is", " 4", "2", "."), "42", [1, 2]),
        ((" The answer is 42", "."), "42", [0]),  # one token for more than the answer
        ((" The answer is ", "4", "2."), "42", [1, 2]),
        ((" The answer is ", "", "", "\u2212", "4", "."), "-4", [1, 2, 3, 4]),  # three for a minus
        (("<think>is it 5?", "</think>", " The answer is", " 4", "."), "4", [3]),
        ((" Who", " knows."), None, None),
    ],
)
def test_the_log_probability_of_an_answer_is_that_of_all_tokens_that_share_it(pieces, answer, its):
    """Each token has its own power of two, so that sums tell them apart."""
    starts = [sum(map(len, pieces[:i])) for i in range(len(pieces))]
    tokens = tuple(Token(i, start, 2.0**i) for i, start in enumerate(starts))
    task, whole = Task(name="number", kind="number", exemplars=()), 2.0 ** len(pieces) - 1
    ended = Generated("q", 0, 0, "".join(pieces), 9, whole, "answer", tokens)
    path, bare = to_path(ended, task), to_path(ended._replace(drawn=()), task)
    assert path.predicted_answer == bare.predicted_answer == answer
    assert path.answer_logprob == (None if its is None else sum(2.0**i for i in its))
    assert path.mean_logprob == whole / len(pieces)  # of the kept tokens, not of the 9 it cost
    assert (bare.mean_logprob, bare.answer_logprob) == (None, None)
