"""What the command line's tests share: a folder to stand in, small files, and a way to call."""

import broken_models
import pytest
import served
from typer.testing import CliRunner

from lmsi_cli.cli.main import app
from lmsi_cli.engine.server import client

QUESTIONS = """{"id": "a", "question": "Tom has 3 pens. Tom gets 4 more. How many pens now?"}
{"id": "b", "question": "Anna buys 2 boxes of 5 pens each. How many pens?"}
"""
LABELLED = """{"id": "t", "question": "Sam has 6 pens. Sam gets 2 more. How many?", "answer": 8}
"""


@pytest.fixture(scope="session")
def one_block(gguf, tmp_path_factory):
    """The embedded model's first block: it writes nonsense, but at once."""
    return broken_models.relabelled(gguf, tmp_path_factory.mktemp("models") / "one.gguf")


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
    """Call the command; an unexpected exception is let out."""

    def call(*argv, stdin=None):
        done = CliRunner().invoke(app, [str(a) for a in argv], input=stdin)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return call


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Stand in a folder with questions, without keys, and wait a hundredth of the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client, "FIRST", 0.005)
    for name in ("LMSI_API_KEY", "OPENAI_API_KEY", "SSL_CERT_FILE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "q.jsonl").write_text(served.QUESTIONS)
    (tmp_path / "test.jsonl").write_text(served.LABELLED)
    return tmp_path
