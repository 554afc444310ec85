"""Servers that are gone, broken or not what they seem: nothing lost, nothing twice, one clear line.

The key must be nowhere but in the header of requests to the one server that was named.
"""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import servers
from served import ALL, options, paths, sample
from servers import Front, Model, fails

import lmsi_cli

KEY = "sk-geheim-0123456789"


def everything(folder):
    """All that was written, as one text."""
    return "\n".join(
        f.read_bytes().decode(errors="replace") for f in sorted(folder.rglob("*")) if f.is_file()
    )


@pytest.mark.parametrize(
    "misdeed",
    [
        fails(500),
        fails(503, body=b"<html>Bad gateway</html>"),
        fails(429, {"Retry-After": "0"}),
        fails(200, body={"error": {"message": "overloaded"}}),
        fails(200, body={"choices": []}),
        fails(200, body=b"null"),
        servers.resets,
        servers.halves,
        servers.page,
        servers.cuts_a_character,
    ],
    ids=["500", "503", "429", "error", "no choices", "null", "reset", "half", "page", "utf-8"],
)
def test_a_passing_failure_costs_no_path(here, lmsi, misdeed):
    with Front(Model(), misdeeds=[None, misdeed, misdeed, None, misdeed]) as front:
        sample(lmsi, front)
    assert paths(here).keys() == ALL
    assert all(p["predicted_answer"] in "012" for p in paths(here).values())
    assert len(front.posts) == 1 + 3 + 3  # the trial, the questions, and one more for each failure


def test_a_reply_that_drips_is_given_up_in_time(here, lmsi):
    with Front(Model(), misdeeds=[None, servers.drips]) as front:
        begun = time.monotonic()
        sample(lmsi, front, "--set", "timeout=0.5")
        assert time.monotonic() - begun < 5
    assert paths(here).keys() == ALL


def test_half_a_character_is_replaced_and_not_asked_for_again(here, lmsi):
    model = Model(logprobs=False)
    model.choice = lambda text, index, talks, body: {"text": r"\ud83d" + text}

    def answer(seen):
        status, headers, told = model(seen)
        return status, headers, json.dumps(told).replace(r"\\ud83d", r"\ud83d").encode()

    with Front(answer) as front:
        sample(lmsi, front)
    assert {p["text"][:2] for p in paths(here).values()} == {"\ufffd "}
    assert len(front.posts) == 4


def test_retry_after_is_waited_for(here, lmsi):
    waits = fails(429, {"Retry-After": "0.6"})
    with Front(Model(), misdeeds=[None, waits]) as front:
        sample(lmsi, front, "--set", "per_request=2", "--set", "concurrency=1")
    times = [s.at for s in front.seen if s.method == "POST"]
    assert times[2] - times[1] >= 0.6


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_server_that_is_gone_ends_the_run_and_the_same_command_goes_on(here, lmsi, concurrency):
    """One question may be at fault itself; with a second one in a row it is the server."""
    with Front(Model(), misdeeds=[None, None, *[fails(500)] * 50]) as front:
        done = sample(
            lmsi, front, "--set", f"concurrency={concurrency}", "--set", "retries=3", code=1
        )
        assert "HTTP 500: out of order" in done.stderr
        assert "give the same command again" in done.stderr
        assert len(paths(here)) == 4
        # side by side, both were sent before the last good reply, so one is tried once more
        again = 0 if concurrency == 1 else 4
        assert 2 + 4 + 4 + again <= len(front.posts) <= 2 + 4 + 4 + 2 * again
        front.misdeeds.clear()
        sample(lmsi, front)
    assert paths(here).keys() == ALL


def test_a_server_that_wants_a_long_rest_gets_it(here, lmsi):
    with Front(Model(), misdeeds=[None, fails(429, {"Retry-After": "7200"})]) as front:
        done = sample(lmsi, front, "--set", "concurrency=1", code=1)
    assert "120 minutes" in done.stderr


