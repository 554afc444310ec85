"""`lmsi sample` and `lmsi eval` with a server that answers from a script: what it can, what it is.

The servers here are ours and honest; those that misbehave are in test_servers_failing.py, and a
real one with a model in test_served_model.py.
"""

import json
import tomllib

import pytest
from served import ALL, found, options, paths, sample
from servers import Front, Model, resets

from lmsi_cli.config import EvalConfig, SampleConfig, ServerConfig, serving


def test_all_paths_of_a_question_in_one_request(here, lmsi):
    with Front(Model()) as front:
        sample(lmsi, front)
    assert paths(here).keys() == ALL
    assert [p.get("n") for p in front.posts] == [2, 4, 4, 4]  # the first one is the trial
    assert not any("seed" in p for p in front.posts)
    assert found(here)["per_request"] == "all"
    assert found(here)["seeds"] == "not sent"


def test_one_by_one_where_the_server_gives_one_whatever_it_is_asked(here, lmsi):
    with Front(Model(several=False)) as front:
        sample(lmsi, front)
    drawn = paths(here)
    assert drawn.keys() == ALL
    assert len(front.posts) == 1 + 12
    assert found(here) == {
        "per_request": 1, "seeds": "sent", "logprobs": "told", "answers_as": "tiny",
    }  # fmt: skip
    for p in drawn.values():
        assert p["text"].startswith(f" It is {p['seed'] & 0x7FFFFFFF}.")  # its own seed


def test_greedy_paths_are_not_asked_for_together(here, lmsi):
    with Front(Model()) as front:
        sample(lmsi, front, "--temperature", "0")
    assert len(front.posts) == 1 + 12  # a look whether the server answers, and how
    assert all(p["temperature"] == 0 and "n" not in p for p in front.posts)


def test_as_many_in_one_request_as_the_server_takes(here, lmsi):
    model = Model()

    def slots(seen):
        if seen.body.get("n", 1) > 2:
            told = {"error": {"message": "n_cmpl cannot be greater than the number of slots"}}
            return 400, {}, told
        return model(seen)

    with Front(slots) as front:
        sample(lmsi, front)
    assert paths(here).keys() == ALL
    assert found(here)["per_request"] == 2


def test_what_a_reply_lacks_is_asked_for_again(here, lmsi):
    model = Model()

    def short(seen):
        status, headers, told = model(seen)
        if seen.body.get("n", 0) > 2:
            told["choices"].pop()
        return status, headers, told

    with Front(short) as front:
        sample(lmsi, front)
    assert paths(here).keys() == ALL


def test_fields_that_the_server_does_not_know_are_left_out(here, lmsi):
    model = Model()

    def strict(seen):
        for field in ("top_k", "min_p", "repeat_penalty", "repetition_penalty"):
            if field in seen.body:
                return 400, {}, {"error": {"message": f"Unrecognized request argument: {field}"}}
        if "max_tokens" in seen.body:
            told = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return 400, {}, {"error": {"message": told}}
        return model(seen)

    with Front(strict) as front:
        sample(lmsi, front, "--max-tokens", "77")
    assert paths(here).keys() == ALL
    assert found(here)["not_taken"] == "top_k, min_p, repeat_penalty, repetition_penalty"
    assert front.posts[-1]["max_completion_tokens"] == 77


def test_log_probabilities_that_a_server_cannot_tell_are_none(here, lmsi):
    model = Model(logprobs=False)

    def refuses(seen):
        if "logprobs" in seen.body:
            return 500, {}, {"error": {"message": "logprobs is not supported for this model"}}
        return model(seen)

    with Front(refuses) as front:
        sample(lmsi, front)
    assert {p["logprob"] for p in paths(here).values()} == {None}
    assert found(here)["logprobs"] == "not told"
    assert lmsi("vote", "run", "-q").exit_code == 0


