"""Each test reads files of a folder of its own, by their bare names."""

import io
import sys

import pytest
from task_helpers import put


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def given_file(monkeypatch):
    """Put content into a file, or into standard input where the name is ``-``."""

    def given_file(name, content):
        if name == "-":
            data = content if isinstance(content, bytes) else content.encode()
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
            return name
        return put(name, content)

    return given_file
