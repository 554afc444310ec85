"""The run folder: its file names, its lock, and the settings that a run is tied to.

The only place that knows the names of a run's files. Knows nothing of what the records mean;
how lines survive a killed writer is in ``jsonl.py``, what a resumed run checks in ``resume.py``.
One process at a time holds a folder:

    with locked(run), appender(run.paths, Path) as write:
        write(path)                  # runs/first/paths.jsonl grows by a line
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from lmsi_cli.atomic import acquired, unfinished, write_atomic, write_error
from lmsi_cli.config import TABLES, Config, EngineConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import JsonlIndex
from lmsi_cli.records import UNREADABLE, Question
from lmsi_cli.records import Path as Sampled
from lmsi_cli.settings import check
from lmsi_cli.splits import parts_of

ORIGIN = "lmsi.json"
RESULT, ANSWERS = ".result.json", ".answers.jsonl"
TEACHER = "teacher"  # a section of a student's run.toml: whose votes it learns from
KINDS: dict[str, type[Config]] = {**TABLES, "engine": EngineConfig}  # of sections of run.toml
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")


class RunDir:
    """The path of each file of a run; creating one reads and writes nothing.

    LmsiError: the root is an address, such as ``s3://bucket/run``.
    """

    def __init__(self, root: Path | str) -> None:
        # a Path has folded the two slashes into one; one letter is a Windows drive
        if address := re.match(r"[a-z][a-z0-9+.-]+:/", str(root)):
            hint = "to bring a run elsewhere: `lmsi export RUN --to parquet -o ADDRESS`"
            raise LmsiError(f"{address[0]}/...: a run folder has to be on this machine", hint)
        self.root = root = Path(root)
        self.run_toml = root / "run.toml"  # settings, versions and hashes, a section per stage
        self.questions = root / "questions.jsonl"  # records.Question, without gold answers
        self.paths = root / "paths.jsonl"  # records.Path
        self.votes = root / "votes.jsonl"  # records.Vote
        self.vote_summary = root / "vote.json"  # voting.VoteSummary
        self.train = root / "train.jsonl"  # records.TrainExample
        self.pairs = root / "pairs.jsonl"  # records.Preference
        self.verdict = root / "verdict.json"  # verdict.Verdict, on the present vote
        self.report = root / "report.html"
        self.seeds = root / "seeds.jsonl"  # records.Question: those that the generator was shown
        self.drafts = root / "drafts.jsonl"  # generation.Draft
        self.generated = root / "generated.jsonl"  # records.Question: drafts that passed the vote
        self.generation = root / "generation.json"  # stages.questions.Generation
        self.rounds = root / "rounds.json"  # rounds.Rounds, in the folder of the first round
        self.status = root / "status.json"  # records.Status, of the last command to work here
        self.adapter = root / "adapter"  # PEFT's files, and the others that training writes
        self.adapter_gguf = self.adapter / "adapter.gguf"  # there only if its proof has passed
        self.unproven_gguf = self.adapter / "unproven.gguf"  # until then, and after a failed proof
        self.adapter_origin = self.adapter / ORIGIN  # what it was made of; written last
        self.train_log = self.adapter / "log.jsonl"
        self.validation_log = self.adapter / "validation.jsonl"
        self.checkpoint = self.adapter / "checkpoint.safetensors"
        self.eval_dir = root / "eval"
        self.lock = root / "run.lock"
        self.lock_owner = root / "run.pid"  # separate: Windows forbids reading a locked file

    @property
    def typed(self) -> str:
        """The folder as a shell and lmsi read it, for commands in hints."""
        name = str(self.root)
        return shlex.quote(f"./{name}" if name.startswith("-") else name)

    def has_paths(self) -> bool:
        """Whether a path was ever written; a call that failed early leaves an empty file."""
        return self.paths.exists() and self.paths.stat().st_size > 0

    def eval_result(self, name: str) -> Path:
        """Figures of one evaluated model and data set; ``name`` as in ``base-test``."""
        return self.eval_dir / f"{name}{RESULT}"

    def eval_answers(self, name: str) -> Path:
        """Per-question lines behind ``eval_result(name)``."""
        return self.eval_dir / f"{name}{ANSWERS}"

    def round(self, number: int) -> RunDir:
        """The folder of a round of this run; the first one's is the run folder itself."""
        return self if number == 1 else RunDir(self.root / f"round-{number}")

    @property
    def checkup(self) -> RunDir:
        """A folder whose ``eval/`` holds the check-ups between rounds, apart from real exams."""
        return RunDir(self.root / "checkup")

    @property
    def null(self) -> RunDir:
        """The folder of a control: its adapter was trained on paths chosen at random."""
        return RunDir(self.root / "null")

    def create(self) -> None:
        """Create the folder if needed; LmsiError if a file is in the way or access is denied."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            message = f"{self.root}: cannot make this folder: {e.strerror}"
            raise LmsiError(message, hint="choose another one") from e

    def load_settings(self) -> dict[str, dict[str, Any]]:
        """Read run.toml, section by section; empty if there is none yet."""
        try:
            found = tomllib.loads(self.run_toml.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except NotADirectoryError:
            hint = "give a run folder; `lmsi sample QUESTIONS -o RUN` makes one"
            raise LmsiError(f"{self.root}: a file, not a run folder", hint) from None
        except (OSError, *UNREADABLE) as e:
            raise LmsiError(f"{self.run_toml}: {e}", hint="mend it, or use another folder") from e
        for name, table in found.items():
            where = f"{self.run_toml} [{name}]"
            if not isinstance(table, dict):
                raise LmsiError(f"{where}: expected a table, got {table!r}")
            check(KINDS.get(name, Config), table, where)
            for key in ("run", "model", "model_sha256") if name == TEACHER else ():
                if not isinstance(table.get(key), str):  # other code relies on them
                    raise LmsiError(f"{where} {key}: expected text, got {table.get(key)!r}")
        return found

    def save_settings(self, section: str, values: dict[str, Any]) -> None:
        """Replace one section of run.toml and keep the others; None is left out (TOML has none)."""
        merged = {**self.load_settings(), section: as_toml(values)}
        write_atomic(self.run_toml, msgspec.toml.encode(merged))


def as_toml(values: dict[str, Any]) -> dict[str, Any]:
    """Convert settings to what TOML can hold: no None, lists for tuples."""
    plain = msgspec.to_builtins({k: v for k, v in values.items() if v is not None})
    return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


def teacher_of(run: RunDir) -> dict[str, Any] | None:
    """Whose votes a student's folder learns from (``run``, ``model``, hashes); None otherwise."""
    return run.load_settings().get(TEACHER)


