"""A small Hugging Face hub on loopback: repositories in memory, their large files on a second port.

The second port is another host to a client: it hands out bytes by range, and no token may reach it.
``cuts`` are how many bytes each of its next answers gives before the line drops; at ``stall_at`` it
waits; ``instead`` is what it gives for any file. With ``down`` the hub is out of order.
"""

import hashlib
import json
import re
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

TOKEN, STRANGER = "hf_good", "hf_stranger"  # known both; a gated repository lets in the first
FILE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/(.+)")
LISTED = re.compile(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/([\w.-]+))?(?:\?.*)?")


class Repo(NamedTuple):
    commits: dict  # files by name, by commit; the last commit is the branch main
    gated: bool = False


class Seen(NamedTuple):
    port: str  # "hub" or "store"
    method: str
    path: str
    token: str
    range: str


class Hub:
    """A repository that is None is answered with a page.

    ``with serving({"me/small": Repo({"a" * 40: {"x.gguf": b"..."}})}) as hub: hub.url``.
    """

    def __init__(self, repos):
        self.repos, self.seen, self.cuts, self.instead, self.down = repos, [], [], None, False
        self.stall_at, self.slow = None, 0.0  # seconds for each of its MiB

    def commit(self, repo, revision):
        commits = self.repos[repo].commits
        return list(commits)[-1] if revision in (None, "main") else revision

    @property
    def fetched(self):
        return [s.range for s in self.seen if s.port == "store"]


@contextmanager
def serving(repos):
    hub, servers = Hub(repos), []
    for name in ("store", "hub"):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type(name, (Handler,), {"hub": hub}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://{'localhost' if name == 'store' else '127.0.0.1'}:{server.server_port}"
        setattr(hub, "store" if name == "store" else "url", url)
        servers.append(server)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, port = self.hub, type(self).__name__
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        asked = self.headers.get("Range", "")
        hub.seen.append(Seen(port, self.command, self.path, token, asked))
        if port == "store":
            self.bytes_of(self.path.removeprefix("/"), asked)
        elif hub.down:
            self.answer(503)
        elif token not in ("", TOKEN, STRANGER):
            self.answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif found := FILE.fullmatch(self.path):
            self.file(token, *found.groups())
        elif (found := LISTED.fullmatch(self.path)) and found[1] in hub.repos:
            self.listing(*found.groups())
        else:
            self.answer(404, {"X-Error-Code": "RepoNotFound"})

    def listing(self, repo, revision):
        if self.hub.repos[repo] is None:
            return self.answer(200, {}, b"<html>Please log in</html>")
        commit = self.hub.commit(repo, revision)
        files = self.hub.repos[repo].commits.get(commit)
        if files is None:
            return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        siblings = [
            {"rfilename": name, "size": len(data), "blobId": "0" * 40,
             "lfs": {"sha256": sha256(data), "size": len(data), "pointerSize": 134}}
            for name, data in files.items()
        ]  # fmt: skip
        return self.answer(200, {}, {"id": repo, "sha": commit, "siblings": siblings})

    def file(self, token, repo, revision, name):
        if self.hub.repos[repo].gated and token != TOKEN:
            return self.answer(403 if token else 401, {"X-Error-Code": "GatedRepo"})
        commit = self.hub.commit(repo, revision)
        data = self.hub.repos[repo].commits[commit][name]
        about = {"X-Repo-Commit": commit, "X-Linked-Size": str(len(data)),
                 "X-Linked-ETag": f'"{sha256(data)}"',
                 "Location": f"{self.hub.store}/{sha256(data)}"}  # fmt: skip
        return self.answer(302, about)

    def bytes_of(self, digest, asked):
        commits = [files for repo in filter(None, self.hub.repos.values())
                   for files in repo.commits.values()]  # fmt: skip
        data = next(d for files in commits for d in files.values() if sha256(d) == digest)
        data = self.hub.instead or data
        start = int(re.search(r"\d+", asked)[0]) if asked else 0
        part = data[start:]
        about = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if asked else {}
        self.answer(206 if asked else 200, about, part, cut=(self.hub.cuts or [None]).pop(0))

    def answer(self, status, headers=(), body=b"", cut=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**dict(headers), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.parts(data[: self.hub.stall_at or cut])
            while self.hub.stall_at and len(data) > self.hub.stall_at:
                time.sleep(0.01)
        if cut is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def parts(self, data):
        for at in range(0, len(data), 1 << 20):
            self.wfile.write(data[at : at + (1 << 20)])
            time.sleep(self.hub.slow)


def sha256(data):
    return hashlib.sha256(data).hexdigest()
