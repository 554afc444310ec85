"""Stage one: questions in, sampled paths out, appended as each one ends.

Knows the order of work and what makes two runs the same; leaves generation to an engine and the
file format to the run folder. Never sees a gold answer: the question's is dropped at the door.
One line of ``paths.jsonl`` is shown in ``records.py``.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from lmsi_cli.config import EngineConfig, SampleConfig
from lmsi_cli.engine.base import Engine, Request, Wanted, path_seed
from lmsi_cli.engine.reading import to_path, to_request
from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import appender, read_records, write_records
from lmsi_cli.prompts import Task
from lmsi_cli.records import Path, Progress, Question, Record
from lmsi_cli.rundir import RunDir, check_same, sha256_file

# These change the speed, how much is asked for, or a path's spelling; never what a path says.
FREE = {*EngineConfig.__struct_fields__, "paths", "limit", "model", "adapter"}


class SampleSummary(Record, frozen=True, kw_only=True):
    """What one call of the stage did; times in seconds, ``tokens`` newly generated."""

    questions: int
    paths: int
    new_paths: int
    parsed: int
    tokens: int
    seconds: float
    width: int


def sample(
    questions: Sequence[Question],
    engine: Engine,
    task: Task,
    config: SampleConfig,
    run: RunDir,
    progress: Progress,
) -> SampleSummary:
    """Draw the paths that the run folder lacks.

    Args:
        questions: Their answers, if any, are not used and not stored.
        run: Held by the caller (``locked``) and bound to these settings (``bind``).

    Raises:
        LmsiError: A question's text changed under its id, a prompt does not fit, a write fails.
    """
    chosen = [
        Question(id=q.id, question=q.question, family=q.family)
        for q in questions[: config.limit or None]
    ]
    _keep_questions(chosen, run)
    have = _paths_there(run)
    requests = [_request(q, engine, task, config, have) for q in chosen]
    tally = _Tally(done=len(have), parsed=sum(have.values()), progress=progress)
    progress.start("sampling", len(have) + sum(len(r.wanted) for r in requests))
    with appender(run.paths, Path) as lines:
        for generated in engine.generate(requests, config, task.trigger):
            path = to_path(generated, task)
            lines.write(path)
            tally.count(path)
    return tally.summary(len(chosen), config.parallel)


def bind(run: RunDir, config: SampleConfig, identity: dict[str, Any]) -> None:
    """Tie the folder to these settings and this model, or refuse if it belongs to others.

    Args:
        identity: Hashes and versions that make a path what it is; ``library`` may change.
    """
    settings = {k: v for k, v in msgspec.to_builtins(config).items() if k not in FREE}
    saved = run.load_settings().get("sample")
    if saved is not None:
        keys = [*settings, *(k for k in identity if k.endswith("sha256"))]
        check_same(
            {k: saved.get(k) for k in keys},
            {k: {**settings, **identity}.get(k) for k in keys},
            f"the paths in {run.root}",
        )
    run.save_settings("sample", {**msgspec.to_builtins(config), **identity})


def drawn_by(adapter: str) -> dict[str, str]:
    """The adapter's part of a run's identity; empty for the base."""
    return {"adapter_sha256": sha256_file(pathlib.Path(adapter))} if adapter else {}


def _request(
    q: Question, engine: Engine, task: Task, config: SampleConfig, have: dict[tuple[str, int], bool]
) -> Request:
    wanted = tuple(
        Wanted(i, path_seed(config.seed, q.id, i))
        for i in range(config.paths)
        if (q.id, i) not in have
    )
    return to_request(engine, task, q, config.prompt, wanted)


def _paths_there(run: RunDir) -> dict[tuple[str, int], bool]:
    """The (question, path) keys that are already done, and whether each was parsed."""
    if not run.paths.exists():
        return {}
    return {
        (p.question_id, p.path): p.predicted_answer is not None
        for p in read_records(run.paths, Path)
    }


def _keep_questions(questions: Sequence[Question], run: RunDir) -> None:
    """Add the questions to the folder's own copy, so that later stages need no other file."""
    known = (
        {q.id: q for q in read_records(run.questions, Question)} if (run.questions.exists()) else {}
    )
    for q in questions:
        old = known.setdefault(q.id, q)
        if old.question != q.question:
            raise LmsiError(
                f"question {q.id!r} has another text in {run.root} than now",
                hint="give the question a new id, use `--overwrite`, or another folder",
            )
    write_records(run.questions, known.values())


class _Tally:
    """Counts for the progress view and the summary."""

    def __init__(self, done: int, parsed: int, progress: Progress) -> None:
        self.before, self.done, self.parsed, self.progress = done, done, parsed, progress
        self.tokens, self.begun = 0, time.monotonic()

    def count(self, path: Path) -> None:
        """One more path."""
        self.done += 1
        self.parsed += path.predicted_answer is not None
        self.tokens += path.num_generated_tokens
        seconds = max(time.monotonic() - self.begun, 1e-9)
        self.progress.advance(
            self.done,
            paths_s=(self.done - self.before) / seconds,
            tokens_s=self.tokens / seconds,
            parsed=f"{self.parsed / self.done:.0%}",
        )

    def summary(self, questions: int, width: int) -> SampleSummary:
        """The figures of this call."""
        return SampleSummary(
            questions=questions,
            paths=self.done,
            new_paths=self.done - self.before,
            parsed=self.parsed,
            tokens=self.tokens,
            seconds=time.monotonic() - self.begun,
            width=width,
        )