def refuse_student(run: RunDir) -> None:
    """Refuse to sample or to vote in a student's folder: its paths are its teacher's."""
    if teacher := teacher_of(run):
        raise LmsiError(
            f"{run.root}: in this folder a student learns from the votes of {teacher['run']}",
            hint="sample its own paths into another folder: "
            "`lmsi sample QUESTIONS -m STUDENT -o FOLDER`",
        )


@contextmanager
def locked(run: RunDir) -> Iterator[None]:
    """Hold the folder for this process, creating it if needed.

    The lock ends with the process, so ``kill -9`` frees it, too. LmsiError: another process holds
    it (the message says which), the folder is not a run's, or a file in it is a link out of it.
    """
    import filelock

    _refuse_foreign(run)
    run.create()
    _refuse_links(run)
    try:
        lock = acquired(run.lock)
    except filelock.Timeout:
        try:
            owner = f"process {int(run.lock_owner.read_text())}"
        except (OSError, ValueError):  # the holder has not named itself yet
            owner = "another process"
        hint = "wait for it, stop it, or use another folder"
        raise LmsiError(f"run folder {run.root} is in use by {owner}", hint) from None
    except OSError as e:
        raise write_error(run.lock, e) from e
    try:
        write_atomic(run.lock_owner, f"{os.getpid()}\n")
        yield
    finally:
        with suppress(OSError):  # the folder may be gone or read-only by now
            run.lock_owner.unlink()  # before the release: then it may be the next one's
        lock.release()


