"""What the tests of files share: files that are written, a task of the package, and a refusal."""

import io
from pathlib import Path

import pytest

from lmsi_cli.errors import LmsiError
from lmsi_cli.tasks.loader import load_task


def put(name, content):
    """Write text or bytes; returns the file's name."""
    data = content if isinstance(content, bytes) else content.encode(errors="surrogateescape")
    Path(name).write_bytes(data)
    return name


def table(columns, writer="", **how):
    """A table in bytes: as Parquet, or by one of Arrow's writers."""
    import pyarrow
    from pyarrow.parquet import write_table

    found, target = pyarrow.table(columns), io.BytesIO()
    if writer:
        with getattr(pyarrow.ipc, writer)(target, found.schema) as file:
            file.write_table(found)
    else:
        write_table(found, target, **how)
    return target.getvalue()


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