def test_log_probabilities_belong_to_the_kept_text(here, lmsi):
    with Front(Model()) as front:
        sample(lmsi, front)
    for p in paths(here).values():
        assert p["text"].endswith(f"The answer is {p['predicted_answer']}.")
        assert (p["stop_reason"], p["logprob"], p["mean_logprob"]) == ("answer", -3.5, -0.5)
        assert p["answer_logprob"] == -0.5


def test_a_prompt_that_does_not_fit_is_skipped_and_told(here, lmsi):
    model = Model()

    def small(seen):
        if "1 + 1" in seen.body.get("prompt", ""):
            told = "This model's maximum context length is 8 tokens, you requested 300 max_tokens"
            return 400, {}, {"error": {"message": told}}
        return model(seen)

    with Front(small) as front:
        done = sample(lmsi, front, code=1)
    assert paths(here).keys() == {k for k in ALL if k[0] != "q1"}
    assert "skipped: question 'q1'" in done.stderr
    assert "1 of 3 questions are not finished; the others are done" in done.stderr


def test_conversations_are_the_default_and_said(here, lmsi):
    with Front(Model()) as front:
        more = [*options(front), "--paths", "2", "--system", "Be brief."]
        done = lmsi("sample", "q.jsonl", "-o", "run", *more)
    assert done.exit_code == 0, done.stderr
    assert "asked in conversations: a server does not show its chat template" in done.stderr
    last = front.posts[-1]
    assert [m["role"] for m in last["messages"]] == ["system", "user"]
    assert (last["logprobs"], last["top_logprobs"], "stop" in last) == (True, 1, False)
    assert {s.path for s in front.seen if s.method == "POST"} == {"/v1/chat/completions"}
    told = tomllib.loads((here / "run" / "run.toml").read_text())["sample"]
    assert (told["chat"], told["server"], told["model"]) == ("on", "127.0.0.1", "tiny")


OFF = ("--template-var", "enable_thinking=false", "--template-var", "effort=low")


def test_variables_of_the_template_go_to_the_server_and_belong_to_the_run(here, lmsi):
    with Front(Model()) as front:
        sample(lmsi, front, "--chat", "on", *OFF)
        wanted = {"enable_thinking": False, "effort": "low"}
        assert [p["chat_template_kwargs"] for p in front.posts] == [wanted] * len(front.posts)
        before = len(front.posts)
        how = ["--data", "test.jsonl", "--modes", "cot", "-q", "--engine", "openai"]
        assert lmsi("eval", "run", *how).exit_code == 0
        assert [p["chat_template_kwargs"] for p in front.posts[before:]] == [wanted] * 5  # a trial
        done = sample(lmsi, front, "--chat", "on", code=1)
        assert "template_var: ['enable_thinking=false', 'effort=low'] in the run" in done.stderr
        assert lmsi("vote", "run", "-q").exit_code == 0
    lines = (here / "run" / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["chat_template_kwargs"] for line in lines] == [wanted] * len(lines)


def test_without_variables_there_is_no_such_field(here, lmsi):
    with Front(Model()) as front:
        sample(lmsi, front, "--chat", "on")
    assert not any("chat_template_kwargs" in p for p in front.posts)


@pytest.mark.parametrize("told", ["Unrecognized request argument: chat_template_kwargs", "no"])
def test_a_server_that_does_not_take_variables_is_not_asked_without_them(here, lmsi, told):
    """Another prompt would be asked than the one that was wished for."""
    model = Model()

    def strict(seen):
        bad = "chat_template_kwargs" in seen.body
        return (400, {}, {"error": {"message": told}}) if bad else model(seen)

    with Front(strict) as front:
        done = sample(lmsi, front, "--chat", "on", *OFF, code=1)
    assert "the server refuses the request (HTTP 400)" in done.stderr and told in done.stderr
    assert all("chat_template_kwargs" in p for p in front.posts)


def test_variables_need_conversations_on_a_server_too(here, lmsi):
    with Front(Model()) as front:
        done = sample(lmsi, front, *OFF, code=1)
        slip = sample(lmsi, front, "--chat", "on", "--template-var", "a=False", code=1)
    assert done.stderr.startswith("error: --template-var needs a conversation")
    assert slip.stderr.startswith("error: --template-var a=False: ")
    assert not front.posts


