"""What the tests of files share: files that are written, and a task of the package."""

import io
from pathlib import Path

import pytest

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


def needs_latex(kind):
    """Skip where answers of a kind cannot be read."""
    if kind == "latex":
        pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")


def load(name):
    """A task of the package."""
    needs_latex("latex" if name == "math" else "")
    return load_task(name)
