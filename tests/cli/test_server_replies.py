"""What a server replies: conversations, parts and thoughts, ends of texts, prompts that were cut.

The servers answer from a script; each way was met in the field, and docs/servers.md tells of it.
"""

import json
from collections import Counter

import pytest
from commands import ask, by_key, notes, options, refused, settings, works
from servers import Front, Model, changed

from lmsi_cli.jsonl import read_records
from lmsi_cli.records import TrainExample


def test_conversations_are_the_default_and_said(here):
    with Front(Model()) as front:
        more = [*options(front), "--paths", "2", "--system", "Be brief."]
        done = works("sample", "q.jsonl", "-o", "run", *more)
    assert "asked in conversations" in done.stderr
    last = front.posts[-1]
    assert [m["role"] for m in last["messages"]] == ["system", "user"]
    assert (last["logprobs"], last["top_logprobs"], "stop" in last) == (True, 1, False)
    assert not any("chat_template_kwargs" in p for p in front.posts)
    assert {s.path for s in front.seen if s.method == "POST"} == {"/v1/chat/completions"}
    kept = settings("run")
    assert (kept["chat"], kept["server"], kept["model"]) == ("on", "127.0.0.1", "tiny")


OFF = ("--template-var", "enable_thinking=false", "--template-var", "effort=low")


def test_variables_of_the_template_go_to_the_server_and_belong_to_the_run(here, lmsi):
    wanted = {"enable_thinking": False, "effort": "low"}
    with Front(Model()) as front:
        ask(lmsi, front, "--chat", "on", *OFF)
        works("eval", "run", "--data", "test.jsonl", "--modes", "cot", "-q", "--engine", "openai")
        assert len(front.posts) == 4 + 5  # a trial in both
        assert all(p["chat_template_kwargs"] == wanted for p in front.posts)
        refused(ask(lmsi, front, "--chat", "on", code=1), "template_var: ['enable_thinking=false'")
        works("vote", "run", "-q")
    examples = [*read_records(here / "run" / "train.jsonl", TrainExample)]
    assert examples and all(e.chat_template_kwargs == wanted for e in examples)


SAYS = "2 + 2 = 4. The answer is 4."
TEXT = {"type": "text", "text": SAYS}


def replying(message, **more):
    """Draw from a server whose replies are this message."""

    def change(found):
        for choice in found["choices"]:
            choice.pop("logprobs", None)
            choice.update(message={"role": "assistant", **message}, **more)

    with Front(changed(change)) as front:
        works("sample", "q.jsonl", "-o", "run", "-n", "4", "-q", *options(front))
    return by_key().values()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([TEXT], SAYS),
        (["2 + 2 = 4. ", {"type": "output_text", "text": "The answer is 4."}], SAYS),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "The answer is 5."}]}, TEXT],
         f"<think>The answer is 5.</think>{SAYS}"),
        ([{"type": "thinking", "thinking": "5?"}, TEXT], f"<think>5?</think>{SAYS}"),
        ([{"type": "reasoning", "text": "5?"}, TEXT], f"<think>5?</think>{SAYS}"),
        ([{"type": "reference", "reference_ids": [1]}, TEXT], SAYS),
    ],
    ids=["text", "pieces", "magistral", "thinking", "reasoning", "reference"],
)  # fmt: skip
def test_content_in_parts(here, content, text):
    drawn = replying({"content": content})
    assert {(p["text"], p["predicted_answer"]) for p in drawn} == {(text, "4")}


@pytest.mark.parametrize(
    ("message", "reason", "thoughts"),
    [
        ({"content": "", "reasoning_content": SAYS}, "stop", True),
        ({"content": None, "reasoning": SAYS}, "stop", True),
        ({"content": " \n", "reasoning_content": SAYS}, "stop", True),
        ({"content": [{"type": "thinking", "thinking": SAYS}]}, "stop", True),
        ({"content": "", "reasoning_content": "2 + "}, "length", False),
        ({"content": SAYS, "reasoning_content": "2 + 2"}, "stop", False),
    ],
    ids=["reasoning_content", "reasoning", "blank", "part", "cut off", "and an answer"],
)
def test_thoughts_are_never_the_answer_and_that_is_said(here, caplog, message, reason, thoughts):
    drawn = replying(message, finish_reason=reason)
    answer = "4" if message["content"] == SAYS else None
    assert Counter(p["predicted_answer"] for p in drawn) == {answer: 12}
    found = notes(caplog, "thoughts only")
    assert [("12 of 12" in note, "reasoning format" in note) for note in found] == (
        [(False, True), (True, True)] if thoughts else []
    )


# -- why a text ended ------------------------------------------------------------------------

BOXED = r" 2 + 2 = 4, so \boxed{4}"
ENDED, CUT_OFF = ("eos", False), ("length", False)  # as what, and whether that is noted
WHY = [
    *((BOXED, word, ENDED) for word in ("stop", "eos_token", "STOP", "end_turn")),
    *((BOXED, word, CUT_OFF) for word in ("length", "max_tokens", "MAX_TOKENS")),
    (BOXED, "finished\x1b[2J", ("eos", True)),
    (" So 2 + 2 = 4. The answer is 4", None, ("eos", True)),
    (" 2 + 2 = 4, and 4 times", None, ("length", True)),
    (r" so \boxed{4", "", ("length", True)),
    (r"<think> so \boxed{4}, or", "", ("length", True)),
]


@pytest.mark.parametrize(("text", "reason", "ended"), WHY)
def test_why_a_text_ended_is_read_or_guessed(here, lmsi, caplog, text, reason, ended):
    def change(found):
        for choice in found["choices"]:
            choice["finish_reason"] = reason

    with Front(changed(change, Model(say=lambda body, i: text))) as front:
        ask(lmsi, front)
    found = notes(caplog, "finish_reason")
    assert {p["stop_reason"] for p in by_key().values()} == {ended[0]}
    assert len(found) == ended[1] and "\x1b" not in "".join(found)


# -- prompts that a server cuts in silence ---------------------------------------------------


RISING = (60, 600, 610, 900, 4000)
CUT = [  # the most tokens that the server counts, letters of the questions, and whether it is told
    (128, (600, 900), True),  # one number for two lengths
    (128, (100, 4000), True),  # far too few
    (10_000, RISING, False),
    (1, RISING, False),  # what no cache had
]


@pytest.mark.parametrize(("tokens", "lengths", "noted"), CUT)
def test_prompts_that_a_server_cuts_are_told(here, lmsi, caplog, tokens, lengths, noted):
    lines = [{"id": f"q{i}", "question": "ha " * (n // 3)} for i, n in enumerate(lengths)]
    (here / "q.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))

    def change(found):
        found["usage"]["prompt_tokens"] = min(tokens, found["usage"]["prompt_tokens"])

    with Front(changed(change)) as front:
        ask(lmsi, front)
    found = [note for note in notes(caplog, "cut") if "OLLAMA_CONTEXT_LENGTH" in note]
    assert len(found) == noted and all("128 tokens" in note for note in found)
