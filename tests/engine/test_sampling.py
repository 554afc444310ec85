"""Drawing tokens: every filter against a plain loop, and the random streams."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.engine.sampling import draw, largest, uniforms


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
    tokens, _ = draw(np.tile(np.float32(logits), (len(u), 1)), u, config)
    expected = reference([float(np.float32(x)) for x in logits], config)
    for token, share in expected.items():
        assert abs((tokens[:rows] == token).mean() - share) <= 1.5 / rows + 1e-6
    assert set(tokens.tolist()) <= set(expected)


@pytest.mark.parametrize("size", [4, 151_936])
def test_logprobs_are_at_temperature_one_over_all_tokens(size):
    logits = np.random.default_rng(3).normal(scale=5, size=(4, size)).astype(np.float32)
    config = SamplingConfig(temperature=0.3, top_k=2)
    tokens, logprobs = draw(logits, np.array([0.1, 0.5, 0.9, 0.99]), config)
    expected = log_softmax(logits.astype(np.float64), axis=1)
    assert logprobs == pytest.approx(expected[np.arange(4), tokens], abs=1e-5)


@settings(max_examples=20)
@given(st.integers(1, 130), st.integers(8192, 12345), st.integers(0, 2**32 - 1), st.booleans())
def test_large_vocabularies_are_cut_to_the_same_candidates(k, size, seed, coarse):
    logits = np.random.default_rng(seed).normal(size=(3, size)).astype(np.float32)
    if coarse:  # many equal logits
        logits = np.round(logits * 4) / 4
    ids = largest(logits, k)
    assert all(len(set(row)) == k for row in ids.tolist())
    found = np.take_along_axis(logits, ids, axis=1)
    assert np.array_equal(found, -np.sort(-logits, axis=1)[:, :k])


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