def test_a_decided_question_is_left(here, lmsi):
    model = Model(say=lambda body, i: " The answer is 4.")
    with Front(model) as front:
        sample(lmsi, front, "--paths", "40", "--stop", "window:3")
    assert paths(here).keys() == {(f"q{i}", j) for i in range(3) for j in range(3)}


def test_no_more_requests_at_once_than_asked_for(here, lmsi):
    with Front(Model()) as front:
        sample(lmsi, front, "--paths", "20", "--set", "per_request=1", "--set", "concurrency=3")
    assert front.most <= 3
    assert len(paths(here)) == 60


def test_a_run_goes_on_with_what_is_missing(here, lmsi):
    with Front(Model()) as front:
        sample(lmsi, front, "--limit", "1")
        sample(lmsi, front, "--paths", "6")
    assert len(paths(here)) == 18
    asked = [p["n"] for p in front.posts]
    assert asked == [2, 4, 2, 2, 6, 6]  # a trial each time; then q0's two, and all of q1 and q2


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("other", "the server has no model 'tiny'; it has: other"),
        ("tiny:latest", "model_stated: tiny in the run folder, tiny:latest now"),
    ],
)
def test_a_server_that_has_another_model_now(here, lmsi, name, complaint):
    with Front(Model()) as front:
        sample(lmsi, front, "--limit", "1")
        front.answer = Model(name)
        done = sample(lmsi, front, code=1)
    assert complaint in done.stderr
    assert len(paths(here)) == 4


def test_replies_that_name_another_model_than_before(here, lmsi):
    model = Model()

    def moved(seen):
        status, headers, told = model(seen)
        return status, headers, {**told, "model": "tiny-2"}

    with Front(model) as front:
        sample(lmsi, front, "--limit", "1")
        front.answer = lambda seen: (moved if seen.method == "POST" else model)(seen)
        done = sample(lmsi, front, code=1)
    assert "answers with another model, tiny-2; it was tiny before" in done.stderr
    assert len(paths(here)) == 4


def test_a_run_of_llama_cpp_is_not_gone_on_with(here, lmsi):
    with Front(Model()) as front:
        sample(lmsi, front, "--limit", "1")
        file = here / "run" / "run.toml"
        file.write_text(file.read_text().replace('engine = "openai"\n', ""))
        done = sample(lmsi, front, code=1)
    assert "engine: llama in the run folder, openai now" in done.stderr


def test_eval_compares_the_base_with_adapters_by_their_names(here, lmsi):
    class Both(Model):
        def __call__(self, seen):
            if seen.path.endswith("/models"):
                return 200, {}, {"data": [{"id": "tiny"}, {"id": "tiny/lora"}]}
            return super().__call__(seen)

    with Front(Both(say=lambda body, i: f" The answer is {len(body['model']) % 3}.")) as front:
        sample(lmsi, front)
        before = len(front.posts)
        how = ["--data", "test.jsonl", "--modes", "cot,sc", "--paths", "2", "--json", "-q"]
        done = lmsi("eval", "run", *how, "--engine", "openai", "--adapter", "tiny/lora")
    assert done.exit_code == 0, done.stderr
    (result,) = json.loads(done.stdout)
    assert [v["name"] for v in result["variants"]] == ["base", "tiny-lora"]
    assert {p["model"] for p in front.posts[before:]} == {"tiny", "tiny/lora"}
    assert result["source"]["file"] == "tiny on 127.0.0.1"
    with Front(Model()) as front:
        there = ["--engine", "openai", "--base-url", front.url, "--adapter", "gone"]
        done = lmsi("eval", "run", *how, *there)
    assert "the server has no model 'gone'; it has: tiny" in done.stderr


