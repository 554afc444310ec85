"""How far a run is, read from its folder while another process works there, or after it.

Reads only, takes no lock and needs no model. Counts lines instead of parsing them, so a long run is
looked at in an instant. What comes out:

    Scene(status=Status(phase="sampling", done=1280, total=6400, ...), working=True,
          stages=(Stage("sample", "1,280 of 6,400 paths"), Stage("vote", None), ...))
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object
from lmsi_cli.records import Record, Status
from lmsi_cli.run_folder import ANSWERS, RESULT, RunDir, in_use, teacher_of

CHUNK = 1 << 20


class Stage(Record, frozen=True, kw_only=True):
    """A stage of the run, and what there is of it in words; None if nothing."""

    name: str
    there: str | None


class Scene(Record, frozen=True, kw_only=True):
    """What can be seen of a run folder; ``status`` is None if no command has reported there.

    ``working``: a process holds the folder now. Without one, a status that has no end is that of
    a process that was killed.
    """

    folder: str
    working: bool
    status: Status | None
    stages: tuple[Stage, ...]


def scene(run: RunDir) -> Scene:
    """Look at a run folder.

    Raises:
        LmsiError: It is not one.
    """
    if not (run.run_toml.exists() or run.status.exists()):
        raise LmsiError(
            f"{run.root}: not a run folder (no run.toml)",
            hint=f"`lmsi sample QUESTIONS -o {run.root}` begins one",
        )
    look = {"sample": _sampled, "vote": _voted, "train": _trained, "eval": _measured}
    return Scene(
        folder=str(run.root),
        working=in_use(run),
        status=_status(run),
        stages=tuple(Stage(name=name, there=_seen(at, run)) for name, at in look.items()),
    )


def _seen(look: Callable[[RunDir], str | None], run: RunDir) -> str | None:
    try:
        return look(run)
    except (LmsiError, LookupError, TypeError):  # a file in the making, or of another version
        return "unreadable"


def _status(run: RunDir) -> Status | None:
    try:
        return msgspec.json.decode(run.status.read_bytes(), type=Status)
    except (OSError, msgspec.MsgspecError):
        return None


def _sampled(run: RunDir) -> str | None:
    if told := teacher_of(run):
        return f"a student of {Path(told['model']).name}, by the votes of {told['run']}"
    if not run.paths.exists():
        return None
    asked = run.load_settings().get("sample", {}).get("paths", 0)
    questions = _lines(run.questions) if run.questions.exists() else 0
    return f"{_lines(run.paths):,} of {questions * asked:,} paths of {questions:,} questions"


def _voted(run: RunDir) -> str | None:
    if not run.vote_summary.exists():
        return None
    told = read_object(run.vote_summary)
    kept = f"{told['kept_paths']:,} paths of {told['kept_questions']:,} questions kept"
    verdict = read_object(run.verdict)["verdict"] if run.verdict.exists() else None
    return f"{kept}; verdict: {verdict}" if verdict else kept


def _trained(run: RunDir) -> str | None:
    if run.adapter_origin.exists():
        told: dict[str, Any] = read_object(run.adapter_origin)["result"]["summary"]
        return f"{told['steps']:,} steps, loss {told['first_loss']:.3g} to {told['final_loss']:.3g}"
    if run.train_log.exists():
        return f"{_lines(run.train_log):,} steps so far"
    return None


def _measured(run: RunDir) -> str | None:
    results = sorted(run.eval_dir.glob(f"*{RESULT}"))
    answers = sum(_lines(f) for f in run.eval_dir.glob(f"*{ANSWERS}"))
    if not answers:
        return None
    return f"{len(results)} results, {answers:,} answers"


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(CHUNK), b""))
