"""Stage one: questions in, sampled paths out, each one appended as it finishes.

Knows the order of work and which settings make two runs the same; leaves generation to an engine
and the file format to the run folder. Uses no gold answers: they are dropped as questions come in.
``records.py`` shows one line of ``paths.jsonl``.
"""

from __future__ import annotations

import pathlib
import time
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from typing import Any

import msgspec

from lmsi_cli.cluster import Lacking, Pool
from lmsi_cli.config import EngineConfig, SampleConfig, ServerConfig
from lmsi_cli.engine.base import Engine, Refusal, Request, Wanted, draw, path_seed
from lmsi_cli.engine.checks import split_for, tell
from lmsi_cli.engine.paths import to_path, to_requests
from lmsi_cli.jsonl import appender
from lmsi_cli.prompts import Task
from lmsi_cli.records import Path, Progress, Question, Record
from lmsi_cli.resume import DrawnPaths, check_base, check_same, drawn_paths, keep_questions
from lmsi_cli.run_folder import RunDir, refuse_student, sha256_file
from lmsi_cli.stages.engines import Settling
from lmsi_cli.stopping import Stop
from lmsi_cli.voting.ballots import BallotWatch, is_cut_thinking
from lmsi_cli.voting.selection import MANY_CUT, cut_off_line

FIRST_LOOK = 40  # new paths before a warning that many are cut off
# These change the speed or how much is asked for, never what a path says; versions are a record.
FREE = {*EngineConfig.__struct_fields__, *ServerConfig.__struct_fields__, "cluster", "workers",
        "paths", "limit", "llama_cpp_python", "lmsi"}  # fmt: skip


class SampleSummary(Record, frozen=True, kw_only=True):
    """What one call of the stage did; times in seconds, ``tokens`` newly generated.

    ``stopped`` counts the questions that ``--stop`` left with fewer paths than asked for, in this
    call or an earlier one. The paths that this call saved were either ``cancelled`` (``tokens``
    includes their ``cancelled_tokens``) or ``never_drawn``. ``cut_off`` counts the new paths that
    hit the token limit. ``skipped`` are the ids of questions that do not fit the context, or that a
    server failed to answer completely; ``questions`` counts them too.
    """

    questions: int
    paths: int
    new_paths: int
    parsed: int
    tokens: int
    seconds: float
    width: int
    stopped: int
    cancelled: int
    cancelled_tokens: int
    never_drawn: int
    cut_off: int = 0
    skipped: tuple[str, ...] = ()


def sample(
    questions: Sequence[Question],
    engine: Engine,
    task: Task,
    config: SampleConfig,
    run: RunDir,
    progress: Progress,
) -> SampleSummary:
    """Draw the paths that the run folder lacks.

    The caller holds the folder (``locked``), bound to these settings (``bind``). A question that
    does not fit the model's context is reported and skipped. It leaves nothing in the folder, so it
    may be corrected or dropped before the next call. Answers of questions are neither used nor
    stored. The engine already has its adapter on, if there is one.

    With ``config.stop`` a question gets no more paths once those it has, counted in the order of
    their numbers, decide it. Paths of an earlier call are counted first, so that an interrupted run
    ends with the same decisions.

    LmsiError: a question's text changed under its id, no question fits, or a write fails.
    """
    call = _Call(questions, config, run, progress)
    watch = call.watch
    asked = [
        r._replace(wanted=()) if watch.decided(r.question_id) else r
        for r in requests_of(call.questions, engine, task, config, call.have)
    ]
    requests, skipped = split_for(engine, asked, config)
    left_out = {s.question_id for s in skipped}
    fitting = [q for q in call.questions if q.id not in left_out]
    keep_questions(run.questions, fitting, call.have.questions)
    tell(skipped, progress)
    words = {q.id: q.question for q in call.questions}
    call.begin(left_out)
    settling = Settling(run, progress.say)
    with appender(run.paths, Path) as write:
        early = watch if watch.stop else None  # a cache for a watch takes twice the memory
        for generated in draw(engine, requests, config, task.trigger, early):
            settling.alone(engine)
            path = to_path(generated, task, words[generated.question_id])
            write(path)
            call.count(path)
    refused = engine.refusals()
    tell(refused, progress)
    return call.summary([*skipped, *refused])


def sample_in_pool(
    questions: Sequence[Question],
    pool: Pool,
    config: SampleConfig,
    run: RunDir,
    progress: Progress,
) -> SampleSummary:
    """As ``sample``, but workers draw the paths; this process alone writes."""
    call = _Call(questions, config, run, progress)
    watch, have = call.watch, call.have
    keep_questions(run.questions, call.questions, have.questions)
    call.begin()
    open_ = set(call.left)
    work = (
        Lacking(q, have.lacks(q.id, config.paths), watch.decisions.get(q.id))
        for q in call.questions
        if q.id in open_
    )
    refused, settling = list[Refusal](), Settling(run, progress.say)
    with appender(run.paths, Path) as write:
        for result in pool.draw(work, call.left.total()):
            for path in result.paths:
                write(path)
                call.count(path)
            settling.of_worker(result.settled)
            watch.paths += result.cancelled[0]
            watch.tokens += result.cancelled[1]
            refused += [result.refused] if result.refused else []
    tell(refused, progress)
    return call.summary(refused)