def test_what_needs_the_model_file_says_that_there_is_none(here, lmsi):
    with Front(Model()) as front:
        sample(lmsi, front)
        adapter = sample(lmsi, front, "--set", "adapter=a.gguf", code=1)
    assert "a server has its adapters under names of their own" in adapter.stderr
    for command in (["eval", "run", "--data", "test.jsonl"], ["train", "run"]):
        done = lmsi(*command)
        assert done.exit_code == 1
        assert "its paths were drawn by a server (tiny on 127.0.0.1)" in done.stderr
    (here / "c.toml").write_text('[sample]\nengine = "openai"\n')
    done = lmsi("run", "q.jsonl", "--config", "c.toml", "--data", "test.jsonl")
    assert done.exit_code == 1
    assert "llama.cpp has to draw the paths" in done.stderr


def test_a_dry_run_shows_the_request_and_sends_none(here, lmsi):
    with Front(Model()) as front:
        done = sample(lmsi, front, "--dry-run", "--json")
    told = json.loads(done.stdout)
    assert told["paths"] == 12
    assert told["request"]["POST"] == f"{front.url}/completions"
    assert told["request"]["prompt"].startswith("Q: What is 0 + 0?")
    assert not front.posts
    assert not (here / "run").exists()


def test_a_server_that_lists_no_models_is_asked_all_the_same(here, lmsi):
    model = Model()
    missing = 404, {}, {"detail": "Not Found"}
    with Front(lambda seen: model(seen) if seen.method == "POST" else missing) as front:
        sample(lmsi, front)
    assert paths(here).keys() == ALL


def test_a_reset_at_the_first_path_is_no_wrong_address(here, lmsi):
    model = Model()
    missing = 404, {}, {"detail": "Not Found"}
    answer = lambda seen: model(seen) if seen.method == "POST" else missing  # noqa: E731
    with Front(answer, misdeeds=[resets]) as front:
        sample(lmsi, front)
    assert paths(here).keys() == ALL


def test_one_bad_question_does_not_stop_the_others(here, lmsi):
    model = Model()

    def poisoned(seen):
        bad = "1 + 1" in seen.body.get("prompt", "")
        return (500, {}, {"error": "cannot"}) if bad else model(seen)

    with Front(poisoned) as front:
        done = sample(lmsi, front, "--set", "concurrency=1", "--set", "retries=1", code=1)
    assert {q for q, _ in paths(here)} == {"q0", "q2"}
    assert "skipped: question 'q1'" in done.stderr
    assert "failed again and again: HTTP 500: cannot" in done.stderr


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["sample", "q.jsonl", "-o", "x", "--base-url", "http://gpu/v1"], "--base-url: that is a"),
        (["sample", "q.jsonl", "-o", "x", "--set", "api_key_file=k"], "api_key_file: that is a"),
        (["eval", "run", "--data", "test.jsonl", "--set", "model=tiny"], "--set model: that is"),
        (["eval", "run", "--engine", "openai", "--dry-run"], "--dry-run: what it would cost only"),
        (["eval", "run", "--engine", "openai", "--adapter-scale", "2"], "act as it was told"),
        (["eval", "run", "--engine", "openai", "--require-gain"], "no adapter to require a gain"),
        (["sample", "q.jsonl", "-o", "x", "--engine", "openai"], "needs the server's address"),
        (["sample", "q.jsonl", "-o", "x", "--engine", "openai", "--base-url", "http://ä..b/v1"],
         "http://ä..b:80/v1: no address"),
    ],
)  # fmt: skip
def test_settings_that_have_no_meaning_are_refused(here, lmsi, command, complaint):
    done = lmsi(*command)
    assert done.exit_code == 1
    assert complaint in done.stderr


def test_two_stages_are_for_llama_cpp(here, lmsi):
    with Front(Model()) as front:
        done = sample(lmsi, front, "--prompt", "cot-zero-2", code=1)
    assert "two stages in one cache need llama.cpp" in done.stderr


def test_all_commands_with_servers_have_the_same_defaults():
    for kind in (SampleConfig(), EvalConfig()):
        assert serving(kind) == ServerConfig()
