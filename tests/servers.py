"""A server for tests that answers from a function and misbehaves on demand.

Each request to a ``Front`` is answered by ``answer``, and the next of ``misdeeds`` spoils the reply
if the method is the one that is ``spoilt``. All that was received is in ``seen``.
"""

import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Seen(NamedTuple):
    method: str
    path: str
    body: dict
    headers: Message


class Front(ThreadingHTTPServer):
    """A server on a free port; ``with Front(answer) as front: front.url``."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer, misdeeds=(), base="/v1", spoilt="POST"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.misdeeds, self.base = answer, list(misdeeds), base
        self.spoilt = spoilt
        self.seen, self.guard = [], threading.Lock()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
        self.thread.join()

    def handle_error(self, request, client_address):
        """A caller that hangs up is no news."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}{self.base}"

    @property
    def posts(self):
        return [s.body for s in self.seen if s.method == "POST"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply({})

    do_HEAD = do_GET

    def do_POST(self):
        self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def reply(self, body):
        front = self.server
        seen, misdeed = Seen(self.command, self.path, body, self.headers), None
        with front.guard:
            front.seen.append(seen)
            if front.misdeeds and self.command == front.spoilt:
                misdeed = front.misdeeds.pop(0)
        (misdeed or good)(self, *front.answer(seen))


def begin(to, status, headers, data):
    """Send the status and the headers; returns the body that they announce."""
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    to.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(data))}.items():
        to.send_header(name, value)
    to.end_headers()
    return data


def good(to, *answer):
    """What a server should do."""
    to.wfile.write(begin(to, *answer))


def fails(status=500, headers=None, body=None):
    reply = told("out of order") if body is None else body
    return lambda to, *_: good(to, status, headers or {}, reply)


def resets(to, *answer):
    """Half a body, then the connection is torn."""
    data = begin(to, *answer)
    to.wfile.write(data[: len(data) // 2])
    to.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    to.close_connection = True
    to.connection.close()


def drips(to, *answer):
    """A byte every now and then: no pause is long, the whole is."""
    for byte in begin(to, *answer):
        to.wfile.write(bytes([byte]))
        time.sleep(0.05)


# -- answers --------------------------------------------------------------------------------

LETTERS = 4  # of a token, in a prompt


class Model:
    """Answers requests as a server with one model would; settings say what it can do."""

    def __init__(self, name="tiny", several=True, say=None):
        self.name, self.several, self.say = name, several, say or self.usual
        self.drawn = itertools.count(1)

    def __call__(self, seen):
        if seen.path.endswith("/models"):
            return 200, {}, {"data": [{"id": self.name, "object": "model"}]}
        count = seen.body.get("n", 1) if self.several else 1
        texts = [self.say(seen.body, i) for i in range(count)]
        talks = seen.path.endswith("/chat/completions")
        choices = [self.choice(text, i, talks, seen.body) for i, text in enumerate(texts)]
        asked = seen.body.get("prompt") or "".join(m["content"] for m in seen.body["messages"])
        written = sum(len(t.split()) for t in texts)
        usage = {"completion_tokens": written, "prompt_tokens": len(asked) // LETTERS}
        return 200, {}, {"choices": choices, "model": seen.body["model"], "usage": usage}

    def usual(self, body, place):
        number = body["seed"] if "seed" in body else next(self.drawn)
        return f" It is {number}. The answer is {number % 3}.\n\nThat"

    def choice(self, text, index, talks, body):
        found = {"index": index, "finish_reason": "stop"}
        found |= {"message": {"role": "assistant", "content": text}} if talks else {"text": text}
        if "logprobs" in body:
            words = text.replace(" ", "| ").split("|")
            each = [{"token": w, "logprob": -0.5, "bytes": list(w.encode())} for w in words if w]
            plain = {"tokens": [t["token"] for t in each], "token_logprobs": [-0.5] * len(each)}
            found["logprobs"] = {"content": each} if talks else plain
        return found


def told(message):
    """A body that tells an error, as most servers write it."""
    return {"error": {"message": message}}


def unless(bad, reply, answer=None):
    """A server that gives ``reply`` to whatever request is ``bad``."""
    answer = answer or Model()
    return lambda seen: reply if bad(seen) else answer(seen)


def rejects(field, status=500, words="Internal Server Error", answer=None):
    """A server that fails as long as something is asked for."""
    return unless(lambda seen: field in seen.body, (status, {}, told(words)), answer)


def lm_studio(seen):
    """A wrong path is an error with the status of success."""
    if seen.path in ("/v1/models", "/v1/completions", "/v1/chat/completions"):
        return Model()(seen)
    return 200, {}, {"error": f"Unexpected endpoint or method. ({seen.method} {seen.path})"}


def with_context(context, words, listed=None):
    """As vLLM: ``max_tokens`` counts into the context, which the list of models may tell."""
    answer = Model()

    def counting(seen):
        status, headers, found = answer(seen)
        if seen.method == "GET":
            found["data"][0] |= listed or {}
            return status, headers, found
        prompt, wanted = found["usage"]["prompt_tokens"], seen.body["max_tokens"]
        if prompt + wanted <= context:
            return status, headers, found
        whole = prompt + wanted
        return 400, {}, told(words.format(c=context, p=prompt, w=wanted, t=whole))

    return counting


def changed(change, answer=None):
    """A server of which every reply is changed."""
    answer = answer or Model()

    def changing(seen):
        status, headers, found = answer(seen)
        if "choices" in found:
            change(found)
        return status, headers, found

    return changing


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def llama_server(gguf, log):
    """llama-cpp-python's own server with a model; yields its address, and kills it at the end."""
    port, until = free_port(), time.monotonic() + 60
    flags = f"--port {port} --n_ctx 512 --n_threads 1 --verbose false --model_alias tiny"
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), *flags.split()]
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env)
    try:
        while not listens(port):
            assert process.poll() is None and time.monotonic() < until, log.read_text()[-2000:]
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()