def bind(run: RunDir, config: SampleConfig, identity: dict[str, Any]) -> None:
    """Tie the folder to these settings and this model, or refuse if it belongs to others.

    A folder without a single path belongs to nobody yet: if a first call failed, say because
    ``--max-tokens`` was too large, the corrected call must be accepted. ``identity`` has names and
    hashes of the files that determine a path, and versions. LmsiError: the folder has paths with
    other settings; says which.
    """
    refuse_student(run)
    now = {**msgspec.to_builtins(config), **identity}
    if run.has_paths():
        saved = run.load_settings().get("sample", {})
        check_same(saved, now, f"the paths in {run.root}", FREE)
    run.save_settings("sample", now)


def drawn_by(adapter: str, model: pathlib.Path) -> dict[str, Any]:
    """Name and hash the adapter, if there is one; LmsiError: it was trained on another model."""
    if not adapter:
        return {}
    file = pathlib.Path(adapter)
    check_base(file, sha256_file(model))
    return {"adapter": str(file.absolute()), "adapter_sha256": sha256_file(file)}


def requests_of(
    questions: Sequence[Question],
    engine: Engine,
    task: Task,
    config: SampleConfig,
    have: DrawnPaths | None = None,
) -> list[Request]:
    """Write the requests of a run, without the paths that it already has."""
    have = have or DrawnPaths()
    found: list[Request] = []
    for q in questions:
        lacking = have.lacks(q.id, config.paths)
        wanted = tuple(Wanted(i, path_seed(config.seed, q.id, i)) for i in lacking)
        found += to_requests(engine, task, q, task.format, wanted)
    return found


def pace(begun: float, paths: int, tokens: int, parsed: float) -> dict[str, float | str]:
    """What the progress shows of paths drawn since ``begun``; ``parsed`` as a share, 0 to 1."""
    seconds = max(time.monotonic() - begun, 1e-9)
    return {"paths_s": paths / seconds, "tokens_s": tokens / seconds, "parsed": f"{parsed:.0%}"}


class _Call:
    """One call of the stage: its questions, their existing paths, and its counts.

    Progress counts a path that is no longer needed as done, or it would never reach its end.
    """

    def __init__(
        self, questions: Sequence[Question], config: SampleConfig, run: RunDir, progress: Progress
    ) -> None:
        self.questions = [  # their answers are dropped here
            Question(id=q.id, question=q.question, family=q.family, group=q.group)
            for q in questions
        ]
        self.config, self.progress = config, progress
        self.watch = BallotWatch(Stop.parse(config.stop))
        self.have = drawn_paths(run.paths, self.watch.tell if self.watch.stop else None)
        self.before = self.done = self.have.paths
        self.parsed, self.tokens, self.spared = self.have.parsed, 0, 0
        self.cut, self.thinking, self.warned = 0, 0, False
        self.left, self.begun = Counter[str](), 0.0

    def begin(self, left_out: Container[str] = ()) -> None:
        """Count the paths that each undecided question lacks, and show the progress."""
        for q in self.questions:
            lacking = len(self.have.lacks(q.id, self.config.paths))
            if lacking and q.id not in left_out and not self.watch.decided(q.id):
                self.left[q.id] = lacking
        self.begun = time.monotonic()
        self.progress.start("sampling", self.done + self.left.total())

    def count(self, path: Path) -> None:
        """Count one more path, which is on the disk."""
        self.watch.tell(path)
        self.done += 1
        self.parsed += path.predicted_answer is not None
        self.tokens += path.num_generated_tokens
        self.cut += path.stop_reason == "length"
        self.thinking += is_cut_thinking(path)
        new = self.done - self.before
        if not self.warned and new >= FIRST_LOOK and self.cut > MANY_CUT * new:
            self.warned = True  # once: such paths will not vote
            self.progress.say(cut_off_line(self.cut, self.thinking, new))
        if path.question_id in self.left:
            self.left[path.question_id] -= 1
        else:  # it ended in the same step as the path that decided
            self.spared -= 1
        if self.watch.decided(path.question_id):
            self.spared += self.left.pop(path.question_id, 0)
        figures = pace(self.begun, new, self.tokens + self.watch.tokens, self.parsed / self.done)
        if self.watch.stop:
            figures["spared"] = f"{self.spared} paths"
        self.progress.advance(self.done + self.spared, **figures)

    def summary(self, skipped: Iterable[Refusal]) -> SampleSummary:
        """The figures of this call."""
        return SampleSummary(
            questions=len(self.questions),
            paths=self.done,
            new_paths=self.done - self.before,
            parsed=self.parsed,
            tokens=self.tokens + self.watch.tokens,
            seconds=time.monotonic() - self.begun,
            width=self.config.parallel,
            stopped=sum(self.watch.stopped(q.id, self.config.paths) for q in self.questions),
            cancelled=self.watch.paths,
            cancelled_tokens=self.watch.tokens,
            never_drawn=self.spared - self.watch.paths,
            cut_off=self.cut,
            skipped=tuple(dict.fromkeys(r.question_id for r in skipped)),
        )
