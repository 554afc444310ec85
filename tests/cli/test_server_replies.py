"""What a server replies: conversations, parts and thoughts, ends of texts, prompts that were cut.

The servers answer from a script; each way was met in the field, and docs/servers.md tells of it.
"""

import json

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


SAYS, FIVE = "2 + 2 = 4. The answer is 4.", "The answer is 5."
TEXT = {"type": "text", "text": SAYS}
THOUGHT = f"<think>{FIVE}</think>{SAYS}"


def thinking(what):
    return {"type": "thinking", "thinking": what}


SPOKEN = {  # a message, and its text
    "a part": ({"content": [TEXT]}, SAYS),
    "pieces": ({"content": ["2 + 2 = 4. ", {"type": "output_text", "text": SAYS[11:]}]}, SAYS),
    "magistral": ({"content": [thinking([{"type": "text", "text": FIVE}]), TEXT]}, THOUGHT),
    "thinking": ({"content": [thinking(FIVE), TEXT]}, THOUGHT),
    "reasoning": ({"content": [{"type": "reasoning", "text": FIVE}, TEXT]}, THOUGHT),
    "half a character": ({"content": f"\ud83d {SAYS}"}, f"\ufffd {SAYS}"),
    "reference": ({"content": [{"type": "reference", "reference_ids": [1]}, TEXT]}, SAYS),
    "reasoning apart": ({"content": SAYS, "reasoning_content": FIVE}, THOUGHT),
    "thoughts only": ({"content": "", "reasoning_content": SAYS}, f"<think>{SAYS}</think>"),
    "no content": ({"content": None, "reasoning": SAYS}, f"<think>{SAYS}"),
    "a blank": ({"content": " \n", "reasoning_content": SAYS}, f"<think>{SAYS}</think> \n"),
    "a part of thoughts": ({"content": [thinking(SAYS)]}, f"<think>{SAYS}"),
    "cut off": ({"content": None, "reasoning": "2 + "}, "<think>2 + "),
}


@pytest.mark.parametrize(("message", "text"), SPOKEN.values(), ids=SPOKEN.keys())
def test_thoughts_are_told_from_the_answer_and_alone_are_noted(here, caplog, message, text):
    def change(found):
        for choice in found["choices"]:
            why = "length" if text.endswith("+ ") else "stop"
            choice.pop("logprobs", None)
            choice.update(message={"role": "assistant", **message}, finish_reason=why)

    with Front(changed(change)) as front:
        works("sample", "q.jsonl", "-o", "run", "-n", "4", "-q", *options(front))
    assert len(front.posts) == 4  # none is asked for again
    answer = "4" if text in (SAYS, THOUGHT, f"\ufffd {SAYS}") else None
    assert {(p["text"], p["predicted_answer"]) for p in by_key().values()} == {(text, answer)}
    found = notes(caplog, "thoughts only")
    assert [("12 of 12" in note, "reasoning format" in note) for note in found] == (
        [] if answer or text.endswith("+ ") else [(False, True), (True, True)]
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
