"""Thinking blocks: what is the answer's, and when there is none."""

import pytest

from lmsi_cli.thinking import answer_part, closing, left_open

CHANNEL, FINAL = "<|channel|>analysis<|message|>", "<|channel|>final<|message|>"


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
        ("[THINK]It is 5.[/THINK]The answer is 4.", "The answer is 4."),
        ("<seed:think>It is 5.</seed:think>The answer is 4.", "The answer is 4."),
        ("<thought>It is 5.</thought>The answer is 4.", "The answer is 4."),
        ("<unused94>thought\nIt is 5.<unused95>The answer is 4.", "The answer is 4."),
        ("<|channel>thought\nIt is 5.<channel|>The answer is 4.", "The answer is 4."),
        (f"{CHANNEL}It is 5.<|end|><|start|>assistant{FINAL}It is 4.", "It is 4."),
        (f"{CHANNEL}It is 5.assistant{FINAL}It is 4.", "It is 4."),  # some marks do not show
        (f"{CHANNEL}It is 5.", ""),
        (f"{FINAL}It is 4.", "It is 4."),
        ("Here is my thought process:\nIt is 5.\n\nHere is my response:\nIt is 4.", "\nIt is 4."),
        ("\nHere is my thought process:\nThe answer is 5.", ""),
        ("It is 4. Here is my response: 5.", "It is 4. Here is my response: 5."),
        ("2 < 3, so [2] is 4.", "2 < 3, so [2] is 4."),
        ("", ""),
    ],
)
def test_the_answer_stands_after_the_last_closed_block(text, part):
    assert answer_part(text) == part


@pytest.mark.parametrize(
    ("prompt", "begun", "mark"),
    [
        ("<|assistant|>\n", "", ""),
        ("<|assistant|>\n<think>\n", "<think>\n", "</think>"),
        ("<|assistant|>\n<think>\n</think>\n", "", ""),
        ("<think></think><think>", "<think>", "</think>"),
        ("[INST]2 + 2?[/INST][THINK]so", "[THINK]so", "[/THINK]"),
        ("<start_of_turn>model\n<unused94>thought\n", "<unused94>thought\n", "<unused95>"),
        (f"<|start|>assistant{CHANNEL}", CHANNEL, FINAL),
        ("<|start|>assistant", "", ""),
        ("Here is my thought process: name it so.", "", ""),  # a prompt's own words
    ],
)
def test_a_block_that_a_prompt_leaves_open_is_closed_by_its_own_mark(prompt, begun, mark):
    assert left_open(prompt) == begun
    assert closing(begun) == mark
