"""`lmsi sample` and `lmsi eval` with a server that answers from a script: what it can, what it is.

What it replies is in test_server_replies.py; servers that end a run are in test_servers_failing.py,
a real one is in test_served_model.py.
"""

import asyncio
import json
import sys
import time
from typing import NamedTuple

import pytest
import servers
from commands import ALL, ask, by_key, notes, refused, settings, works
from servers import Front, Model, changed, fails, rejects, told, unless

import lmsi_cli

# -- what a server can -----------------------------------------------------------------------


class Case(NamedTuple):
    """A server, the flags, what run.toml says of it, and how many requests there are."""

    answer: object
    found: dict = {}  # noqa: RUF012 - never changed
    posts: int | None = None
    flags: tuple = ()
    misdeeds: tuple = ()


SLOTS = told("n_cmpl cannot be greater than the number of slots")
LENGTHS = {"max_model_len": None, "context_length": "600"}
RARE = ("top_k", "min_p", "repeat_penalty", "repetition_penalty")


def strict(seen):
    """Knows few fields, and complains of one at a time."""
    unknown = next((field for field in RARE if field in seen.body), None)
    if unknown:
        return 400, {}, told(f"Unrecognized request argument: {unknown}")
    if "max_tokens" in seen.body:
        return 400, {}, told("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.")
    return Model()(seen)


def forgets_one(found):
    if len(found["choices"]) > 2:
        found["choices"].pop()


def loading():
    seen = []
    busy = 503, {}, told("Loading model")
    return unless(lambda s: seen.append(s) or len(seen) <= 5, busy)


def lists(status, found):
    return unless(lambda s: s.method == "GET", (status, {}, found))


PASSING = {
    "500": fails(500),
    "503": fails(503, body=b"<html>Bad gateway</html>"),
    "429": fails(429, {"Retry-After": "0"}),
    "error": fails(200, body=told("overloaded")),
    "no choices": fails(200, body={"choices": []}),
    "null": fails(200, body=b"null"),
    "reset": servers.resets,
    "half": fails(200, body=b'{"choices": [{"te'),
    "page": fails(200, body=b"<h1>Welcome</h1>"),
    "utf-8": fails(200, body=b'{"choices": [{"text": "\xf0\x9f"}]}'),
}
NOT_TOLD = {"logprobs": "not told"}
ONE_BY_ONE = {"per_request": 1, "seeds": "sent", "logprobs": "told", "answers_as": "tiny"}
SERVERS = {
    "all at once": Case(Model, {"per_request": "all", "seeds": "not sent"}, 4),
    "one whatever it is asked": Case(lambda: Model(several=False), ONE_BY_ONE, 13),
    "greedy": Case(Model, {}, 13, ("--temperature", "0")),
    "two slots": Case(lambda: unless(lambda s: s.body.get("n", 1) > 2, (400, {}, SLOTS)),
                      {"per_request": 2}),
    "a reply lacks one": Case(lambda: changed(forgets_one)),
    "few fields": Case(lambda: strict, {"not_taken": ", ".join(RARE)}),
    "no list, and a reset": Case(lambda: lists(404, {}), misdeeds=(servers.resets,)),
    "a bare list": Case(lambda: lists(200, [{"id": "tiny"}])),
    "a length in words": Case(lambda: lists(200, {"data": [{"id": "tiny", **LENGTHS}]})),
    "still loading": Case(loading),
    "log-probabilities refused": Case(lambda: rejects("logprobs", 500, "not supported"), NOT_TOLD),
    "they fail, greedy": Case(lambda: rejects("logprobs"), NOT_TOLD, None, ("--temperature", "0")),
    "a passing failure at the look": Case(Model, {"logprobs": "told"}, 5, (), (fails(500),)),
    **{f"passing: {name}": Case(Model, {}, 1 + 3 + 3, (), (None, bad, bad, None, bad))
       for name, bad in PASSING.items()},
}  # fmt: skip


