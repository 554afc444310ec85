"""Exemplars of a model's own making: sampled paths of seed questions in, a task file out.

After Huang et al. 2022 (arXiv 2210.11610, section 3.4), who took the greedy rationale of each seed;
here the paths vote. Knows paths, votes and tasks; needs no model and no gold answer. Of a seed
whose winner has the share, this path is taken: of those with the winning answer the soundest, then
the one nearest to their median length, then the lowest number. What comes out, for ``--task``:

    name = "exemplars"
    [[templates]]
    [[templates.exemplars]]
    question = "What is 84 / 2?"
    rationale = "Half of 84 is 84 / 2 = 42."
    answer = "42"
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path as File
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import ExemplarsConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task, clean, rationale_of
from lmsi_cli.records import Exemplar, Path, Progress, Question, Record
from lmsi_cli.run_folder import RunDir, paths_by_question
from lmsi_cli.stages.pipeline import Job, Old, draw, opened
from lmsi_cli.stages.sample import SampleSummary
from lmsi_cli.tasks.loader import wrong_exemplar
from lmsi_cli.voting.ballots import holds, is_complete, vote

UNDECIDED, BELOW, UNFIT, TAKEN = "undecided", "below the share", "no fit rationale", "taken"
# What the arithmetic says of a path: all its equations hold, it states none, one is false.
KINDS = {True: "sound", None: "unchecked", False: "lucky"}
RANK = {"sound": 0, "unchecked": 1, "lucky": 2}
STREAM = "exemplars"  # other random numbers than the paths'


class ExemplarsSummary(Record, frozen=True, kw_only=True):
    """What was made of the seeds; every seed with paths is counted once in ``seeds``.

    ``undecided`` have no winner, ``below`` one with too small a share, ``unfit`` no path of the
    winner that may stand in a task; ``spare`` could have been used. ``classes`` counts the chosen
    paths by what the arithmetic says of them, ``share`` is their winners' mean share.
    """

    file: str
    seeds: int
    undecided: int
    below: int
    unfit: int
    spare: int
    templates: int
    shots: int
    classes: dict[str, int]
    share: float


class SeedExemplar(NamedTuple):
    """A seed's exemplar, the kind of the path that it is made of, and the winner's share."""

    exemplar: Exemplar
    kind: str
    share: float


def make_exemplars(
    job: Job,
    config: ExemplarsConfig,
    out: File,
    run: RunDir,
    progress: Progress,
    overwrite: bool = False,
) -> tuple[ExemplarsSummary, SampleSummary]:
    """Draw the paths that the seeds lack, and write a task file with the exemplars made of them.

    The job's questions are the seeds; the caller holds the folder of the paths (``locked``). A file
    that is there is replaced; ``overwrite`` discards paths that were drawn in another way.

    LmsiError as ``pipeline.opened`` and ``write_exemplars``.
    """
    old: Old = "discarded if different" if overwrite else "kept"
    with opened(job, run, progress, old, trial=False) as drawing:
        drawn = draw(drawing, job.questions, run, progress)
    return write_exemplars(run, job.questions, job.task, config, out), drawn


def write_exemplars(
    run: RunDir, seeds: Sequence[Question], task: Task, config: ExemplarsConfig, out: File
) -> ExemplarsSummary:
    """Choose the exemplars and write them as a task file, atomically.

    Which seeds are used, and in which template, is drawn by ``config.seed``: by share the easy ones
    would come first.

    LmsiError: no seed's winner has the share, or too few seeds do; nothing is written then.
    """
    counts, chosen = Counter[str](), list[SeedExemplar]()
    with paths_by_question(run) as paths:
        for q in sorted(seeds, key=lambda q: path_seed(config.seed, f"{STREAM} {q.id}", 0)):
            own = [p for p in paths.get(q.id) if p.path < config.paths]
            found = choose(q, own, task, config) if own else ""
            chosen += [found] if isinstance(found, SeedExemplar) else []
            counts[TAKEN if isinstance(found, SeedExemplar) else found] += 1
    _check_enough(len(chosen), counts, config, run)
    used = chosen[: config.needed]
    write_atomic(out, task_text([c.exemplar for c in used], task, config, out.stem))
    return ExemplarsSummary(
        file=str(out),
        seeds=counts.total() - counts[""],
        undecided=counts[UNDECIDED],
        below=counts[BELOW],
        unfit=counts[UNFIT],
        spare=len(chosen) - len(used),
        templates=config.templates,
        shots=config.shots,
        classes=dict(Counter(c.kind for c in used)),
        share=statistics.fmean(c.share for c in used),
    )


def choose(
    question: Question, paths: Sequence[Path], task: Task, config: ExemplarsConfig
) -> SeedExemplar | str:
    """The exemplar that a seed's paths make; or why there is none.

    A single path is the paper's greedy one and is taken as it is, whatever its arithmetic.
    """
    held = vote(question.id, paths, config.paths > 1)
    winner = held.predicted_answer
    if winner is None:
        return UNDECIDED
    if held.share < config.min_share:
        return BELOW
    agreed = [p for p in paths if p.path in held.kept and is_complete(p)]
    usual = statistics.median(p.num_generated_tokens for p in agreed) if agreed else 0

    def rank(p: Path) -> tuple[int, float, int]:
        return RANK[KINDS[holds(p)]], abs(p.num_generated_tokens - usual), p.path

    for path in sorted(agreed, key=rank):
        rationale = re.sub(r"\s*\n\s*", "\n", rationale_of(task, path))
        made = Exemplar(question=clean(question.question), rationale=rationale, answer=winner)
        if not wrong_exemplar(made, task):
            return SeedExemplar(made, KINDS[holds(path)], held.share)
    return UNFIT


def _check_enough(found: int, counts: Counter[str], config: ExemplarsConfig, run: RunDir) -> None:
    if found >= config.needed:
        return
    why = ", ".join(f"{counts[name]} {name}" for name in (UNDECIDED, BELOW, UNFIT) if counts[name])
    share = f"{config.min_share:.0%}"
    if not found:
        raise LmsiError(
            f"{run.paths}: no exemplar: of no seed has the winner a share of {share} and a fit "
            f"rationale ({why or 'there are no paths'})",
            hint="lower it (--set min_share=0.3), draw more --paths, or take easier seeds",
        )
    fit = found // config.shots
    flags = f"--templates {fit}" if fit else f"--shots {found} --templates 1"
    raise LmsiError(
        f"{run.paths}: {found} seeds make an exemplar, and {config.templates} templates of "
        f"{config.shots} need {config.needed} ({why or 'no other seeds'})",
        hint=f"{flags} fits; or lower the share (--set min_share=0.3), or give more seeds",
    )


def task_text(exemplars: Sequence[Exemplar], task: Task, config: ExemplarsConfig, name: str) -> str:
    """Write a task file: the words of ``task``, and exemplars in templates of ``config.shots``."""
    import tomli_w

    fields: dict[str, Any] = {
        f.name: value
        for f in msgspec.structs.fields(Task)
        if f.name not in ("exemplars", "templates", "chat")
        and (value := getattr(task, f.name)) != f.default
    }
    fields |= {"name": name, "description": f"Exemplars made for {task.name}"}
    entries = [msgspec.to_builtins(e) for e in exemplars]
    sets = [entries[i : i + config.shots] for i in range(0, len(entries), config.shots)]
    if len(sets) > 1:
        fields["templates"] = [{"exemplars": s} for s in sets]
    else:
        fields["exemplars"] = entries
    text: str = tomli_w.dumps(fields, multiline_strings=True)
    how = "the greedy path" if config.paths == 1 else f"the vote of {config.paths} paths"
    model = File(config.model).name
    return f"# Written by `lmsi exemplars`: rationales of {model}, by {how} of each seed.\n{text}"
