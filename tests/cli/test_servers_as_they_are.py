"""Servers that answer in ways of their own: wrong paths, contexts, reasons, parts, thoughts.

Each stands for something that was met in the field; docs/servers.md tells it to the user.
"""

import json
from collections import Counter

import pytest
from served import ALL, found, options, paths, sample
from servers import (
    LETTERS,
    Front,
    Model,
    changed,
    fails,
    fails_with,
    lm_studio,
    told,
    with_context,
)

VLLM = (
    "This model's maximum context length is {c} tokens. However, you requested {w} output tokens "
    "and your prompt contains at least {p} input tokens."
)
REFUSALS = {
    "vllm": VLLM,
    "vllm-old": "This model's maximum context length is {c} tokens. However, you requested {t} "
    "tokens ({p} in the messages, {w} in the completion). Please reduce the length.",
    "vllm-chat": "'max_tokens' or 'max_completion_tokens' is too large: {w}. This model's maximum "
    "context length is {c} tokens and your request has {p} input tokens ({w} > {c} - {p}).",
    "sglang": "Requested token count exceeds the model's maximum context length of {c} tokens. You "
    "requested a total of {t} tokens: {p} tokens from the input and {w} for the completion",
    "tgi": "`inputs` tokens + `max_new_tokens` must be <= {c}. Given: {p} `inputs` tokens and {w} "
    "`max_new_tokens`",
}
SHORTEST = len("Q: What is 0 + 0?\nA: Let's think step by step.") // LETTERS
BOXED = r" 2 + 2 = 4, so \boxed{4}"


def notes(caplog, word):
    return [r.getMessage() for r in caplog.records if word in r.getMessage()]


# -- a wrong path ----------------------------------------------------------------------------


def test_an_error_with_the_status_of_success_ends_a_run_that_has_not_begun(here, lmsi):
    with Front(lm_studio(Model()), base="") as front:
        done = sample(lmsi, front, code=1)
        assert len(front.seen) == 1
        assert "Unexpected endpoint or method. (GET /models)" in done.stderr
        assert f"--base-url {front.url}/v1" in done.stderr
    assert not (here / "run" / "paths.jsonl").exists()


def test_no_v1_is_added_to_an_address_that_ends_with_it(here, lmsi):
    with Front(lm_studio(Model()), base="/api/v1") as front:
        done = sample(lmsi, front, code=1)
        assert len(front.seen) == 1
    assert "(GET /api/v1/models)" in done.stderr
    assert "/v1/v1" not in done.stderr


def test_the_key_is_hidden_in_such_an_error(here, lmsi, monkeypatch):
    monkeypatch.setenv("LMSI_API_KEY", "sk-geheim")
    echo = lambda seen: (200, {}, {"error": f"no: {seen.headers['Authorization']}"})  # noqa: E731
    with Front(echo) as front:
        done = sample(lmsi, front, code=1)
    assert "no: Bearer [key]" in done.stderr


# -- the context -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["max_model_len", "context_length", "max_context_length", "context_window"]
)
def test_max_tokens_is_held_against_the_context_that_the_server_lists(here, lmsi, name):
    with Front(with_context(Model(), 600, VLLM, {name: 600})) as front:
        done = sample(lmsi, front, "--max-tokens", "700", code=1)
        assert max(p["max_tokens"] for p in front.posts) <= 24  # nothing was asked in vain
        assert "--max-tokens 700" in done.stderr
        assert f"--max-tokens {600 - SHORTEST} " in done.stderr
        assert "skipped" not in done.stderr
        sample(lmsi, front, "--max-tokens", f"{600 - SHORTEST}")  # the folder is still free
    assert paths(here).keys() == ALL


@pytest.mark.parametrize("listed", [{"max_model_len": None}, {"context_length": "600"}, {}])
def test_a_list_that_tells_no_length_is_read_all_the_same(here, lmsi, listed):
    with Front(with_context(Model(), 600, VLLM, listed)) as front:
        sample(lmsi, front)
    assert paths(here).keys() == ALL