def _refuse_foreign(run: RunDir) -> None:
    """Refuse a folder of the user's own, whose files would be taken for a run's and replaced.

    Every command that begins a run writes run.toml before any other file but the status.
    """
    if run.run_toml.exists() or run.paths.exists() or run.paths.is_symlink():
        return
    ours = {run.status, run.report}
    theirs = [f for f in _named_in(run.root, run) if f not in ours and f.exists()]
    if theirs:
        message = f"{theirs[0]}: this file is in the way: without run.toml this is no run folder"
        raise LmsiError(message, hint="choose another folder")


def _refuse_links(run: RunDir) -> None:
    """Refuse a folder, perhaps from a stranger, in which writing would change files elsewhere."""
    inner = (run.root.glob("round-*"), run.adapter.glob("*"), run.eval_dir.glob("*"))
    own = (*vars(run).values(), run.null.root, run.checkup.root)
    for file in chain(own, *inner):  # own ones first: a link is not to be followed and listed
        if file.is_symlink() and not file.resolve().is_relative_to(run.root.resolve()):
            raise LmsiError(
                f"{file}: a symbolic link out of the run folder, which nothing is written through",
                hint="put the file itself there; the run folder as a whole may be a link",
            )


def in_use(run: RunDir) -> bool:
    """Whether a process holds the folder now; takes the lock for a moment to find out."""
    import filelock

    if not run.lock.exists():
        return False
    try:
        with filelock.FileLock(run.lock, timeout=0):
            return False
    except (filelock.Timeout, OSError):  # OSError: a read-only folder, whose lock cannot be tried
        return run.lock_owner.exists()


def paths_by_question(
    run: RunDir, progress: Callable[[int], None] = lambda _: None
) -> JsonlIndex[Sampled]:
    """All sampled paths of each question, in the order of their numbers.

    ``progress`` gets the MiB read so far. LmsiError: the file is missing, a line is no path, or a
    path is there twice.
    """
    key = attrgetter("question_id", "path")
    return JsonlIndex(run.paths, Sampled, key, "path {number} of question {key!r}", progress)


def questions_by_id(run: RunDir) -> JsonlIndex[Question]:
    """The questions of a run by their ids; LmsiError as ``paths_by_question``."""
    return JsonlIndex(run.questions, Question, lambda q: (q.id, 0), "question {key!r}")


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; a model's parts are hashed one after the other."""
    digest = hashlib.sha256()
    for part in parts_of(path):
        try:
            with part.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        except OSError as e:
            raise LmsiError(f"{part}: cannot be read: {e.strerror}") from e
    return digest.hexdigest()


def discard(run: RunDir) -> None:
    """Delete what lmsi wrote, for ``--overwrite``; leaves all other files, and the lock.

    Later rounds, the check-ups between them and a control go as well.
    """
    for inner in (run.checkup.root, run.null.root, *sorted(run.root.glob("round-*"))):
        if inner.is_dir():
            discard(RunDir(inner))
    discard_adapter(run)
    results = [f for end in (RESULT, ANSWERS) for f in run.eval_dir.glob(f"*{end}")]
    _delete([*_named_in(run.root, run), *results], run.eval_dir)


def discard_adapter(run: RunDir) -> None:
    """Delete what training wrote, and nothing else."""
    by_peft = (run.adapter / name for name in PEFT_FILES)
    _delete([*_named_in(run.adapter, run), *by_peft], run.adapter)


def _named_in(folder: Path, run: RunDir) -> list[Path]:
    """The files of a folder that ``RunDir`` names, except those of the lock."""
    kept = {run.root, run.adapter, run.eval_dir, run.lock, run.lock_owner}
    return [p for p in vars(run).values() if p.parent == folder and p not in kept]


def _delete(files: Iterable[Path], folder: Path) -> None:
    """Delete files, and their folder if that empties it."""
    try:
        for path in files:
            path.unlink(missing_ok=True)
            unfinished(path).unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as e:
        raise LmsiError(f"{e.filename}: cannot be deleted: {e.strerror}") from e
