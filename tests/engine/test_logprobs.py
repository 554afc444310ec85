"""Log-probabilities of paths: PyTorch computes the same for the same tokens of the same file."""

import math

import pytest

from lmsi_cli.answers import extract
from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Generated, Request, Token, Wanted
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.paths import logprob_of, to_path
from lmsi_cli.prompts import Task

TASK = Task(name="number", kind="number", exemplars=())
QUESTIONS = [
    "Tom has 12 apples. Tom gets 7 more apples. How many apples does Tom have now?",
    "Anna buys 3 boxes of 14 pens each. How many pens does Anna have now?",
    "There are 1200 chairs at the school. 350 of them are red. How many chairs are not red?",
]
# llama.cpp keeps keys and values in 16 bits and rounds activations to 16 bits where it multiplies
# them with F16 weights; PyTorch in fp32 does neither. Measured over paths of 7 to 65 tokens with
# sums from -1.7 to -11.7 nats, in three compositions of batches: at most 0.006 nats apart on the
# sum of a path and 0.0004 on an answer.
SUM, ANSWER = 0.03, 0.003


# -- which tokens an answer is made of ---------------------------------------------------------


def drawn(*pieces):
    """Tokens of whole characters, each with its own power of two, so that sums tell them apart."""
    starts = [sum(map(len, pieces[:i])) for i in range(len(pieces))]
    return tuple(Token(i, start, float(2**i)) for i, start in enumerate(starts))


@pytest.mark.parametrize(
    ("pieces", "span", "tokens"),
    [
        ((" is", " 4", "2", "."), (4, 6), [1, 2]),
        ((" is 42", "."), (4, 6), [0]),  # one token for more than the answer
        ((" is ", "42", "."), (4, 6), [1]),
        ((" is ", "4", "2.", "x"), (4, 6), [1, 2]),
        ((" is ", "", "", "\u2212", "4", "."), (4, 6), [1, 2, 3, 4]),  # a minus in three tokens
    ],
)
def test_tokens_that_share_a_character_with_the_answer(pieces, span, tokens):
    assert logprob_of(drawn(*pieces), *span) == sum(2**i for i in tokens)


def generated(text, *tokens):
    return Generated("q", 0, 0, text, 9, sum(t.logprob for t in tokens), "answer", tokens)


def test_the_mean_is_over_the_kept_tokens_not_over_the_cost():
    path = to_path(generated(" The answer is 4.", *drawn(" The answer is", " 4", ".")), TASK)
    assert (path.logprob, path.mean_logprob, path.answer_logprob) == (7.0, 7 / 3, 2.0)
    assert path.num_generated_tokens == 9


def test_without_an_answer_or_without_tokens_there_is_none():
    assert to_path(generated(" Who knows.", *drawn(" Who", " knows.")), TASK).answer_logprob is None
    bare = to_path(generated(" The answer is 4."), TASK)
    assert (bare.predicted_answer, bare.mean_logprob, bare.answer_logprob) == ("4", None, None)


# -- the same in PyTorch -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def paths(gguf):
    """Two greedy and two hot paths of each question, asked in two ways, with their prompts."""
    asked_as = [f"Q: {q}\nA:{cue}" for cue in ("", " Let's think step by step.") for q in QUESTIONS]
    found = []
    with LlamaEngine(gguf, SamplingConfig(threads=1)) as engine:
        prompts = {f"q{i}": tuple(engine.encode(text)) for i, text in enumerate(asked_as)}
        asked = [Request(q, p, (Wanted(0, 1), Wanted(1, 2))) for q, p in prompts.items()]
        for t in (0.0, 1.0):
            config = SamplingConfig(temperature=t, top_k=20, max_tokens=120)
            for g in engine.generate(asked, config, TASK.trigger):
                found.append((prompts[g.question_id], g))
        pieces = {t.id: engine.model.piece(t.id) for _, g in found for t in g.drawn}
    assert len(found) == 2 * 2 * 2 * len(QUESTIONS)
    return found, pieces


def in_pytorch(gguf, paths):
    """Log-probability of every kept token of every path; one batch, padded where nobody looks."""
    import torch

    from lmsi_cli.training.load import load_base

    whole = [[*prompt, *(t.id for t in g.drawn)] for prompt, g in paths]
    longest = max(map(len, whole))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in whole])
    with torch.inference_mode():
        told = torch.log_softmax(load_base(gguf, "fp32")(input_ids=ids).logits.double(), dim=-1)
    return [
        told[i, torch.arange(len(prompt), len(row)) - 1, torch.tensor(row[len(prompt) :])].numpy()
        for i, (row, (prompt, _)) in enumerate(zip(whole, paths, strict=True))
    ]


@pytest.mark.model
@pytest.mark.slow
def test_pytorch_gives_the_same_tokens_the_same_log_probability(gguf, paths):
    answers = 0
    for (_, g), theirs in zip(paths[0], in_pytorch(gguf, paths[0]), strict=True):
        path = to_path(g, TASK)
        assert path.logprob == pytest.approx(theirs.sum(), abs=SUM)
        assert path.mean_logprob == pytest.approx(theirs.mean(), abs=SUM / len(theirs))
        if (answer := extract(g.text)) is not None:
            ends = [*(t.start for t in g.drawn[1:]), len(g.text)]
            own = [
                x
                for x, t, end in zip(theirs, g.drawn, ends, strict=True)
                if t.start < answer.end and end > answer.start
            ]
            assert path.answer_logprob == pytest.approx(math.fsum(own), abs=ANSWER)
            answers += 1
    assert answers >= 12


def test_the_answer_of_a_thinking_path_is_found_behind_its_thoughts():
    tokens = drawn("<think>is it 5?", "</think>", " The answer is", " 4", ".")
    text = "".join(["<think>is it 5?", "</think>", " The answer is", " 4", "."])
    path = to_path(generated(text, *tokens), TASK)
    assert (path.predicted_answer, path.answer_logprob) == ("4", tokens[3].logprob)
