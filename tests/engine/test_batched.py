"""The batched sampler on the embedded model, against a decoder that does one path at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Request, Wanted, path_seed
from lmsi_cli.engine.cache_layout import shared_prefix
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.paths import to_path
from lmsi_cli.tasks.loader import load_task

TRIGGER = "The answer is"
QUESTIONS = [
    "Tom has 12 apples. Tom gets 7 more apples. How many apples does Tom have now?",
    "Anna buys 3 boxes of 14 pens each. How many pens does Anna have now?",
    "There are 40 chairs at the school. A quarter of them are red. How many chairs are not red?",
]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), min_size=1))
def test_shared_prefix_is_common_and_leaves_a_token(prompts):
    n = shared_prefix(prompts)
    assert all(p[:n] == prompts[0][:n] and len(p) > n for p in prompts)
    longer = {p[: n + 1] for p in prompts}
    assert len(longer) > 1 or any(len(p) == n + 1 for p in prompts)


@pytest.fixture(scope="module")
def engine(gguf):
    with LlamaEngine(gguf, SamplingConfig(threads=1)) as loaded:
        yield loaded


def requests(engine, paths, seed=0):
    return [
        Request(
            f"q{i}",
            tuple(engine.encode(f"Q: {q}\nA: Let's think step by step.")),
            tuple(Wanted(j, path_seed(seed, f"q{i}", j)) for j in range(paths)),
        )
        for i, q in enumerate(QUESTIONS)
    ]


def draw_all(engine, paths, **settings):
    config = SamplingConfig(**{"threads": 1, **settings})  # two would spin on a busy machine
    engine.config = config
    found = list(engine.generate(requests(engine, paths), config, TRIGGER))
    return {(g.question_id, g.path): g for g in found}, len(found)


@pytest.mark.model
@pytest.mark.parametrize(
    ("kv", "parallel"), [("unified", 1), ("split", 2), ("unified", 5), ("split", 32)]
)
def test_every_path_once_at_any_width(engine, kv, parallel):
    paths, count = draw_all(engine, 4, parallel=parallel, kv=kv)
    assert count == len(paths) == 12
    assert {k[1] for k in paths} == {0, 1, 2, 3}


@pytest.fixture(scope="module")
def plain(engine):
    """The greedy path of each question, a token at a time and everything read anew."""
    found = {}
    for request in requests(engine, 1):
        tokens, text = list(request.prompt), b""
        while not text.rstrip().endswith(b".") or TRIGGER.encode() not in text:
            token = int(engine.last_logits([tokens])[0].argmax())
            tokens.append(token)
            text += engine.model.piece(token)
        found[request.question_id] = text.decode()
    return found


@pytest.mark.model
@pytest.mark.parametrize("kv", ["unified", "split"])
@pytest.mark.parametrize("parallel", [2, 8])
def test_greedy_paths_equal_plain_decoding(engine, plain, kv, parallel):
    """Two slots are handed on to the third question; eight close their gaps at the end."""
    paths, _ = draw_all(engine, 3, temperature=0, kv=kv, parallel=parallel)
    assert {key: g.text for key, g in paths.items()} == {
        (q, n): text for q, text in plain.items() for n in range(3)
    }


@pytest.mark.model
def test_paths_end_at_their_answer_and_equal_seeds_give_equal_paths(engine):
    paths, _ = draw_all(engine, 6)
    assert draw_all(engine, 6)[0] == paths
    answered = [g.text for g in paths.values() if g.stop_reason == "answer"]
    assert answered and not any("\nQ:" in g.text for g in paths.values())
    assert all(text.endswith(".") and text.count(TRIGGER) == 1 for text in answered)


@pytest.mark.model
def test_without_a_trigger_no_sentence_ends_a_path(engine, plain):
    """Texts that are compared with another engine's have no answer to stop at."""
    config = SamplingConfig(threads=1, temperature=0, max_tokens=60)
    for g in engine.generate(requests(engine, 1), config, ""):
        whole = plain[g.question_id]
        assert g.stop_reason != "answer"
        assert g.text.startswith(whole) or (g.stop_reason, g.tokens) == ("length", 60)


@pytest.mark.model
def test_a_prompt_longer_than_a_batch_is_read_in_pieces(engine):
    long = "Q: " + "Tom has 3 apples. " * 120 + "How many apples does Tom have?\nA:"
    prompt = tuple(engine.encode(long))
    assert len(prompt) > 512
    wanted = Request("long", prompt, (Wanted(0, 1),))
    found = list(engine.generate([wanted], SamplingConfig(max_tokens=8, temperature=0), TRIGGER))
    direct = int(engine.last_logits([prompt])[0].argmax())
    assert found[0].text.startswith(engine.model.piece(direct).decode())


# -- thinking blocks: an answer sentence in one stops nothing --------------------------------------


def thinking(engine, begun):
    """A path that begins so."""
    prompt = engine.encode_prompt(f"Q: {QUESTIONS[0]}\nA:").ids
    request = Request("q", tuple(prompt), (Wanted(0, 1),), begun=begun)
    config = SamplingConfig(threads=1, temperature=0, max_tokens=48)
    [path] = engine.generate([request], config, TRIGGER)
    return path


@pytest.mark.model
def test_no_answer_stops_a_path_that_still_thinks(engine):
    open_ = thinking(engine, "<think>\n")
    assert open_.text.startswith("<think>\n") and TRIGGER in open_.text
    assert open_.stop_reason in ("length", "eos")
    assert to_path(open_, load_task("number")).predicted_answer is None


@pytest.mark.model
def test_the_answer_after_the_block_stops_it(engine):
    plain = thinking(engine, "")
    thought = "<think>\nThe answer is 5.\nQ: or so\n</think>\n\n"
    closed = thinking(engine, thought)
    assert plain.stop_reason == closed.stop_reason == "answer"
    assert closed.text == thought + plain.text
    assert (closed.tokens, closed.logprob) == (plain.tokens, plain.logprob)
    task = load_task("number")
    assert to_path(closed, task).predicted_answer == to_path(plain, task).predicted_answer
