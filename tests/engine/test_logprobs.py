"""Log-probabilities of paths: PyTorch computes the same for the same tokens of the same file."""

import pytest
from test_batched import QUESTIONS

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Generated, Request, Token, Wanted
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.paths import logprob_of, to_path
from lmsi_cli.prompts import Task

TASK = Task(name="number", kind="number", exemplars=())
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
        ((" is ", "4", "2.", "x"), (4, 6), [1, 2]),
        ((" is ", "", "", "\u2212", "4", "."), (4, 6), [1, 2, 3, 4]),  # a minus in three tokens
    ],
)
def test_tokens_that_share_a_character_with_the_answer(pieces, span, tokens):
    assert logprob_of(drawn(*pieces), *span) == sum(2**i for i in tokens)


@pytest.mark.parametrize(
    ("pieces", "answer", "mean", "its"),
    [
        ((" The answer is", " 4", "."), "4", 7 / 3, 2.0),
        ((" Who", " knows."), None, 3 / 2, None),
        (("<think>is it 5?", "</think>", " The answer is", " 4", "."), "4", 31 / 5, 8.0),
    ],
    ids=["answer", "none", "behind thoughts"],
)
def test_the_mean_is_over_the_kept_tokens_not_over_the_cost(pieces, answer, mean, its):
    tokens, text = drawn(*pieces), "".join(pieces)
    told = Generated("q", 0, 0, text, 9, sum(t.logprob for t in tokens), "answer", tokens)
    path, bare = to_path(told, TASK), to_path(told._replace(drawn=()), TASK)
    assert (path.predicted_answer, path.mean_logprob, path.answer_logprob) == (answer, mean, its)
    assert (path.num_generated_tokens, path.logprob) == (9, told.logprob)
    assert (bare.predicted_answer, bare.mean_logprob, bare.answer_logprob) == (answer, None, None)


# -- the same in PyTorch -----------------------------------------------------------------------


@pytest.fixture
def paths(gguf):
    """Two greedy and two hot paths of each question, asked in two ways, with their prompts."""
    found = []
    with LlamaEngine(gguf, SamplingConfig(threads=1)) as engine:
        asked_as = [f"Q: {q}\nA:{c}" for c in ("", " Let's think step by step.") for q in QUESTIONS]
        prompts = {f"q{i}": tuple(engine.encode(text)) for i, text in enumerate(asked_as)}
        asked = [Request(q, p, (Wanted(0, 1), Wanted(1, 2))) for q, p in prompts.items()]
        for t in (0.0, 1.0):
            config = SamplingConfig(temperature=t, top_k=20, max_tokens=120)
            drawn_so = engine.generate(asked, config, TASK.trigger)
            found += [(prompts[g.question_id], g) for g in drawn_so]
    assert len(found) == 2 * 2 * 2 * len(QUESTIONS)
    return found


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
    for (_, g), theirs in zip(paths, in_pytorch(gguf, paths), strict=True):
        told = tuple(t._replace(logprob=x) for t, x in zip(g.drawn, theirs, strict=True))
        path, other = to_path(g, TASK), to_path(g._replace(logprob=sum(theirs), drawn=told), TASK)
        assert path.logprob == pytest.approx(other.logprob, abs=SUM)
        assert path.mean_logprob == pytest.approx(other.mean_logprob, abs=SUM / len(told))
        assert path.answer_logprob == pytest.approx(other.answer_logprob, abs=ANSWER)
        answers += path.answer_logprob is not None
    assert answers >= 12
