"""Drawing: requests before it, filters against a plain loop, random streams, ended paths."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from scripted import ScriptedEngine

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Generated, Request, Token, Wanted, blocks, path_seed
from lmsi_cli.engine.checks import split_for
from lmsi_cli.engine.paths import to_path
from lmsi_cli.engine.sampling import draw, largest, uniforms
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
    """For the smaller cache that was asked for, or else for the context."""
    engine = ScriptedEngine({})  # a context of 4096
    asked = [request("a", 70), request("b", 60), request("a", 9), request("a", 90)]
    asked += [request("c", 99, paths=0), request("d", 5000)]
    found = split_for(engine, asked, SamplingConfig(ctx=100, max_tokens=40))
    assert [r.question_id for r in found.fitting] == ["b", "c"]
    skipped, _ = found.skipped
    assert all(word in str(skipped) for word in ("'a'", '"a"', "90 tokens", "40", "100"))
    found = split_for(engine, asked, SamplingConfig(ctx=0, max_tokens=40))
    assert [s.question_id for s in found.skipped] == ["d"]


# -- tokens that are drawn ----------------------------------------------------------------------


def reference(logits, config):
    """The distribution that llama.cpp's chain leaves: top-k, top-p, min-p, then temperature."""
    ids = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[: config.top_k or None]
    weights = [math.exp(logits[i] - logits[ids[0]]) for i in ids]
    total, mass, kept = sum(weights), 0.0, []
    for i, w in zip(ids, weights, strict=True):
        if mass / total < config.top_p:
            kept.append(i)
        mass += w
    kept = [i for i in kept if logits[i] >= logits[ids[0]] + math.log(config.min_p or 1e-300)]
    scaled = [math.exp((logits[i] - logits[ids[0]]) / config.temperature) for i in kept]
    return {i: s / sum(scaled) for i, s in zip(kept, scaled, strict=True)}


@settings(max_examples=60)
@example(logits=[0.0, -1.0], k=0, p=1.0, floor=0.5, temperature=1.0)
@given(
    st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=12, unique=True),
    st.integers(0, 14),
    st.floats(0.05, 1.0),
    st.floats(0.0, 0.9),
    st.floats(0.2, 2.0),
)
def test_draw_follows_the_filtered_distribution(logits, k, p, floor, temperature):
    config = SamplingConfig(top_k=k, top_p=p, min_p=floor, temperature=temperature)
    rows = 400
    grid = (np.arange(rows) + 0.5) / rows  # of uniforms, which gives each token its exact share
    u = np.concatenate([grid, [0, 1 - 2**-53]])
    tokens, logprobs = draw(np.tile(np.float32(logits), (len(u), 1)), u, config)
    expected = reference([float(np.float32(x)) for x in logits], config)
    for token, share in expected.items():
        assert abs((tokens[:rows] == token).mean() - share) <= 1.5 / rows + 1e-6
    assert set(tokens.tolist()) <= set(expected)
    whole = log_softmax(np.float64(np.float32(logits)))  # at temperature one, over all tokens
    assert logprobs == pytest.approx(whole[tokens], abs=1e-5)


@settings(max_examples=20)
@example(k=2, size=151_936, seed=3, coarse=False)
@given(st.integers(1, 130), st.integers(8192, 12345), st.integers(0, 2**32 - 1), st.booleans())
def test_large_vocabularies_are_cut_to_the_same_candidates(k, size, seed, coarse):
    logits = np.random.default_rng(seed).normal(size=(3, size)).astype(np.float32)
    if coarse:  # many equal logits
        logits = np.round(logits * 4) / 4
    ids = largest(logits, k)
    assert all(len(set(row)) == k for row in ids.tolist())
    found = np.take_along_axis(logits, ids, axis=1)
    assert np.array_equal(found, -np.sort(-logits, axis=1)[:, :k])
    config = SamplingConfig(temperature=0.3, top_k=k)
    tokens, logprobs = draw(logits, np.array([0.1, 0.5, 0.99]), config)
    whole = log_softmax(logits.astype(np.float64), axis=1)
    assert logprobs == pytest.approx(whole[np.arange(3), tokens], abs=1e-5)


# -- random streams ----------------------------------------------------------------------------


def splitmix64(seed, n):
    """The published algorithm, one number at a time in Python's integers."""
    mask, state, out = 2**64 - 1, seed, []
    for _ in range(n):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append(((z ^ (z >> 31)) >> 11) * 2.0**-53)
    return out


@given(st.integers(0, 2**53 - 1))
def test_streams_are_splitmix64(seed):
    # the reference implementation's first output for seed 1234567
    assert int(splitmix64(1234567, 1)[0] * 2**53) == 6457827717110365317 >> 11
    steps = np.arange(5, dtype=np.uint64)
    assert uniforms(np.full(5, seed, np.uint64), steps).tolist() == splitmix64(seed, 5)


@given(st.integers(0, 9), st.text(max_size=9), st.integers(0, 99))
def test_seeds_fit_json_readers_and_depend_on_every_part(seed, question, path):
    own = path_seed(seed, question, path)
    assert 0 <= own < 2**53
    others = ((seed + 1, question, path), (seed, question + "x", path), (seed, question, path + 1))
    assert own not in [path_seed(*other) for other in others]


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