@pytest.mark.parametrize("words", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_for_max_tokens_is_told_once(here, lmsi, words):
    with Front(with_context(Model(), 600, words)) as front:
        done = sample(lmsi, front, "--max-tokens", "700", code=1)
    assert done.stderr.count("--max-tokens 700") == 1
    assert f"--max-tokens {600 - SHORTEST} " in done.stderr
    assert "skipped" not in done.stderr


def test_questions_that_are_too_long_are_named_and_the_others_drawn(here, lmsi):
    """One leaves no room for ``--max-tokens``, one does not fit by itself."""
    lengths = {"q0": 10, "q1": 1600, "q2": 4000}
    lines = [{"id": q, "question": "ha " * (n // 3)} for q, n in lengths.items()]
    (here / "q.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    for listed in ({}, {"max_model_len": 600}):
        with Front(with_context(Model(), 600, VLLM, listed)) as front:
            done = sample(lmsi, front, "--overwrite", code=1)
        assert {q for q, _ in paths(here)} == {"q0"}
        skipped = [x for x in done.stderr.splitlines() if x.startswith("skipped: ")]
        blamed = {x.split("'")[1]: "--max-tokens 256" in x for x in skipped}
        assert blamed == {"q1": True, "q2": False}


def test_a_limit_on_the_path_alone(here, lmsi):
    def limited(seen):
        if seen.body.get("max_tokens", 0) > 4096:
            words = "max_tokens is too large: 5000. This model supports at most 4096 completion "
            return 400, {}, told(words + "tokens, whereas you provided 5000.")
        return model(seen)

    model = Model()
    with Front(limited) as front:
        done = sample(lmsi, front, "--max-tokens", "5000", code=1)
        assert "--max-tokens 5000" in done.stderr
        most = int(done.stderr.split("hint: --max-tokens ")[1].split()[0])
        assert 4000 < most <= 4096
        sample(lmsi, front, "--max-tokens", most)


# -- why a text ended ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        *((word, "eos") for word in ("stop", "eos_token", "eos", "stop_sequence", "end_turn")),
        ("STOP", "eos"),
        *((word, "length") for word in ("length", "max_tokens", "MAX_TOKENS")),
    ],
)
def test_known_reasons(here, lmsi, caplog, reason, stop):
    answer = changed(Model(say=lambda body, i: BOXED), lambda c: c.update(finish_reason=reason))
    with Front(answer) as front:
        sample(lmsi, front)
    assert {p["stop_reason"] for p in paths(here).values()} == {stop}
    assert not notes(caplog, "finish_reason")
    assert lmsi("vote", "run", "-q").exit_code == (0 if stop == "eos" else 1)


@pytest.mark.parametrize("reason", ["finished\x1b[2J", None, ""])
@pytest.mark.parametrize(
    ("text", "stop"),
    [
        (BOXED, "eos"),
        (" So 2 + 2 = 4. The answer is 4", "eos"),
        (" 2 + 2 = 4, and 4 times", "length"),
        (r" so \boxed{4", "length"),
        (r"<think> so \boxed{4}, or", "length"),
    ],
)
def test_a_reason_that_is_not_known_is_told_once(here, lmsi, caplog, reason, text, stop):
    answer = changed(Model(say=lambda body, i: text), lambda c: c.update(finish_reason=reason))
    with Front(answer) as front:
        sample(lmsi, front)
    assert {p["stop_reason"] for p in paths(here).values()} == {stop}
    (note,) = notes(caplog, "finish_reason")
    assert "\x1b" not in note


# -- parts and thoughts ----------------------------------------------------------------------


def chat(lmsi, front, *more):
    done = lmsi("sample", "q.jsonl", "-o", "run", "-n", "4", "-q", *options(front), *more)
    assert done.exit_code == 0, done.stderr


def replying(message, **more):
    def change(choice):
        choice.pop("logprobs", None)
        choice.update(message={"role": "assistant", **message}, **more)

    return changed(Model(), change)


SAYS = "2 + 2 = 4. The answer is 4."
TEXT = {"type": "text", "text": SAYS}


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
def test_content_in_parts(here, lmsi, content, text):
    with Front(replying({"content": content})) as front:
        chat(lmsi, front)
    assert {(p["text"], p["predicted_answer"]) for p in paths(here).values()} == {(text, "4")}


@pytest.mark.parametrize(
    "message",
    [
        {"content": "", "reasoning_content": SAYS},
        {"content": None, "reasoning": SAYS},
        {"content": " \n", "reasoning_content": SAYS},
        {"content": [{"type": "thinking", "thinking": SAYS}]},
    ],
    ids=["reasoning_content", "reasoning", "blank", "part"],
)
def test_thoughts_are_never_the_answer_and_that_is_said(here, lmsi, caplog, message):
    with Front(replying(message)) as front:
        chat(lmsi, front)
    assert Counter(p["predicted_answer"] for p in paths(here).values()) == {None: 12}
    during, after = notes(caplog, "thoughts only")
    assert "12 of 12" in after
    assert "reasoning format" in during
    assert "reasoning format" in after
    assert lmsi("vote", "run", "-q").exit_code == 1


def test_thoughts_that_were_cut_off_are_another_matter(here, lmsi, caplog):
    thinks = {"content": "", "reasoning_content": "2 + "}
    with Front(replying(thinks, finish_reason="length")) as front:
        chat(lmsi, front)
    assert {p["stop_reason"] for p in paths(here).values()} == {"length"}
    assert not notes(caplog, "thoughts only")


def test_replies_with_an_answer_are_not_counted_among_thoughts(here, lmsi, caplog):
    both = {"content": SAYS, "reasoning_content": "2 + 2"}
    with Front(replying(both)) as front:
        chat(lmsi, front)
    assert {p["predicted_answer"] for p in paths(here).values()} == {"4"}
    assert not notes(caplog, "thoughts only")


# -- log-probabilities -----------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--temperature", "0"), ("--set", "per_request=1")])
def test_a_server_that_fails_while_log_probabilities_are_asked_for(here, lmsi, caplog, more):
    with Front(fails_with("logprobs", Model(logprobs=False))) as front:
        sample(lmsi, front, *more)
        asked = [p for p in front.posts if "logprobs" in p]
        assert len(asked) == 2  # both in the look before the run
    assert paths(here).keys() == ALL
    assert {p["logprob"] for p in paths(here).values()} == {None}
    assert found(here)["logprobs"] == "not told"
    assert len(notes(caplog, "logprobs")) == 1


def test_a_passing_failure_is_not_laid_to_log_probabilities(here, lmsi, caplog):
    with Front(Model(), misdeeds=[fails(500)]) as front:
        sample(lmsi, front)
    assert found(here)["logprobs"] == "told"
    assert not notes(caplog, "logprobs")


def test_a_server_that_fails_in_any_case_keeps_its_words(here, lmsi):
    with Front(lambda s: Model()(s) if s.method == "GET" else (500, {}, told("no GPU"))) as front:
        done = sample(lmsi, front, code=1)
    assert "HTTP 500: no GPU" in done.stderr


# -- prompts that were cut -------------------------------------------------------------------


def cut_to(tokens):
    """Prompts lose what is more than the context, without a word."""
    model = Model()

    def cutting(seen):
        status, headers, found = model(seen)
        usage = found.get("usage", {})
        usage["prompt_tokens"] = min(tokens, usage.get("prompt_tokens", 0))
        return status, headers, found

    return cutting


def questions(here, *lengths):
    lines = [{"id": f"q{i}", "question": "ha " * (n // 3)} for i, n in enumerate(lengths)]
    (here / "q.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))


@pytest.mark.parametrize(
    "lengths", [(600, 900), (100, 4000)], ids=["one number for two lengths", "far too few"]
)
def test_prompts_that_a_server_cuts_in_silence(here, lmsi, caplog, lengths):
    questions(here, *lengths)
    with Front(cut_to(128)) as front:
        sample(lmsi, front)
    (note,) = notes(caplog, "cut")
    assert "128 tokens" in note
    assert "OLLAMA_CONTEXT_LENGTH" in note


@pytest.mark.parametrize("tokens", [10_000, 1, 0], ids=["all", "what no cache had", "none"])
def test_prompts_that_are_not_cut_or_not_counted(here, lmsi, caplog, tokens):
    questions(here, 60, 600, 610, 900, 4000)
    with Front(cut_to(tokens)) as front:
        sample(lmsi, front)
    assert not notes(caplog, "cut")