def test_an_interrupted_run_loses_no_finished_path(here, lmsi, monkeypatch):
    from lmsi_cli.stages import sample as stage

    count, tell = [], stage._Tally.count

    def interrupted(tally, path):
        tell(tally, path)
        count.append(path)
        if len(count) == 3:
            raise KeyboardInterrupt

    with Front(Model()) as front:
        monkeypatch.setattr(stage._Tally, "count", interrupted)
        sample(lmsi, front, code=130)
        assert len(paths(here)) == 3
        monkeypatch.setattr(stage._Tally, "count", tell)
        sample(lmsi, front)
    assert paths(here).keys() == ALL


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_that_waits_for_a_reply(here, number, code):
    model, asked, told = Model(), threading.Event(), threading.Event()

    def hangs(seen):
        if seen.method == "POST":
            asked.set()
            told.wait(30)
        return model(seen)

    command = [sys.executable, "-m", "lmsi_cli", "sample", "q.jsonl", "-o", "run", "-q"]
    env = {**os.environ, "PYTHONPATH": str(Path(lmsi_cli.__file__).parent.parent)}
    with Front(hangs) as front:
        process = subprocess.Popen([*command, *options(front)], env=env, stderr=subprocess.PIPE)
        assert asked.wait(30)
        process.send_signal(number)
        begun = time.monotonic()
        assert process.wait(10) == code
        assert time.monotonic() - begun < 5
        told.set()
        assert b"Traceback" not in process.stderr.read()
        process.stderr.close()


# -- a server that is not what it seems ------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "complaint", "hint"),
    [
        ((401, {}, {"error": {"message": "bad key"}}), "HTTP 401: the server wants a key: bad key",
         "set LMSI_API_KEY"),
        ((302, {"Location": "http://elsewhere/v1"}, b""),
         "sent on to http://elsewhere/v1, which is not followed", "give that address"),
        ((200, {}, b"<html>Open WebUI</html>"), "HTML instead of JSON", "with its /v1?"),
        ((400, {}, {"error": "go\x1b[2Jaway"}), "the request (HTTP 400): go [2Jaway", "--dry-run"),
        ((200, {}, b'{"data": [{"id": 3}]}'),
         "a reply that cannot be read", "same command"),
    ],
    ids=["401", "302", "page", "400", "other JSON"],
)  # fmt: skip
def test_one_clear_message(here, lmsi, answer, complaint, hint):
    with Front(lambda seen: answer) as front:
        done = sample(lmsi, front, "--set", "retries=2", code=1)
    assert complaint in done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_still_loads_its_model_is_waited_for(here, lmsi):
    model, count = Model(), []

    def loads(seen):
        count.append(seen)
        loading = 503, {}, {"error": {"message": "Loading model"}}
        return loading if len(count) <= 5 else model(seen)

    with Front(loads) as front:
        sample(lmsi, front)
    assert paths(here).keys() == ALL
    with Front(lambda seen: (503, {}, {"error": {"message": "Loading model"}})) as front:
        done = sample(lmsi, front, code=1)
    assert "HTTP 503: Loading model" in done.stderr


def test_an_address_without_v1_is_guessed_and_said(here, lmsi):
    with Front(lambda seen: (404, {}, {"detail": "Not Found"}), base="") as front:
        done = sample(lmsi, front, code=1)
    assert "HTTP 404 for /completions: Not Found" in done.stderr
    assert f"--base-url {front.url}/v1" in done.stderr


def test_a_server_without_plain_completions(here, lmsi):
    model = Model()
    with Front(lambda s: model(s) if s.method == "GET" else (404, {}, {"detail": "no"})) as front:
        done = sample(lmsi, front, code=1)
    assert "or try the other form: --chat on" in done.stderr


def test_an_address_where_nobody_listens(here, lmsi):
    url = f"http://127.0.0.1:{servers.free_port()}/v1"
    begun = time.monotonic()
    done = lmsi("sample", "q.jsonl", "-o", "run", "--engine", "openai", "--base-url", url)
    assert done.exit_code == 1
    assert f"{url}: the connection failed" in done.stderr
    assert "is the server running there" in done.stderr
    assert time.monotonic() - begun < 5
    assert not (here / "run" / "paths.jsonl").exists()


