"""What a server replies: conversations, parts and thoughts, ends of texts, prompts that were cut.

The servers answer from a script; each way was met in the field, and docs/servers.md tells of it.
"""

import json
from collections import Counter

import pytest
from commands import ask, by_key, notes, options, refused, settings, works
from servers import Front, Model, changed


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
    with Front(Model()) as front:
        ask(lmsi, front, "--chat", "on", *OFF)
        how = ["--data", "test.jsonl", "--modes", "cot", "-q", "--engine", "openai"]
        assert lmsi("eval", "run", *how).exit_code == 0
        wanted = {"enable_thinking": False, "effort": "low"}
        assert len(front.posts) == 4 + 5  # a trial in both
        assert all(p["chat_template_kwargs"] == wanted for p in front.posts)
        refused(ask(lmsi, front, "--chat", "on", code=1), "template_var: ['enable_thinking=false'")
        assert lmsi("vote", "run", "-q").exit_code == 0
    lines = (here / "run" / "train.jsonl").read_text().splitlines()
    assert lines and all(json.loads(line)["chat_template_kwargs"] == wanted for line in lines)


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


@pytest.mark.parametrize(
    ("text", "reason", "ended"),  # as what, and whether that is noted
    [
        *(
            (BOXED, word, ("eos", False))
            for word in ("stop", "eos_token", "eos", "STOP", "end_turn")
        ),
        *((BOXED, word, ("length", False)) for word in ("length", "max_tokens", "MAX_TOKENS")),
        *((BOXED, word, ("eos", True)) for word in ("finished\x1b[2J", None, "")),
        (" So 2 + 2 = 4. The answer is 4", None, ("eos", True)),
        (" 2 + 2 = 4, and 4 times", None, ("length", True)),
        (r" so \boxed{4", "", ("length", True)),
        (r"<think> so \boxed{4}, or", "", ("length", True)),
    ],
)
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


@pytest.mark.parametrize(
    ("tokens", "lengths", "noted"),
    [
        (128, (600, 900), True),  # one number for two lengths
        (128, (100, 4000), True),  # far too few
        (10_000, (60, 600, 610, 900, 4000), False),
        (1, (60, 600, 610, 900, 4000), False),  # what no cache had
        (0, (60, 600, 610, 900, 4000), False),
    ],
)
def test_prompts_that_a_server_cuts_are_told(here, lmsi, caplog, tokens, lengths, noted):
    lines = [{"id": f"q{i}", "question": "ha " * (n // 3)} for i, n in enumerate(lengths)]
    (here / "q.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))

    def change(found):
        found["usage"]["prompt_tokens"] = min(tokens, found["usage"]["prompt_tokens"])

    with Front(changed(change)) as front:
        ask(lmsi, front)
    found = [note for note in notes(caplog, "cut") if "OLLAMA_CONTEXT_LENGTH" in note]
    assert len(found) == noted and all("128 tokens" in note for note in found)
