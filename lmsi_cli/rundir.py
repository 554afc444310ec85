"""The run folder: its file names, its lock, and the settings that a run is tied to.

The only place that knows what a file of a run is called. Knows nothing of what the records mean;
how lines survive a killed writer is in ``lines.py``. A folder belongs to one process at a time:

    with locked(run), appender(run.paths, Path) as paths:
        paths.write(path)            # runs/first/paths.jsonl grows by a line
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import read_object, unfinished, write_atomic, write_error

HASH = "_sha256"  # ends the name of a setting that holds the hash of a file
ORIGIN = "lmsi.json"
SCALE = "scale"  # in ORIGIN: what stages/scales.py chose
RESULT, ANSWERS = ".result.json", ".answers.jsonl"
# sections of a student's run.toml: whose votes it learns from, and how these came about
TEACHER, TEACHER_SAMPLE, TEACHER_VOTE = "teacher", "teacher_sample", "teacher_vote"
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")


class RunDir:
    """Where each file of one run lies; making one touches no disk."""

    def __init__(self, root: Path | str) -> None:
        self.root = root = Path(root)
        self.run_toml = root / "run.toml"  # settings, versions and hashes, a section per stage
        self.questions = root / "questions.jsonl"  # records.Question, without gold answers
        self.paths = root / "paths.jsonl"  # records.Path
        self.votes = root / "votes.jsonl"  # records.Vote
        self.vote_summary = root / "vote.json"  # voting.VoteSummary
        self.train = root / "train.jsonl"  # records.TrainExample
        self.pairs = root / "pairs.jsonl"  # records.Preference
        self.verdict = root / "verdict.json"  # verdict.Verdict, of the vote that is there
        self.report = root / "report.html"
        self.seeds = root / "seeds.jsonl"  # records.Question: those that the generator was shown
        self.drafts = root / "drafts.jsonl"  # generation.Draft
        self.generated = root / "generated.jsonl"  # records.Question: drafts that passed the vote
        self.generation = root / "generation.json"  # generation.Generation
        self.rounds = root / "rounds.json"  # rounds.Rounds, in the folder of the first round
        self.status = root / "status.json"  # records.Status, of the last command to work here
        self.adapter = root / "adapter"  # a folder as PEFT writes it, and what else training leaves
        self.adapter_gguf = self.adapter / "adapter.gguf"
        self.adapter_origin = self.adapter / ORIGIN  # what it was made of; written last
        self.train_log = self.adapter / "log.jsonl"
        self.validation_log = self.adapter / "validation.jsonl"
        self.loss_curve = self.adapter / "loss.png"
        self.checkpoint = self.adapter / "checkpoint.safetensors"
        self.best_checkpoint = self.adapter / "best.safetensors"
        self.reference = self.adapter / "reference.json"  # the base's figures of unfinished pairs
        self.eval_dir = root / "eval"
        self.lock = root / "run.lock"
        self.lock_owner = root / "run.pid"  # apart, since Windows forbids reading a locked file

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

    def create(self) -> None:
        """Make the folder if need be; LmsiError if a file is in the way or it may not be made."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            message = f"{self.root}: cannot make this folder: {e.strerror}"
            raise LmsiError(message, hint="choose another one") from e

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


def teacher_of(run: RunDir) -> dict[str, Any] | None:
    """Whose votes a student's folder learns from (``run``, ``model``, hashes); None for others."""
    return run.load_settings().get(TEACHER)


def refuse_student(run: RunDir) -> None:
    """Refuse to draw or to count paths in a student's folder: they are its teacher's.

    Raises:
        LmsiError: It is one; names the teacher's run.
    """
    if told := teacher_of(run):
        raise LmsiError(
            f"{run.root}: in this folder a student learns from the votes of {told['run']}",
            hint="paths of its own belong into a folder of their own: "
            "`lmsi sample QUESTIONS -m STUDENT -o FOLDER`",
        )


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
        raise write_error(run.lock, e) from e
    try:
        write_atomic(run.lock_owner, f"{os.getpid()}\n")
        yield
    finally:
        run.lock_owner.unlink(missing_ok=True)  # before the release: after it, the next one's
        lock.release()


def in_use(run: RunDir) -> bool:
    """Whether a process holds the folder now; takes the lock for an instant at most."""
    import filelock

    if not run.lock.exists():
        return False
    try:
        with filelock.FileLock(run.lock, timeout=0):
            return False
    except (filelock.Timeout, OSError):  # a folder that may not be written to: nobody can tell
        return run.lock_owner.exists()


