r"""Stage two: sampled paths in; one vote per question, the training examples and a verdict out.

Knows which file goes where; the vote and its filters are in ``voting/``, the formats in
``prompts.py``, the verdict's signals and rules in ``verdict/``. Needs no model, and no gold answers
except a probe's, which reach no training file. Questions are read one at a time, so memory does not
grow with the number of paths, except for eight bytes per example. One line of ``train.jsonl``:

    {"completion": " 2 + 2 = 4. The answer is 4.", "format": "cot-zero", "path": 3,
     "prompt": "Q: ...\\nA: Let's think step by step.", "question_id": "q7"}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from lmsi_cli.atomic import replacing
from lmsi_cli.config import NO_STOP, VoteConfig
from lmsi_cli.contamination import check_apart
from lmsi_cli.engine.base import path_seed
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import (
    JsonlIndex,
    encode_line,
    read_records,
    read_struct,
    shuffled_writer,
    write_struct,
)
from lmsi_cli.prompts import Task, examples, formats_of, preferences
from lmsi_cli.records import Path, Preference, Progress, Question, Silent, TrainExample, Vote
from lmsi_cli.run_folder import RunDir, paths_by_question, questions_by_id, refuse_student
from lmsi_cli.stopping import Stop
from lmsi_cli.tasks.loader import gold_answers
from lmsi_cli.verdict.rules import STOP, Observer, Verdict
from lmsi_cli.voting.ballots import BallotWatch, is_cut_thinking, vote
from lmsi_cli.voting.selection import MANY_CUT, Tally, VoteSummary, choose, cut_off_line, select

NOT_SAMPLED = "run `lmsi sample` first"
SILENT = Silent()
EVERY = 256  # questions between two updates of the progress
NAMED = 3  # missing ids that an error names


class Voted(NamedTuple):
    """The results of a vote."""

    summary: VoteSummary
    verdict: Verdict


def vote_run(
    run: RunDir,
    task: Task,
    config: VoteConfig,
    progress: Progress = SILENT,
    exams: Mapping[str, Sequence[Question]] | None = None,
    probe: Sequence[Question] = (),
) -> Voted:
    """Vote over every question of a run folder; write votes, examples, the summary and the verdict.

    The caller holds the folder (``locked``). ``exams`` are questions that must not be trained on,
    by file name. ``probe`` has questions of the run with right answers, for the verdict. If nothing
    is kept (see ``nothing_kept``), the summary says why.

    LmsiError: there are no paths, none of them votes, they belong to another run, a question is
    missing or also in an exam, or a probe question is not in the run or has an answer of another
    kind; nothing is written then.
    """
    if exams:
        check_apart(read_records(run.questions, Question), exams)
    if probe:
        check_probe(probe, read_records(run.questions, Question), str(run.root))
    observer = Observer(gold_answers(probe, task), task.chance)
    if task.chat is not None and "auto" in config.formats:
        progress.say(f"examples in the run's own format, {task.format}; --formats sets others")
    if not run.paths.exists():
        refuse_student(run)
        raise LmsiError(f"{run.paths}: no such file", hint=NOT_SAMPLED)
    progress.start("reading paths, MiB", run.paths.stat().st_size >> 20)
    with paths_by_question(run, progress.advance) as paths:
        if paths.largest < 0:
            raise LmsiError(f"{run.paths}: holds no paths", hint=NOT_SAMPLED)
        tally = _write(run, task, config, paths, observer, progress)
    summary, verdict = tally.summary(), observer.finish()
    if summary.truncated > MANY_CUT * summary.paths:
        warning = cut_off_line(summary.truncated, summary.thinking, summary.paths)
        summary = msgspec.structs.replace(summary, warnings=(warning,))
    write_struct(run.vote_summary, summary, sort=True)
    write_struct(run.verdict, verdict)
    run.save_settings("vote", {**msgspec.to_builtins(config), "exclude": sorted(exams or ())})
    return Voted(summary, verdict)


def nothing_kept(run: RunDir, summary: VoteSummary) -> LmsiError | None:
    """The error that says why there is nothing to train on; ``None`` if there is something."""
    if summary.kept_paths:
        return None
    name = max(summary.removed, key=lambda name: summary.removed[name])
    return LmsiError(
        f"{run.paths}: nothing to train on: no path passed the filters; "
        f"{name} removed {summary.removed[name]} of {summary.paths}",
        hint="`lmsi vote --help-all` has the filters; `lmsi sample` with a larger -n draws more",
    )


def _write(
    run: RunDir,
    task: Task,
    config: VoteConfig,
    paths: JsonlIndex[Path],
    observer: Observer,
    progress: Progress,
) -> Tally:
    """Vote on one question after another; the files appear when all are done."""
    tally, sampled = Tally(), run.load_settings().get("sample", {})
    stop = Stop.parse(sampled.get("stop", NO_STOP))
    asked = max(sampled.get("paths", 0), paths.largest + 1)  # a later call may have asked for fewer
    progress.start("voting", len(paths))
    with (
        questions_by_id(run) as questions,
        replacing(run.votes) as votes,
        shuffled_writer(run.train, config.seed) as train,
        shuffled_writer(run.pairs, config.seed) as pairs,
    ):
        for question_id, group in paths:
            if not (found := questions.get(question_id)):
                hint = "add it, or delete its paths"
                raise LmsiError(f"{run.questions}: question {question_id!r} is not there", hint)
            question = found[0]
            _check_seeds(run, group, sampled.get("seed"))
            watch = BallotWatch(stop)
            for path in group:
                watch.tell(path)
            # missing paths alone do not show it: the run may be unfinished
            stopped = watch.stopped(question_id, asked)
            voted = vote(question_id, group, config.check_equations)
            voted = msgspec.structs.replace(voted, stopped=stopped)
            voted, removed = select(voted, group, config)
            lessons, preferred = taught(task, config, question, group, voted)
            thinking = sum(map(is_cut_thinking, group))
            tally.add(voted, removed, thinking, len({p.chosen_path for p in preferred}))
            votes.write(encode_line(voted))
            train(*lessons)
            pairs(*preferred)
            observer.observe(question, voted, group)
            if tally.sums["questions"] % EVERY == 0:
                progress.advance(tally.sums["questions"])
        progress.advance(tally.sums["questions"])
        if not tally.sums["parsed"]:
            raise _nobody_votes(run, tally.sums)
    return tally


def _check_seeds(run: RunDir, paths: Sequence[Path], seed: int | None) -> None:
    """Refuse paths of another run: a path's seed derives from the run's."""
    for p in (paths[0], paths[-1]):
        if seed is not None and p.seed != path_seed(seed, p.question_id, p.path):
            raise LmsiError(
                f"{run.paths}: path {p.path} of question {p.question_id!r} is "
                f"of another run: its seed does not come from seed {seed}",
                hint="paths of two models or runs cannot vote together: keep a folder for each",
            )


def taught(
    task: Task, config: VoteConfig, question: Question, paths: Sequence[Path], voted: Vote
) -> tuple[list[TrainExample], list[Preference]]:
    """One question's examples, from its kept paths, and its pairs, each in every format."""
    if voted.predicted_answer is None:
        return [], []
    kept = [p for p in paths if p.path in voted.kept]
    formats = formats_of(task, config.formats)
    return (
        examples(task, question, kept, voted.predicted_answer, formats),
        preferences(task, question, choose(voted, paths, config), formats),
    )


