"""A small Hugging Face hub on loopback: repositories in memory, their large files on a second port.

The second port is another host to a client: it hands out bytes by range, and no token may reach it.
"""

import hashlib
import re
import time
from typing import NamedTuple

from servers import Front, begin

TOKEN, STRANGER = "hf_good", "hf_stranger"  # known both; a gated repository lets in the first
FILE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/(.+)")
LISTED = re.compile(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/([\w.-]+))?(?:\?.*)?")
MIB = 1 << 20
HALF = 10 * MIB  # what huggingface_hub writes at once


class Repo(NamedTuple):
    commits: dict  # files by name, by commit; the last commit is the branch main
    gated: bool = False


class Hub:
    """``Hub({"me/small": Repo({"a" * 40: {"x.gguf": b"..."}})})``; a page for what is None."""

    def __init__(self, repos):
        self.repos = repos
        self.front = Front(self.page, base="")
        self.store = Front(self.bytes_of, base="", spoilt="GET")

    @property
    def fetched(self):
        return [s.headers.get("Range", "") for s in self.store.seen]

    def page(self, seen):
        token = seen.headers.get("Authorization", "").removeprefix("Bearer ")
        file, listed = FILE.fullmatch(seen.path), LISTED.fullmatch(seen.path)
        if token not in ("", TOKEN, STRANGER):
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b""
        if file:
            return self.file(token, *file.groups())
        if listed and listed[1] in self.repos:
            return self.listing(*listed.groups())
        return 404, {"X-Error-Code": "RepoNotFound"}, b""

    def commit(self, repo, revision):
        commits = self.repos[repo].commits
        return list(commits)[-1] if revision in (None, "main") else revision

    def listing(self, repo, revision):
        if self.repos[repo] is None:
            return 200, {}, b"<html>Please log in</html>"
        commit = self.commit(repo, revision)
        files = self.repos[repo].commits.get(commit)
        if files is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        siblings = [
            {"rfilename": name, "size": len(data), "blobId": "0" * 40,
             "lfs": {"sha256": sha256(data), "size": len(data), "pointerSize": 134}}
            for name, data in files.items()
        ]  # fmt: skip
        return 200, {}, {"id": repo, "sha": commit, "siblings": siblings}

    def file(self, token, repo, revision, name):
        if self.repos[repo].gated and token != TOKEN:
            return 403 if token else 401, {"X-Error-Code": "GatedRepo"}, b""
        commit = self.commit(repo, revision)
        data = self.repos[repo].commits[commit][name]
        digest, there = sha256(data), self.store.url.replace("127.0.0.1", "localhost")
        about = {"X-Repo-Commit": commit, "X-Linked-Size": str(len(data)),
                 "X-Linked-ETag": f'"{digest}"', "Location": f"{there}/{digest}"}  # fmt: skip
        return 302, about, b""

    def bytes_of(self, seen):
        commits = [files for repo in filter(None, self.repos.values())
                   for files in repo.commits.values()]  # fmt: skip
        every = (data for files in commits for data in files.values())
        data = next(d for d in every if sha256(d) == seen.path[1:])
        if "Range" not in seen.headers:
            return 200, {}, data
        start = int(re.search(r"\d+", seen.headers["Range"])[0])
        return 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# -- misdeeds of the store -----------------------------------------------------------------------


def stalls(to, *answer):
    """It gives a little more than huggingface_hub writes at once, and then waits for the end."""
    to.wfile.write(begin(to, *answer)[: HALF + 1000])
    to.rfile.read(1)


def slowly(to, *answer):
    data = begin(to, *answer)
    for at in range(0, len(data), MIB):
        to.wfile.write(data[at : at + MIB])
        time.sleep(0.02)
