"""The sampler and thinking blocks: an answer sentence in one stops nothing."""

import pytest

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Generated, Request, Wanted
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.parse_output import to_path
from lmsi_cli.tasks.loader import load_task

TRIGGER = "The answer is"
QUESTION = "Q: Tom has 12 apples. Tom gets 7 more apples. How many apples does Tom have now?\nA:"
SAMPLING = SamplingConfig(threads=1, temperature=0, max_tokens=48)


@pytest.fixture(scope="module")
def engine(gguf):
    with LlamaEngine(gguf, SAMPLING) as loaded:
        yield loaded


def draw(engine, begun):
    prompt = engine.encode_prompt(QUESTION).ids
    request = Request("q", tuple(prompt), (Wanted(0, 1),), begun=begun)
    [path] = engine.generate([request], SAMPLING, TRIGGER)
    return path


@pytest.mark.model
def test_no_answer_stops_a_path_that_still_thinks(engine):
    open_ = draw(engine, "<think>\n")
    assert open_.text.startswith("<think>\n") and TRIGGER in open_.text
    assert open_.stop_reason in ("length", "eos")
    assert to_path(open_, load_task("number")).predicted_answer is None


@pytest.mark.model
def test_the_answer_after_the_block_stops_it(engine):
    plain = draw(engine, "")
    thought = "<think>\nThe answer is 5.\nQ: or so\n</think>\n\n"
    closed = draw(engine, thought)
    assert plain.stop_reason == closed.stop_reason == "answer"
    assert closed.text == thought + plain.text
    assert (closed.tokens, closed.logprob) == (plain.tokens, plain.logprob)
    task = load_task("number")
    assert to_path(closed, task).predicted_answer == to_path(plain, task).predicted_answer


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        ("<think>The answer is 5.</think> The answer is 4.", "4", "marker"),
        ("<think>5</think> It is 4", "4", "last-number"),
        ("<think>The answer is 5.</think>", None, None),
        ("<think>The answer is 5.", None, None),
    ],
)
def test_answers_are_read_after_the_block_and_the_text_stays(text, answer, rule):
    path = to_path(Generated("q", 0, 1, text, 9, -1.0, "eos"), load_task("number"))
    assert (path.text, path.predicted_answer, path.extract_rule) == (text, answer, rule)
