"""What the command line's tests share: a folder to stand in, small files, and a way to call."""

import shutil

import commands
import pytest

from lmsi_cli.engine.server import client

QUESTIONS = """{"id": "a", "question": "Tom has 3 pens. Tom gets 4 more. How many pens now?"}
{"id": "b", "question": "Anna buys 2 boxes of 5 pens each. How many pens?"}
"""
LABELLED = """{"id": "t", "question": "Sam has 6 pens. Sam gets 2 more. How many?", "answer": 8}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, one_block):
    """Stand in an empty folder with questions, labelled questions and a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "q.jsonl").write_text(QUESTIONS)
    (tmp_path / "test.jsonl").write_text(LABELLED)
    (tmp_path / "m.gguf").symlink_to(one_block)
    return tmp_path


@pytest.fixture
def lmsi():
    return commands.call


@pytest.fixture(scope="session")
def drawn(one_block, tmp_path_factory):
    """Where ``SAMPLE`` was called, once for all tests."""
    place = tmp_path_factory.mktemp("drawn")
    (place / "q.jsonl").write_text(QUESTIONS)
    (place / "m.gguf").symlink_to(one_block)
    with pytest.MonkeyPatch.context() as m:
        m.chdir(place)
        commands.works(*commands.SAMPLE.split())
    return place


@pytest.fixture
def sampled(folder, drawn):
    """The folder with a run ``r``, as ``SAMPLE`` leaves it."""
    shutil.copytree(drawn / "r", folder / "r")
    file = folder / "r" / "run.toml"
    file.write_text(file.read_text().replace(str(drawn), str(folder)))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Stand in a folder with questions, without keys, and wait a hundredth of the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client, "FIRST", 0.005)
    for name in ("LMSI_API_KEY", "OPENAI_API_KEY", "SSL_CERT_FILE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "q.jsonl").write_text(commands.QUESTIONS)
    (tmp_path / "test.jsonl").write_text(commands.LABELLED)
    return tmp_path