def test_a_server_that_speaks_no_tls(here, lmsi):
    with Front(Model()) as front:
        url = front.url.replace("http:", "https:")
        done = lmsi("sample", "q.jsonl", "-o", "run", "--engine", "openai", "--base-url", url)
    assert done.exit_code == 1
    assert f"{url}: no secure connection" in done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_has_to_be_trusted(here, lmsi, monkeypatch):
    make = "openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 2 -subj /CN=x"
    command = [*make.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("c.pem", "k.pem")
    with Front(Model()) as front:
        front.socket = context.wrap_socket(front.socket, server_side=True)
        more = ["--base-url", front.url.replace("http:", "https:"), "--chat", "off"]
        done = sample(lmsi, front, *more, code=1)
        assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
        assert "SSL_CERT_FILE=FILE" in done.stderr
        monkeypatch.setenv("SSL_CERT_FILE", "c.pem")
        sample(lmsi, front, *more)
    assert len(paths(here)) == 12


@pytest.mark.parametrize("package", ["httpx", "tenacity"])
def test_without_a_package_the_line_to_type_is_said(here, lmsi, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with Front(Model()) as front:
        done = sample(lmsi, front, code=1)
    assert "pip install 'lmsi[server]'" in done.stderr


# -- the key ---------------------------------------------------------------------------------


def echoing(seen):
    """A server that repeats the key in all that it says."""
    told = seen.headers.get("Authorization", "none")
    return 500, {}, {"error": {"message": f"for {told} there is nothing, {told[7:]}"}}


def test_the_key_is_sent_and_nowhere_written(here, lmsi, monkeypatch, caplog):
    monkeypatch.setenv("LMSI_API_KEY", KEY)
    model = Model()
    with Front(model) as front:
        shown = [sample(lmsi, front, "--limit", "2", "-v")]
        assert {s.headers["Authorization"] for s in front.seen} == {f"Bearer {KEY}"}
        front.answer = lambda s: echoing(s) if s.method == "POST" else model(s)
        shown.append(sample(lmsi, front, "--set", "retries=1", code=1))
        front.answer = lambda s: (401, {}, echoing(s)[2])
        shown.append(sample(lmsi, front, code=1))
    lmsi("vote", "run", "-q")
    lmsi("report", "run")
    assert "for Bearer [key] there is nothing, [key]" in shown[1].stderr
    assert "the server refuses the key" in shown[2].stderr
    told = everything(here) + caplog.text + "".join(d.stdout + d.stderr for d in shown)
    assert KEY not in told
    assert "geheim" not in told


def test_the_key_of_a_file(here, lmsi):
    file = here / "key"
    file.write_text(KEY + "\n")
    with Front(Model()) as front:
        file.chmod(0o644)
        done = sample(lmsi, front, "--set", "api_key_file=key", code=1)
        assert "chmod 600 key" in done.stderr
        assert not front.seen
        file.chmod(0o600)
        sample(lmsi, front, "--set", "api_key_file=key")
        assert {s.headers["Authorization"] for s in front.seen} == {f"Bearer {KEY}"}
    assert "geheim" not in everything(here / "run")


def test_the_key_does_not_show_in_a_bugs_traceback(here, monkeypatch):
    code = (
        "import lmsi_cli.engine.server.wire as w, sys\n"
        "from lmsi_cli.cli.main import main\n"
        "from lmsi_cli.engine.server import engine\n"
        "engine.body_of = lambda *a: 1 / 0\n"
        "main()"
    )
    with Front(Model()) as front:
        argv = ["sample", "q.jsonl", "-o", "run", *options(front), "--chat", "off", "-v"]
        command, env = [sys.executable, "-c", code, *argv], {**os.environ, "LMSI_API_KEY": KEY}
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert "ZeroDivisionError" in done.stderr
    assert "geheim" not in done.stderr + done.stdout + everything(here)


def test_the_key_goes_to_no_other_host(here, lmsi, monkeypatch):
    with Front(Model()) as other, Front(Model()) as front:
        monkeypatch.setenv("LMSI_API_KEY", KEY)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):  # asked for nothing
            monkeypatch.setenv(name, other.url.removesuffix("/v1"))
        front.answer = lambda seen: (307, {"Location": other.url + "/models"}, b"")
        done = sample(lmsi, front, code=1)
        assert "which is not followed" in done.stderr
        assert front.seen
        assert not other.seen


def test_openais_key_goes_to_openai_alone(here, lmsi, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (here / ".netrc").write_text(f"machine 127.0.0.1 login me password {KEY}\n")
    monkeypatch.setenv("NETRC", str(here / ".netrc"))
    with Front(Model()) as front:
        sample(lmsi, front)
        assert not any("Authorization" in s.headers for s in front.seen)
