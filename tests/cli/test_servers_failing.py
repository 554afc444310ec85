"""Servers that are gone, broken or not what they seem: nothing lost, nothing twice, one clear line.

The key must be nowhere but in the header of requests to the one server that was named.
"""

import gzip
import json
import os
import shutil
import signal
import ssl
import subprocess
import threading

import forked
import pytest
import servers
from builders import tree
from commands import ALL, PLAIN, ask, by_key, options, refused, works
from servers import Front, Model, told, unless

KEY = "sk-geheim-0123456789"


def always(status, body, headers=None):
    return lambda seen: (status, headers or {}, body)


def posts(*reply):
    """A server that lists its model, and gives this reply to all else."""
    return unless(lambda s: s.method == "POST", reply)


def at(address):
    return ("--base-url", address)


ELSEWHERE = always(302, b"", {"Location": "http://elsewhere/v1"})
LONG = gzip.compress(b'{"data": "' + b"x" * (65 << 20))
PACKED = always(200, LONG, {"Content-Encoding": "gzip"})
UNKNOWN = servers.rejects("chat_template_kwargs", 400, "not known: chat_template_kwargs")
NOBODY = "http://127.0.0.1:9/v1"
VARIABLES = ("--chat", "on", "--template-var", "effort=low")
CLEAR = {
    "401": (always(401, told("bad key")), (), ["HTTP 401: ", "bad key"], "LMSI_API_KEY"),
    "302": (ELSEWHERE, (), ["http://elsewhere/v1, which is not followed"], "that address"),
    "page": (always(200, b"<html>Open WebUI</html>"), (), ["HTML instead of JSON"], "/v1?"),
    "400": (always(400, {"error": "go\x1b[2Jaway"}), (), ["(HTTP 400): go [2Jaway"], "--dry-run"),
    "other JSON": (always(200, b'{"data": [{"id": 3}]}'), (), ["a reply that"], "same command"),
    "never loads": (always(503, told("Loading model")), (), ["HTTP 503: Loading model"], ""),
    "no plain completions": (posts(404, {}, {"detail": "no"}), (), ["HTTP 404"], "--chat on"),
    "a packed reply without end": (PACKED, (), ["a reply of over 64 MiB"], "per_request=1"),
    "a long rest": (posts(429, {"Retry-After": "7200"}, {}), (), ["120 minutes"], "same command"),
    "an unknown variable": (UNKNOWN, VARIABLES, ["(HTTP 400)", "chat_template_kwargs"], ""),
    "nobody there": (Model(), at(NOBODY), [f"{NOBODY}: the connection failed"], "/v1?"),
    "no /v1": (always(404, {"detail": "Not Found"}), at("HOST"),
               ["HTTP 404 for /completions: Not Found"], "--base-url HOST/v1"),
    "no /v1, LM Studio": (servers.lm_studio, at("HOST"),
                          ["Unexpected endpoint or method. (GET /models)"], "--base-url HOST/v1"),
    "another path": (servers.lm_studio, at("HOST/api/v1"), ["(GET /api/v1/models)"], "/v1?"),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "flags", "words", "hint"), CLEAR.values(), ids=CLEAR.keys())
def test_one_clear_message(here, lmsi, answer, flags, words, hint):
    with Front(answer) as front:
        host = front.url.removesuffix("/v1")
        flags = [flag.replace("HOST", host) for flag in flags]
        done = ask(lmsi, front, "--set", "retries=2", *flags, code=1)
    refused(done, *words, hint=hint.replace("HOST", host))
    if "effort=low" in flags:  # without it another prompt would be asked than was wished for
        assert front.posts and all("chat_template_kwargs" in p for p in front.posts)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_has_to_be_trusted(here, lmsi, monkeypatch):
    make = "openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 2 -subj /CN=x"
    command = [*make.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("c.pem", "k.pem")
    with Front(Model()) as front:
        front.socket = context.wrap_socket(front.socket, server_side=True)
        secure = ("--base-url", front.url.replace("http:", "https:"))
        done = ask(lmsi, front, *secure, code=1)
        refused(done, "CERTIFICATE_VERIFY_FAILED", hint="SSL_CERT_FILE=FILE")
        monkeypatch.setenv("SSL_CERT_FILE", "c.pem")
        ask(lmsi, front, *secure)
    assert by_key().keys() == ALL


# -- the model, the context ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "began", "words"),
    [
        (Model("other"), "openai", "the server has no model 'tiny'; it has: other"),
        (Model("tiny:latest"), "openai", "model_stated: tiny in the run folder, tiny:latest now"),
        (servers.changed(lambda found: found.update(model="tiny-2")), "openai",
         "answers with another model, tiny-2; it was tiny before"),
        (Model(), "llama", "engine: llama in the run folder, openai now"),
    ],
    ids=["gone", "stated", "answering", "of llama.cpp"],
)  # fmt: skip
def test_a_run_goes_on_with_the_model_that_began_it(here, lmsi, answer, began, words):
    with Front(Model()) as front:
        ask(lmsi, front, "--limit", "1")
        file = here / "run" / "run.toml"
        file.write_text(file.read_text().replace('engine = "openai"', f'engine = "{began}"'))
        front.answer = answer
        refused(ask(lmsi, front, code=1), words)
    assert len(by_key()) == 4