@pytest.mark.parametrize("case", SERVERS.values(), ids=SERVERS.keys())
def test_every_path_is_drawn_once(here, lmsi, caplog, case):
    with Front(case.answer(), misdeeds=case.misdeeds) as front:
        ask(lmsi, front, *case.flags)
    assert by_key().keys() == ALL
    assert settings("run", "engine").items() >= case.found.items()
    assert case.posts in (None, len(front.posts))
    name = "max_completion_tokens" if case.answer() is strict else "max_tokens"
    assert front.posts[-1][name] == 256
    untold = case.found == NOT_TOLD
    for p in by_key().values():  # log-probabilities belong to the kept text
        assert p["text"].endswith(f"The answer is {p['predicted_answer']}.")
        assert p["stop_reason"] == "answer"
        found = [p.get(name) for name in ("logprob", "mean_logprob", "answer_logprob")]
        assert found == ([None] * 3 if untold else [-3.5, -0.5, -0.5])
        if case.found == ONE_BY_ONE:
            assert p["text"].startswith(f" It is {p['seed'] & 0x7FFFFFFF}.")
    assert len(notes(caplog, "logprobs")) == untold
    if untold:
        assert 1 <= len([p for p in front.posts if "logprobs" in p]) <= 2  # in the first look
        assert lmsi("vote", "run", "-q").exit_code == 0


def test_a_notebook_whose_own_loop_is_running_can_ask(here):
    async def cell():
        with Front(Model()) as front:
            given = {"base_url": front.url, "model": "tiny", "chat": "off", "prompt": "cot-zero"}
            return lmsi_cli.sample("q.jsonl", "run", engine="openai", paths=4, quiet=True, **given)

    assert asyncio.run(cell()).new_paths == 12
    assert by_key().keys() == ALL


def test_no_more_requests_at_once_than_asked_for(here, lmsi):
    model, busy, most = Model(), [], []

    def counted(seen):
        busy.append(seen)
        most.append(len(busy))
        try:
            return model(seen)
        finally:
            busy.remove(seen)

    with Front(counted) as front:
        ask(lmsi, front, "--paths", "20", "--set", "per_request=1", "--set", "concurrency=3")
    assert max(most) <= 3 and len(by_key()) == 60


def test_a_decided_question_is_left(here, lmsi):
    with Front(Model(say=lambda body, i: " The answer is 4.")) as front:
        ask(lmsi, front, "--paths", "40", "--stop", "window:3")
    assert by_key().keys() == {(f"q{i}", j) for i in range(3) for j in range(3)}


def test_retry_after_is_waited_for_and_a_reply_that_drips_is_given_up(here, lmsi):
    waits = fails(429, {"Retry-After": "0.6"})
    with Front(Model(), misdeeds=[None, waits, servers.drips]) as front:
        begun = time.monotonic()
        ask(lmsi, front, "--set", "per_request=2", "--set", "concurrency=1", "--set", "timeout=0.5")
        assert 0.6 + 0.5 <= time.monotonic() - begun < 5
    assert by_key().keys() == ALL


# -- other commands -----------------------------------------------------------


def test_eval_compares_the_base_with_adapters_by_their_names(here, lmsi):
    with Front(lists(200, {"data": [{"id": "tiny"}, {"id": "tiny/lora"}]})) as front:
        ask(lmsi, front)
        before = len(front.posts)
        how = ["--data", "test.jsonl", "--modes", "cot,sc", "--paths", "2", "--json", "-q"]
        done = works("eval", "run", *how, "--engine", "openai", "--adapter", "tiny/lora")
        (result,) = json.loads(done.stdout)
        assert [v["name"] for v in result["variants"]] == ["base", "tiny-lora"]
        assert {p["model"] for p in front.posts[before:]} == {"tiny", "tiny/lora"}
        assert result["source"]["file"] == "tiny on 127.0.0.1"
        gone = ["--engine", "openai", "--adapter", "gone"]
        refused(lmsi("eval", "run", *how, *gone), "no model 'gone'; it has: tiny, tiny/lora")
    for command in (["eval", "run", "--data", "test.jsonl"], ["train", "run"]):  # need its file
        refused(lmsi(*command), "drawn by a server (tiny on 127.0.0.1)")


def test_a_dry_run_shows_the_request_and_sends_none(here, lmsi):
    with Front(Model()) as front:
        shown = json.loads(ask(lmsi, front, "--dry-run", "--json").stdout)
    assert shown["paths"] == 12
    assert shown["request"]["POST"] == f"{front.url}/completions"
    assert shown["request"]["prompt"].startswith("Q: What is 0 + 0?")
    assert not front.posts and not (here / "run").exists()


def test_without_a_package_the_line_to_type_is_said(here, lmsi, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lmsi_cli.engine.server.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with Front(Model()) as front:
        refused(ask(lmsi, front, code=1), hint="pip install '.[server]' in lmsi's folder")