def _nobody_votes(run: RunDir, sums: Mapping[str, int]) -> LmsiError:
    return LmsiError(
        f"{run.paths}: none of {sums['paths']} paths can vote: {sums['no_answer']} without an "
        f"answer, {sums['truncated']} cut off, {sums['refuted']} with a false equation",
        hint="sample again with --overwrite and --prompt cot-few or more --max-tokens; "
        "--no-check-equations lets those with a false equation vote",
    )


def check_probe(probe: Sequence[Question], questions: Iterable[Question], where: str) -> None:
    """Refuse a probe with ids that are not among these questions, or there have other words."""
    wanted = {q.id for q in probe}
    known = {q.id: q.question for q in questions if q.id in wanted}
    if missing := [q.id for q in probe if known.get(q.id) != q.question]:
        named = ", ".join(missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
        raise LmsiError(
            f"--probe: {len(missing)} of {len(probe)} questions are not in {where}, or in other "
            f"words: {named}",
            hint="a probe gives right answers to questions that were sampled: "
            "sample them with the others, under the same ids",
        )


def permit(run: RunDir, how: str) -> None:
    """Refuse to train if the verdict is against it; ``how`` is the command that does it anyway."""
    if not run.verdict.exists():
        return
    verdict = read_struct(run.verdict, Verdict, "run `lmsi vote` again")
    if verdict.verdict == STOP:
        raise LmsiError(
            f"{run.root}: the verdict is not to train: {verdict.reasons[0].text}",
            hint=f"{run.verdict} has all figures; `{how}` trains all the same",
        )
