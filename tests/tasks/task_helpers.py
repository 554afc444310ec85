"""What the tests of files share: one that is written, a task of the package, and a refusal."""

from pathlib import Path

import pytest

from lmsi_cli.errors import LmsiError
from lmsi_cli.tasks.loader import load_task


def put(name, content):
    """Write text or bytes; returns the file's name."""
    data = content if isinstance(content, bytes) else content.encode(errors="surrogateescape")
    Path(name).write_bytes(data)
    return name


def load(name):
    """A task of the package."""
    if name == "math":
        pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    return load_task(name)


def refused(read, *given, told, hint=""):
    """Reading ends in one line with all words of ``told``, the first of them at its start."""
    with pytest.raises(LmsiError) as e:
        read(*given)
    error, (first, *others) = str(e.value), told.split(" ... ")
    assert error.startswith(first) and "\n" not in error
    assert [words for words in others if words not in error] == [], error
    assert hint in e.value.hint