def check_same(saved: dict[str, Any], now: dict[str, Any], what: str) -> None:
    """Refuse to go on with a run folder under other settings than it was begun with.

    Args:
        saved: Flat settings from run.toml.
        now: Flat settings of this call. A missing key equals None, and a tuple equals a list,
            since TOML keeps neither None nor tuples. Of a ``model_sha256`` the user is told as
            ``model``, by the name beside it (``model_name``, ``model_file`` or ``model``), which
            itself may differ: a file may be moved.
        what: What the settings belong to: ``"the paths in runs/a"``.

    Raises:
        LmsiError: Names each setting that differs, with both values.
    """
    old, new = _builtins(saved), _builtins(now)
    keys = dict.fromkeys([*new, *old])
    names = {n for k in keys if k.endswith(HASH) for n in _names(k)}
    told = [_difference(k, old, new) for k in keys if k not in names and old.get(k) != new.get(k)]
    if told:
        raise LmsiError(
            f"{what} had other settings: {'; '.join(told)}",
            hint="give the old value, start over with `--overwrite`, or use another folder",
        )


def _names(key: str) -> list[str]:
    """Where the name of a hashed file may stand beside its hash, best first."""
    stem = key.removesuffix(HASH)
    return [f"{stem}_name", f"{stem}_file", stem]


def _difference(key: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    """Tell how a setting differs; a hash says nothing to a person, so files go by their names."""
    label, before, now = key.removesuffix(HASH), old.get(key, "not set"), new.get(key, "not set")
    if key.endswith(HASH):
        before, now = _file_name(key, old), _file_name(key, new)
        if before == now:
            return f"{label}: {now} has changed since"
    return f"{label}: {before} in the run folder, {now} now"


def _file_name(key: str, settings: dict[str, Any]) -> str:
    if key not in settings:
        return "none"
    return next((settings[n] for n in _names(key) if settings.get(n)), "the file")


def check_model(run: RunDir, model: Path, model_sha256: str) -> None:
    """Refuse to train on, or to measure, another model than the one that drew the run's paths.

    Args:
        run: A run folder; one that nothing was sampled in yet takes any model.
        model: The model's file.
        model_sha256: Hash of its bytes as they are now.

    Raises:
        LmsiError: It is another file, or has changed since.
    """
    saved = run.load_settings().get("sample", {})
    if "model_sha256" in saved:
        check_same(
            {"model": saved.get("model"), "model_sha256": saved["model_sha256"]},
            {"model": str(model.absolute()), "model_sha256": model_sha256},
            f"the paths in {run.root}",
        )


def check_base(adapter: Path, model_sha256: str) -> None:
    """Refuse an adapter that was trained on another model.

    Args:
        adapter: A GGUF adapter; without our ``lmsi.json`` beside it nothing can be said here.
        model_sha256: Hash of the model it is to be used with.

    Raises:
        LmsiError: It belongs to another file.
    """
    origin = adapter.with_name(ORIGIN)
    told = read_object(origin) if origin.exists() else {}
    if told.get("base_sha256", model_sha256) != model_sha256:
        raise LmsiError(
            f"{adapter}: this adapter was trained on another model, {told.get('base_file')}",
            hint="use it with that one, or train this one with `lmsi train`",
        )


def chosen_scale(adapter: Path) -> float:
    """How strongly an adapter is to act, as the sweep after its training chose; else 1.

    Args:
        adapter: A GGUF adapter; the choice is in the ``lmsi.json`` beside it.

    Raises:
        LmsiError: What is written there is no scale.
    """
    origin = adapter.with_name(ORIGIN)
    told = read_object(origin).get(SCALE, {}) if origin.exists() else {}
    scale = told.get("chosen", 1.0) if isinstance(told, dict) else None
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= 100:
        raise LmsiError(f"{origin}: no adapter scale: {scale!r}", hint="give --adapter-scale")
    return float(scale)


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
    _delete(
        [
            run.run_toml,
            run.questions,
            run.paths,
            run.votes,
            run.vote_summary,
            run.train,
            run.pairs,
            run.verdict,
            run.rounds,
            run.report,
            run.seeds,
            run.drafts,
            run.generated,
            run.generation,
            run.status,
            *run.eval_dir.glob(f"*{RESULT}"),
            *run.eval_dir.glob(f"*{ANSWERS}"),
        ],
        run.eval_dir,
    )


def discard_adapter(run: RunDir) -> None:
    """Delete what training wrote, and nothing else."""
    _delete(
        [
            *(run.adapter / n for n in PEFT_FILES),
            run.adapter_gguf,
            run.adapter_origin,
            run.train_log,
            run.validation_log,
            run.loss_curve,
            run.checkpoint,
            run.best_checkpoint,
            run.reference,
        ],
        run.adapter,
    )


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


def _builtins(values: dict[str, Any]) -> dict[str, Any]:
    """Bring settings to what TOML can hold: no None, lists for tuples."""
    plain = msgspec.to_builtins({k: v for k, v in values.items() if v is not None})
    return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


def _in_use(run: RunDir) -> LmsiError:
    try:
        owner = f"process {int(run.lock_owner.read_text())}"
    except (OSError, ValueError):  # the holder has not named itself yet
        owner = "another process"
    message = f"run folder {run.root} is in use by {owner}"
    return LmsiError(message, hint="wait for it, stop it, or use another folder")
