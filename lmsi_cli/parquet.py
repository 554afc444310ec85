"""A run's records as Parquet files for other programs, on this machine or in an object store.

Knows pyarrow and how a record becomes a row: a column per field, under its name. Text and choices
of words are ``string``, whole numbers ``int64``, fractions ``double``, lists ``list``, counts by
name ``map``; dicts of mixed values are JSON text. A conversation is a list of messages, as TRL
reads it. Fields that may be None or have a default are nullable. Addresses are fsspec's;
credentials come from where the store's client looks for them, never from an address:

    export_parquet(RunDir("runs/a"), "s3://bucket/a")
    # Exported(address="s3://bucket/a", rows={"paths.parquet": 64000, "votes.parquet": 2000, ...})
"""

from __future__ import annotations

import re
import tempfile
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path as File
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from lmsi_cli.atomic import replacing
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Message, Path, Prompt, Record, TrainExample, Vote
from lmsi_cli.run_folder import RunDir

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 32_768  # per row group: so many are in memory at once, or read as one unit in parallel
PLAIN = {str: "string", int: "int64", float: "float64", bool: "bool_"}


class Exported(Record, frozen=True, kw_only=True):
    """Where the files are, and how many rows each of them has."""

    address: str
    rows: dict[str, int]


def export_parquet(run: RunDir, out: str, overwrite: bool = False) -> Exported:
    """Write paths, votes and training examples, as far as they exist, to one file each.

    ``out`` is a folder on this machine, or an address (``s3://bucket/folder``); ``overwrite``
    replaces files of the same names. The caller must hold the run's lock (``locked``).

    LmsiError: there is nothing to write, a file is in the way, a line is no record, pyarrow or the
    store's client is missing, or a write fails.
    """
    kinds: dict[File, type[Record]] = {run.paths: Path, run.votes: Vote, run.train: TrainExample}
    names = {file: f"{file.stem}.parquet" for file in kinds if file.exists()}
    if not names:
        raise LmsiError(f"{run.root}: nothing to export", hint="run `lmsi sample` first")
    out, far = out.rstrip("/") or "/", is_address(out)
    for name in names.values():
        if not overwrite and _is_there(f"{out}/{name}"):
            hint = "replace it with --overwrite, or choose another --out"
            raise LmsiError(f"{out}/{name}: is there already", hint)
    rows = {}
    with tempfile.TemporaryDirectory(prefix="lmsi-export-") as folder:
        here = File(folder if far else out)  # files for an address are written here first
        for file, name in names.items():
            with replacing(here / name) as target:
                rows[name] = _write(target, file, kinds[file])
            if far:  # readers of an object store see a file whole or not at all
                with _connected(f"{out}/{name}", "cannot be written") as (store, path):
                    store.put_file(str(here / name), path)
                (here / name).unlink()
    return Exported(address=out, rows=rows)


def schema_of(kind: type[Record], conversations: bool = False) -> pa.Schema:
    """The columns of a record, in the order of its fields; prompts may be ``conversations``.

    LmsiError: pyarrow is not installed. TypeError: no column can hold a field.
    """
    arrow, hints = _pyarrow(), typing.get_type_hints(kind)
    columns = []
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        if hint == Prompt:
            hint = tuple[Message, ...] if conversations else str
        nullable = not field.required or type(None) in typing.get_args(hint)
        columns.append(arrow.field(field.name, _column(hint), nullable))
    return arrow.schema(columns)


def _column(hint: Any) -> pa.DataType:  # noqa: ANN401 - a type
    arrow = _pyarrow()
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (one,) = (part for part in parts if part is not type(None))
        return _column(one)
    if origin is tuple:
        return arrow.list_(_column(parts[0]))
    if origin is dict and parts[1] is not Any:
        return arrow.map_(arrow.string(), _column(parts[1]))
    if origin in (dict, typing.Literal):
        return arrow.string()
    if hint is Message:
        return arrow.struct(list(schema_of(Message)))
    if hint not in PLAIN:
        raise TypeError(f"no column for {hint}")
    return getattr(arrow, PLAIN[hint])()


def _write(target: BinaryIO, file: File, kind: type[Record]) -> int:
    """Write the records of a file; returns how many. LmsiError: a number has over 64 bits."""
    arrow, rows = _pyarrow(), 0
    first = next(read_records(file, kind), None)
    schema = schema_of(kind, not isinstance(getattr(first, "prompt", ""), str))
    with arrow.parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        records = read_records(file, kind)
        while group := list(islice(records, ROWS)):
            columns = {f.name: [_cell(getattr(r, f.name), f.type) for r in group] for f in schema}
            try:
                table = arrow.table(columns, schema=schema)
            except OverflowError as e:
                raise LmsiError(f"{file}: cannot be written as Parquet: {e}") from None
            writer.write_table(table, row_group_size=ROWS)
            rows += len(group)
    return rows


def _cell(value: Any, column: pa.DataType) -> Any:  # noqa: ANN401 - of any field
    """A value in the form that pyarrow accepts."""
    if not isinstance(value, dict):
        return msgspec.to_builtins(value)
    if _pyarrow().types.is_map(column):
        return list(value.items())
    return msgspec.json.encode(value).decode()


def _pyarrow() -> Any:  # noqa: ANN401 - a module without types
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        hint = "pip install '.[parquet]' in lmsi's folder"
        raise LmsiError("Parquet needs pyarrow, which is not installed", hint) from None
    return pyarrow


ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}


def is_address(name: str) -> bool:
    """Whether a name is an address, and not a file on this machine."""
    return ADDRESS.match(name) is not None


def read_remote(address: str) -> bytes:
    """Read a whole file; LmsiError: no such file, a refusal, or no client is installed."""
    with _connected(address, "cannot be read") as (store, path):
        data: bytes = store.cat_file(path)
    return data


def _is_there(name: str) -> bool:
    if not is_address(name):
        return File(name).exists()
    with _connected(name, "cannot be read") as (store, path):
        return bool(store.exists(path))


@contextmanager
def _connected(address: str, what: str) -> Iterator[tuple[Any, str]]:
    """An fsspec file system and the address in its own form; errors become one line."""
    import fsspec.core

    protocol = address.partition("://")[0]
    if re.search(r"://[^/@]*:[^/@]*@", address):
        hint = "leave it to the store's own settings, such as AWS_PROFILE"
        raise LmsiError(f"{protocol}://...: an address must not hold a password", hint)
    try:
        yield fsspec.core.url_to_fs(address, use_listings_cache=False, skip_instance_cache=True)
    except ImportError:
        package = PACKAGES.get(protocol, "the package that fsspec names")
        message = f"{address}: {protocol}:// needs a package that is not installed"
        raise LmsiError(message, hint=f"pip install '{package}'") from None
    except Exception as e:  # noqa: BLE001 - each client has errors of its own, without a common base
        reason = (str(e).strip().splitlines() or [""])[0] or type(e).__name__
        raise LmsiError(
            f"{address}: {what}: {reason}",
            hint="are the credentials right, and does the bucket exist? lmsi makes none",
        ) from None