VLLM = "maximum context length is {c} tokens. You requested {w} output tokens, your prompt has {p}"
REFUSALS = {
    "vllm": VLLM,
    "vllm-old": "maximum context length is {c} tokens. However, you requested {t} tokens ({p} in",
    "vllm-chat": "'max_tokens' or 'max_completion_tokens' is too large: {w} ({w} > {c} - {p}).",
    "sglang": "exceeds the model's maximum context length of {c} tokens. You requested {t} tokens",
    "tgi": "`inputs` tokens + `max_new_tokens` must be <= {c}. Given: {p} `inputs` tokens and {w}",
}
LISTED = ("max_model_len", "context_length", "max_context_length", "context_window")
SHORTEST = len("Q: What is 0 + 0?\nA: Let's think step by step.") // servers.LETTERS


@pytest.mark.parametrize(
    ("words", "listed"),
    [*((VLLM, {name: 600}) for name in LISTED), *((words, {}) for words in REFUSALS.values())],
    ids=[*LISTED, *REFUSALS],
)
def test_max_tokens_beyond_the_context_is_told_once(here, lmsi, words, listed):
    """By the context that the server lists, or else by what its refusal says."""
    fits = f"{600 - SHORTEST}"
    with Front(servers.with_context(600, words, listed)) as front:
        done = ask(lmsi, front, "--max-tokens", "700", code=1)
        assert done.stderr.count("--max-tokens 700") == 1
        assert f"--max-tokens {fits} " in done.stderr and "skipped" not in done.stderr
        if listed:
            assert max(p["max_tokens"] for p in front.posts) <= 24  # nothing was asked in vain
            ask(lmsi, front, "--max-tokens", fits)  # the folder is still free
            assert by_key().keys() == ALL


