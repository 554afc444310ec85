"""Read a run folder for its report.

Covers the stages that are done and names the first that is missing; writes nothing and needs no
model. ``reporting/`` turns figures into sections. What comes out:

    Digest(title="lmsi report: first", headline="CoT greedy on test: adapter is better than ...",
           next=Step("the gain is clear; ...", "lmsi export runs/first"), sections=(...), ...)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as File
from typing import Any

import msgspec

from lmsi_cli.jsonl import read_records, read_struct
from lmsi_cli.reporting import sections
from lmsi_cli.reporting.comparison import headline, next_step
from lmsi_cli.reporting.digest import Digest, Section, Step
from lmsi_cli.reporting.evaluation import picture, result_section
from lmsi_cli.reporting.results import newest_evaluations
from lmsi_cli.resume import trained_file
from lmsi_cli.rounds import read_rounds
from lmsi_cli.run_folder import RunDir, teacher_of
from lmsi_cli.stages.asking import sampled
from lmsi_cli.stages.train import finished
from lmsi_cli.training.loop import LogLine
from lmsi_cli.training.validation import Reading
from lmsi_cli.verdict.rules import STOP, Verdict
from lmsi_cli.voting.selection import VoteSummary


def read_run(run: RunDir) -> Digest:
    """Gather a report from what there is; LmsiError: no run folder, or a file cannot be read."""
    sampled(run)  # refuses what is not a run folder
    settings = run.load_settings()
    verdict = _file(run.verdict, Verdict)
    votes = _file(run.vote_summary, VoteSummary)
    measured, rounds = newest_evaluations(run), read_rounds(run)
    parts: list[Section] = []
    if rounds is not None:  # with the sets on which a round was measured beside the base
        parts.append(sections.rounds_section(rounds, [e for e in measured if len(e.mains) > 1]))
    parts += [result_section(e, number) for number, e in enumerate(measured, 1)]
    parts += [sections.verdict_section(verdict)] if verdict is not None else []
    parts += [sections.vote_section(votes)] if votes is not None else []
    parts += [*_training(run), sections.settings_section(settings)]
    data = {"settings": settings, "verdict": verdict, "vote": votes}
    data |= {"rounds": rounds, "evaluations": measured}
    if measured:
        best = rounds.best if rounds else None  # its adapter's name in an evaluation
        kept = f"round-{best.number}" if best and best.number > 1 else ""
        said, notes = headline(measured, kept)
    elif votes is None:
        said, notes = "Nothing has been voted on yet.", ()
    else:
        said, notes = sections.kept_line(votes), ()
        said += f"; verdict: {verdict.verdict}" if verdict else ""
    return Digest(
        title=f"lmsi report: {run.root.name or run.root.resolve().name}",
        headline=said,
        picture=picture(measured[0]) if measured else None,
        next=_missing(run, verdict) or next_step(measured, run.typed),
        notes=(*_notes(run), *notes),
        sections=tuple(parts),
        data=msgspec.to_builtins(data),
    )


def _file(path: File, kind: type[Any]) -> Any:  # noqa: ANN401 - the kind's own
    return read_struct(path, kind, "run `lmsi vote` again") if path.exists() else None


def _notes(run: RunDir) -> Iterator[str]:
    if teacher := teacher_of(run):
        model = File(teacher["model"]).name
        yield f"A student: it learned from the votes of {model} in {teacher['run']}."
    if run.adapter_origin.exists() and trained_file(run) is None:
        again = f"`lmsi train {run.typed} --overwrite`"
        yield f"The adapter was trained on an earlier vote than this one; {again} makes it anew."


def _missing(run: RunDir, verdict: Verdict | None) -> Step | None:
    """The first stage that the run lacks, as the next step; None if it is trained."""
    name = run.typed
    if not run.paths.exists() and teacher_of(run) is None:
        return Step("no paths yet", f"lmsi sample QUESTIONS -o {name}")
    if not run.vote_summary.exists():
        return Step("no vote yet", f"lmsi vote {name}")
    if run.adapter_origin.exists():
        return None
    if verdict is not None and verdict.verdict == STOP:
        return Step("the verdict is against training; see what was voted on", f"lmsi show {name}")
    return Step("no finished adapter yet", f"lmsi train {name}")


def _training(run: RunDir) -> Iterator[Section]:
    """The section on training so far, with the loss on held-out questions."""
    result = msgspec.to_builtins(finished(run)) if run.adapter_origin.exists() else None
    steps = read_records(run.train_log, LogLine) if run.train_log.exists() else ()
    file = run.validation_log
    read = read_records(file, Reading) if file.exists() else ()
    losses = [(float(line.step), line.loss) for line in steps]
    if result is not None or losses:
        yield sections.training_section(result, losses, [(float(r.step), r.loss) for r in read])
