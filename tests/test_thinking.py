"""Thinking blocks: what is the answer's, and when there is none."""

import pytest

from lmsi_cli.records import Path
from lmsi_cli.thinking import answer_part, answer_start, closing, left_open
from lmsi_cli.voting import is_refuted, path_key


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("The answer is 4.", "The answer is 4."),
        ("<think>It is 5.</think>\n\nThe answer is 4.", "\n\nThe answer is 4."),
        ("<think>\nThe answer is 5.", ""),
        ("2 + 2 = 4 <think>", ""),
        ("so it is.</think>The answer is 4.", "The answer is 4."),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>a</think>The answer is 4. <think>no", ""),
        ("<think></think>", ""),
        ("[THINK]It is 5.[/THINK]The answer is 4.", "The answer is 4."),
        ("[THINK]It is 5.", ""),
        ("<seed:think>It is 5.</seed:think>The answer is 4.", "The answer is 4."),
        ("<think>[THINK]</think>The answer is 4.", "The answer is 4."),
        ("", ""),
    ],
)
def test_the_answer_stands_after_the_last_closed_block(text, part):
    assert answer_part(text) == part
    start = answer_start(text)
    assert (text[start:] if start is not None else "") == part


@pytest.mark.parametrize(
    ("prompt", "begun"),
    [
        ("<|assistant|>\n", ""),
        ("<|assistant|>\n<think>\n", "<think>\n"),
        ("<|assistant|>\n<think>\n</think>\n", ""),
        ("<think></think><think>", "<think>"),
        ("[INST]2 + 2?[/INST][THINK]", "[THINK]"),
    ],
)
def test_a_block_that_a_prompt_leaves_open(prompt, begun):
    assert left_open(prompt) == begun


def path(text):
    return Path(
        question_id="q", path=0, seed=0, text=text, num_generated_tokens=9, logprob=-1.0,
        stop_reason="answer", predicted_answer="4", extract_rule="marker",
    )  # fmt: skip


def test_what_is_thought_neither_refutes_nor_tells_paths_apart():
    wrong = "<think>2 + 2 = 5? No.</think> 2 + 2 = 4. The answer is 4."
    assert not is_refuted(path(wrong))
    assert is_refuted(path(wrong.replace("2 + 2 = 4.", "2 + 2 = 6.")))
    assert path_key(wrong) == path_key(" 2 + 2 = 4. The answer is 4.") == ("2+2=4",)


@pytest.mark.parametrize(
    ("block", "mark"),
    [("<think>\n", "</think>"), ("[THINK]so", "[/THINK]"), ("", ""), ("plain", "")],
)
def test_every_block_is_closed_by_its_own_mark(block, mark):
    assert closing(block) == mark
