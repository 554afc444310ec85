r"""The run folder: its file names, and reading and writing that survives being killed.

The only place that knows what a file of a run is called. Knows nothing of what the records
mean. A folder belongs to one process at a time (``locked``); records are appended one line at a
time (``appender``) and everything else is written beside its place and renamed (``write_atomic``).

    with locked(run), appender(run.paths, Path) as paths:
        paths.write(path)            # {"logprob":-4.1,...,"text":" 84 / 2 = 42. ..."}\n
    read_records(run.paths, Path)    # yields Path(logprob=-4.1, ...), ...
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record

R = TypeVar("R", bound=Record)

FSYNC_SECONDS = 1.0
RESULT, ANSWERS = ".result.json", ".answers.jsonl"
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")


class RunDir:
    """Where each file of one run lies; making one touches no disk."""

    def __init__(self, root: Path | str) -> None:
        self.root = root = Path(root)
        self.run_toml = root / "run.toml"  # settings, versions and hashes, a section per stage
        self.questions = root / "questions.jsonl"  # records.Question, without gold answers
        self.paths = root / "paths.jsonl"  # records.Path
        self.votes = root / "votes.jsonl"  # records.Vote
        self.train = root / "train.jsonl"  # records.TrainExample
        self.report = root / "report.html"
        self.adapter = root / "adapter"  # a folder as PEFT writes it, and what else training leaves
        self.adapter_gguf = self.adapter / "adapter.gguf"
        self.train_log = self.adapter / "log.jsonl"
        self.checkpoint = self.adapter / "checkpoint.safetensors"
        self.eval_dir = root / "eval"
        self.lock = root / "run.lock"
        self.lock_owner = root / "run.pid"  # apart, since Windows forbids reading a locked file

    def eval_result(self, name: str) -> Path:
        """Figures of one evaluated model and data set; ``name`` as in ``base-test``."""
        return self.eval_dir / f"{name}{RESULT}"

    def eval_answers(self, name: str) -> Path:
        """Per-question lines behind ``eval_result(name)``."""
        return self.eval_dir / f"{name}{ANSWERS}"

    def create(self) -> None:
        """Make the folder if need be; LmsiError if a file is in the way or it may not be made."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise LmsiError(f"{self.root}: cannot make this folder: {e.strerror}") from e

    def load_settings(self) -> dict[str, dict[str, Any]]:
        """Read run.toml, section by section; empty if there is none yet."""
        try:
            return tomllib.loads(self.run_toml.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as e:
            raise LmsiError(f"{self.run_toml}: {e}", hint="mend it, or use another folder") from e

    def save_settings(self, section: str, values: dict[str, Any]) -> None:
        """Replace one section of run.toml, leaving the others; None is left out (not in TOML)."""
        merged = {**self.load_settings(), section: _builtins(values)}
        write_atomic(self.run_toml, msgspec.toml.encode(merged))


class Appender(Generic[R]):
    """Appends records to a JSONL file; made by ``appender``.

    Each line goes to the kernel in one unbuffered write, so it outlives a killed process. Only
    fsync outlives a power cut; at most once a second, it costs nothing beside sampling.
    """

    def __init__(self, file: FileIO, path: Path) -> None:
        self._file, self._path = file, path
        self._end = file.seek(0, os.SEEK_END)
        self._synced = time.monotonic()

    def write(self, record: R) -> None:
        """Append one record; all of its line or none of it.

        Raises:
            LmsiError: The disk is full or fails; the lines before this one stay.
        """
        line = _encode_line(record)
        try:
            rest = memoryview(line)
            while rest:  # a nearly full disk takes a part without complaint
                rest = rest[self._file.write(rest) :]
            if time.monotonic() - self._synced >= FSYNC_SECONDS:
                self.sync()
        except BaseException as e:
            with suppress(OSError):  # if this fails too, the next opening mends the line
                self._file.truncate(self._end)
            if isinstance(e, OSError):
                raise _write_error(self._path, e) from e
            raise
        self._end += len(line)

    def sync(self) -> None:
        """Force what was written onto the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as e:
            raise _write_error(self._path, e) from e
        self._synced = time.monotonic()


@contextmanager
def appender(path: Path, kind: type[R]) -> Iterator[Appender[R]]:
    """Open a JSONL file to add records, mending a last line that a killed writer left torn.

    Args:
        path: Made, with its folder, if missing.
        kind: Every line already there must be one of these.

    Raises:
        LmsiError: A line is not a ``kind`` (``paths.jsonl:17: ...``), or a write fails.
    """
    with _open_mended(path, kind) as file:
        lines = Appender[R](file, path)
        try:
            yield lines
        finally:
            lines.sync()


def read_records(path: Path, kind: type[R]) -> Iterator[R]:
    """Yield the records of a JSONL file one by one, leaving out a torn last line.

    Blank lines are skipped; a complete last record that only lacks its newline counts.

    Raises:
        LmsiError: The file is missing or a line is not a ``kind``: ``paths.jsonl:17: missing
            field 'text'``.
    """
    try:
        with path.open("rb") as file:
            yield from (record for _, record in _scan(file, path, kind))
    except OSError as e:
        raise LmsiError(f"{path}: cannot be read: {e.strerror}") from e


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a whole JSONL file, as ``write_atomic`` does."""
    with _replacing(path) as file:
        file.writelines(_encode_line(r) for r in records)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a whole file, atomically; text as UTF-8. On LmsiError an older file stays as it was."""
    with _replacing(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def locked(run: RunDir) -> Iterator[None]:
    """Hold the folder for this process, making it if need be; even kill -9 frees it.

    Raises:
        LmsiError: Another process holds it; names the process.
    """
    import filelock

    run.create()
    lock = filelock.FileLock(run.lock, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise _in_use(run) from None
    except OSError as e:
        raise _write_error(run.lock, e) from e
    try:
        write_atomic(run.lock_owner, f"{os.getpid()}\n")
        yield
    finally:
        run.lock_owner.unlink(missing_ok=True)  # before the release: after it, the next one's
        lock.release()


def check_same(saved: dict[str, Any], now: dict[str, Any], what: str) -> None:
    """Refuse to go on with a run folder under other settings than it was begun with.

    Args:
        saved: Flat settings from run.toml.
        now: Flat settings of this call. A missing key equals None, and a tuple equals a list,
            since TOML keeps neither None nor tuples.
        what: What the settings belong to: ``"the paths in runs/a"``.

    Raises:
        LmsiError: Names each setting that differs, with both values.
    """
    old, new = _builtins(saved), _builtins(now)
    told = [
        f"{k}: {old.get(k, 'not set')} in the run folder, {new.get(k, 'not set')} now"
        for k in dict.fromkeys([*new, *old])
        if old.get(k) != new.get(k)
    ]
    if told:
        raise LmsiError(
            f"{what} had other settings: {'; '.join(told)}",
            hint="give the old value, start over with `--overwrite`, or use another folder",
        )


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise LmsiError(f"{path}: cannot be read: {e.strerror}") from e


def discard(run: RunDir) -> None:
    """Delete what lmsi wrote, for ``--overwrite``; leaves all other files, and the lock.

    Raises:
        LmsiError: A file cannot be deleted.
    """
    discard_adapter(run)
    _delete([run.run_toml, run.questions, run.paths, run.votes, run.train, run.report,
             *run.eval_dir.glob(f"*{RESULT}"), *run.eval_dir.glob(f"*{ANSWERS}")], run.eval_dir)


def discard_adapter(run: RunDir) -> None:
    """Delete what training wrote, and nothing else."""
    names = ("adapter_config.json", "adapter_model.safetensors", "README.md")
    _delete([*(run.adapter / n for n in names), run.adapter_gguf, run.adapter_origin,
             run.train_log, run.checkpoint], run.adapter)


def _delete(files: Iterable[Path], folder: Path) -> None:
    """Delete files, and their folder if that empties it."""
    try:
        for path in files:
            path.unlink(missing_ok=True)
            _tmp(path).unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as e:
        raise LmsiError(f"{e.filename}: cannot be deleted: {e.strerror}") from e


def _scan(file: BinaryIO, path: Path, kind: type[R]) -> Iterator[tuple[int, R]]:
    """Yield each record with the byte offset where its line ends; stop before a torn last line.

    A prefix of a record is never valid JSON, so a bad last line that *is* JSON is no tear but a
    mistake, and is reported like one in the middle.
    """
    decoder = msgspec.json.Decoder(kind)
    end = 0
    for number, line in enumerate(file, 1):
        end += len(line)
        if not line.strip():
            continue
        try:
            record = decoder.decode(line)
        except msgspec.ValidationError as e:
            raise LmsiError(f"{path}:{number}: {_plain(str(e))}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            if not line.endswith(b"\n") or not file.read(1):  # the end, or a writer at work
                return
            found = str(e).removeprefix("JSON is malformed: ")
            raise LmsiError(f"{path}:{number}: not valid JSON: {found}") from None
        yield end, record


def _open_mended(path: Path, kind: type[Record]) -> FileIO:
    """Open for unbuffered appending, after cutting a torn last line off."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with path.open("r+b") as old:
            end = max((end for end, _ in _scan(old, path, kind)), default=0)
            old.truncate(end)
            old.seek(max(end - 1, 0))
            if old.read(1) not in (b"", b"\n"):  # a complete record that only lacks its newline
                old.write(b"\n")
        return path.open("ab", buffering=0)
    except OSError as e:
        raise _write_error(path, e) from e


def _plain(message: str) -> str:
    """Say what msgspec found in our order: ``field 'path': expected int, got str``."""
    text, _, where = message.replace("`", "'").partition(" - at '$.")
    text = re.sub(r"^Object (contains )?", "", text).replace("missing required", "missing")
    return (f"field '{where}: " if where else "") + text[0].lower() + text[1:]


def _encode_line(record: Record) -> bytes:
    """Encode one record as a line with sorted keys."""
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if isinstance(value, float) and not math.isfinite(value):  # JSON would turn it to null
            raise ValueError(f"{type(record).__name__}.{name} is {value}")
    return msgspec.json.encode(record, order="sorted") + b"\n"


def _builtins(values: dict[str, Any]) -> dict[str, Any]:
    """Bring settings to what TOML can hold: no None, lists for tuples."""
    plain = msgspec.to_builtins({k: v for k, v in values.items() if v is not None})
    return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


def _tmp(path: Path) -> Path:
    """Name of the unfinished file; fixed, so that a killed writer leaves one at most."""
    return path.with_name(path.name + ".tmp")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a new file beside ``path``; once whole and on the disk, it takes its place."""
    tmp = _tmp(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tmp.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        tmp.replace(path)
    except BaseException as e:
        with suppress(OSError):
            tmp.unlink(missing_ok=True)
        if isinstance(e, OSError):
            raise _write_error(path, e) from e
        raise


def _write_error(path: Path, e: OSError) -> LmsiError:
    message = f"{path}: cannot be written: {e.strerror}; what was written before stays"
    return LmsiError(message, hint="put this right and give the same command again: it goes on")


def _in_use(run: RunDir) -> LmsiError:
    try:
        owner = f"process {int(run.lock_owner.read_text())}"
    except (OSError, ValueError):  # the holder has not named itself yet
        owner = "another process"
    message = f"run folder {run.root} is in use by {owner}"
    return LmsiError(message, hint="wait for it, stop it, or use another folder")
