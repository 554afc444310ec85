"""Exemplars that a model writes itself: sampled paths of seed questions in, a task file out.

After Huang et al. 2022 (arXiv 2210.11610, section 3.4), who took the greedy rationale of each seed;
here the paths vote. Choosing needs no model, and nothing needs gold answers. If a seed's winner
reaches the share, one of its paths is taken: the soundest, then the one nearest to their median
length, then the one with the lowest number. The result, for ``--task``:

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
from typing import Any

import msgspec

from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import ExemplarsConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task, clean, rationale_of
from lmsi_cli.records import Exemplar, Path, Progress, Question, Record
from lmsi_cli.run_folder import RunDir, paths_by_question
from lmsi_cli.stages.pipeline import Job, opened
from lmsi_cli.stages.sample import SampleSummary
from lmsi_cli.tasks.loader import wrong_exemplar
from lmsi_cli.voting.ballots import holds, vote

RANK = {True: 0, None: 1, False: 2}  # all equations of a path hold, it states none, or one is false
STREAM = "exemplars"  # keeps its random numbers apart from the paths'


class ExemplarsSummary(Record, frozen=True, kw_only=True):
    """What became of the seeds that have paths.

    ``left_out`` counts by reason the seeds without an exemplar: no winner, too small a share, or no
    path of the winner fit for a task file. ``share`` is the winners' mean share over the seeds in
    the file.
    """

    file: str
    seeds: int
    left_out: dict[str, int]
    templates: int
    shots: int
    share: float


def make_exemplars(
    job: Job,
    config: ExemplarsConfig,
    out: File,
    run: RunDir,
    progress: Progress,
    overwrite: bool = False,
) -> tuple[ExemplarsSummary, SampleSummary]:
    """Draw the paths that the seeds lack, and write a task file with exemplars made from them.

    The job's questions are the seeds; the caller holds the folder of the paths (``locked``). An
    existing file is replaced; ``overwrite`` discards paths that were drawn with other settings.

    LmsiError as ``pipeline.opened`` and ``write_exemplars``.
    """
    with opened(job, run, progress, overwrite and "if different", trial=False) as drawing:
        drawn = drawing.draw(job.questions)
    return write_exemplars(run, job.questions, job.task, config, out), drawn


def write_exemplars(
    run: RunDir, seeds: Sequence[Question], task: Task, config: ExemplarsConfig, out: File
) -> ExemplarsSummary:
    """Choose the exemplars and write them as a task file, atomically.

    ``config.seed`` decides which seeds are used, and in which template; choosing by share would
    favour easy ones.

    LmsiError: too few seeds make an exemplar; nothing is written then.
    """
    left_out, chosen = Counter[str](), list[tuple[Exemplar, float]]()
    with paths_by_question(run) as paths:
        for q in sorted(seeds, key=lambda q: path_seed(config.seed, f"{STREAM} {q.id}", 0)):
            own = [p for p in paths.get(q.id) if p.path < config.paths]
            found = choose(q, own, task, config) if own else ""
            if isinstance(found, tuple):
                chosen.append(found)
            elif found:
                left_out[found] += 1
    if len(chosen) < config.needed:
        why = ", ".join(f"{n} {reason}" for reason, n in left_out.items()) or "no other seeds"
        raise LmsiError(
            f"{run.paths}: {len(chosen)} seeds make an exemplar, and {config.templates} templates "
            f"of {config.shots} need {config.needed} ({why})",
            hint="lower --templates, --shots or the share (--set min_share=0.3), draw more "
            "--paths, or give more or easier seeds",
        )
    used = chosen[: config.needed]
    write_atomic(out, task_text([e for e, _ in used], task, config, out.stem))
    return ExemplarsSummary(
        file=str(out),
        seeds=len(chosen) + left_out.total(),
        left_out=dict(left_out),
        templates=config.templates,
        shots=config.shots,
        share=statistics.fmean(share for _, share in used),
    )


def choose(
    question: Question, paths: Sequence[Path], task: Task, config: ExemplarsConfig
) -> tuple[Exemplar, float] | str:
    """The exemplar made from a seed's paths, with its answer's share; or why there is none.

    With one path per seed, the paper's greedy one, equations are not checked.
    """
    held = vote(question.id, paths, config.paths > 1)
    winner = held.predicted_answer
    if winner is None:
        return "undecided"
    if held.share < config.min_share:
        return "below the share"
    agreed = [p for p in paths if p.path in held.kept]
    usual = statistics.median(p.num_generated_tokens for p in agreed)

    def rank(p: Path) -> tuple[int, float, int]:
        return RANK[holds(p)], abs(p.num_generated_tokens - usual), p.path

    for path in sorted(agreed, key=rank):
        rationale = re.sub(r"\s*\n\s*", "\n", rationale_of(task, path))
        made = Exemplar(question=clean(question.question), rationale=rationale, answer=winner)
        if not wrong_exemplar(made, task):
            return made, held.share
    return "no fit rationale"


def task_text(exemplars: Sequence[Exemplar], task: Task, config: ExemplarsConfig, name: str) -> str:
    """The text of a task file: words of ``task``, exemplars in templates of ``config.shots``."""
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
    model = File(config.model or "").name
    return f"# Written by `lmsi exemplars`: rationales of {model}, by {how} of each seed.\n{text}"