@pytest.mark.parametrize("listed", [{}, {"max_model_len": 600}], ids=["refused", "listed"])
def test_questions_that_are_too_long_are_named_and_the_others_drawn(here, lmsi, listed):
    """One leaves no room for ``--max-tokens``, one does not fit by itself."""
    lengths = {"q0": 10, "q1": 1600, "q2": 4000}
    lines = [{"id": q, "question": "ha " * (n // 3)} for q, n in lengths.items()]
    (here / "q.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    with Front(servers.with_context(600, VLLM, listed)) as front:
        done = ask(lmsi, front, code=1)
    assert {q for q, _ in by_key()} == {"q0"}
    skipped = [x for x in done.stderr.splitlines() if x.startswith("skipped: ")]
    assert {x.split("'")[1]: "--max-tokens 256" in x for x in skipped} == {"q1": True, "q2": False}


# -- going on --------------------------------------------------------------------------------


def test_one_bad_question_does_not_stop_the_others(here, lmsi):
    poisoned = unless(lambda s: "1 + 1" in s.body.get("prompt", ""), (500, {}, {"error": "cannot"}))
    with Front(poisoned) as front:
        done = ask(lmsi, front, "--set", "concurrency=1", "--set", "retries=1", code=1)
    assert {q for q, _ in by_key()} == {"q0", "q2"}
    assert "skipped: question 'q1'" in done.stderr and "HTTP 500: cannot" in done.stderr
    assert "1 of 3 questions are not finished" in done.stderr


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_server_that_is_gone_ends_the_run_and_the_same_command_goes_on(here, lmsi, concurrency):
    """One question may be at fault itself; with a second one in a row it is the server."""
    with Front(Model(), misdeeds=[None, None, *[servers.fails(500)] * 50]) as front:
        more = ["--set", f"concurrency={concurrency}", "--set", "retries=3"]
        done = ask(lmsi, front, *more, code=1)
        assert "HTTP 500: out of order" in done.stderr
        assert "the same command again" in done.stderr
        assert len(by_key()) == 4
        # side by side, both were sent before the last good reply, so one is tried once more
        again = 0 if concurrency == 1 else 4
        assert 2 + 4 + 4 + again <= len(front.posts) <= 2 + 4 + 4 + 2 * again
        front.misdeeds.clear()
        ask(lmsi, front)
    assert by_key().keys() == ALL


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_that_waits_for_a_reply_and_no_path_is_lost(here, lmsi, number, code):
    model, waits, goes_on = Model(), threading.Event(), threading.Event()

    def hangs(seen):
        if len(front.posts) > 2:  # the trial and the first question are answered
            waits.set()
            goes_on.wait(30)
        return model(seen)

    with Front(hangs) as front:
        more = [*options(front, *PLAIN), "-n", "4", "-q", "--set", "concurrency=1"]
        command = ["-m", "lmsi_cli", "sample", "q.jsonl", "-o", "run", *more]
        with forked.python(*command) as process:
            assert waits.wait(30)
            process.send_signal(number)
            assert "Traceback" not in process.communicate(timeout=5)[1]
        assert process.returncode == code
        goes_on.set()
        kept = by_key()
        assert len(kept) == 4
        ask(lmsi, front)
    assert by_key().keys() == ALL and by_key().items() >= kept.items()


# -- the key ---------------------------------------------------------------------------------


def kept_secret(folder, *said):
    """The key is neither in a file nor in what was said."""
    files = tree(folder)
    assert files
    assert b"geheim" not in b"".join(files.values()) and "geheim" not in "".join(said)


def echoing(seen):
    """A server that repeats the key in all that it says."""
    given = seen.headers.get("Authorization", "none")
    return 500, {}, {"error": {"message": f"for {given} there is nothing, {given[7:]}"}}


def test_the_key_is_sent_and_nowhere_written(here, lmsi, monkeypatch, caplog):
    monkeypatch.setenv("LMSI_API_KEY", KEY)
    model = Model()
    with Front(model) as front:
        shown = [ask(lmsi, front, "--limit", "2", "-v")]
        assert {s.headers["Authorization"] for s in front.seen} == {f"Bearer {KEY}"}
        front.answer = lambda s: echoing(s) if s.method == "POST" else model(s)
        shown.append(ask(lmsi, front, "--set", "retries=1", code=1))
        for status in (401, 200):
            front.answer = lambda s, status=status: (status, {}, echoing(s)[2])
            shown.append(ask(lmsi, front, code=1))
    works("vote", "run", "-q")
    works("report", "run")
    assert "for Bearer [key] there is nothing, [key]" in shown[1].stderr
    kept_secret(here, caplog.text, *(d.stdout + d.stderr for d in shown))


def test_the_key_of_a_file(here, lmsi):
    file, filed = here / "key", ("--set", "api_key_file=key")
    file.write_text(KEY + "\n")
    with Front(Model()) as front:
        file.chmod(0o640)
        refused(ask(lmsi, front, *filed, code=1), hint="chmod 600 key")
        assert not front.seen
        file.chmod(0o600)
        ask(lmsi, front, *filed)
        assert {s.headers["Authorization"] for s in front.seen} == {f"Bearer {KEY}"}
    kept_secret(here / "run")


def test_the_key_does_not_show_in_a_bugs_traceback(here, monkeypatch):
    monkeypatch.setenv("LMSI_API_KEY", KEY)
    code = (
        "from lmsi_cli.cli.main import main\n"
        "from lmsi_cli.engine.server.requests import Capabilities\n"
        "Capabilities.body = lambda *a: 1 / 0\n"
        "main()"
    )
    with Front(Model()) as front:
        argv = ["sample", "q.jsonl", "-o", "run", *options(front), "--chat", "off", "-v"]
        said = forked.python("-c", code, *argv).communicate()
    assert "ZeroDivisionError" in said[1]
    kept_secret(here, *said)


def test_no_key_goes_to_another_host(here, lmsi, monkeypatch):
    (here / ".netrc").write_text(f"machine 127.0.0.1 login me password {KEY}\n")
    monkeypatch.setenv("NETRC", str(here / ".netrc"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Front(Model()) as other, Front(Model()) as front:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, other.url[:-3])
        ask(lmsi, front)
        assert front.seen and not any("Authorization" in s.headers for s in front.seen)
        monkeypatch.setenv("LMSI_API_KEY", KEY)
        front.answer = always(307, b"", {"Location": other.url + "/models"})
        refused(ask(lmsi, front, "--paths", "5", code=1), "which is not followed")
        assert not other.seen
