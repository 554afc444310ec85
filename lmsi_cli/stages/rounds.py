"""The rounds of `lmsi run`: sample, vote and train one after another, with gates between.

Knows the order of the stages; ``lmsi_cli/rounds.py`` decides whether a round may go on, whether the
next one comes and which one is kept. Each round has a run folder, the first one the run's own, so
any stage can be inspected or repeated with its own command. Finished work is not repeated.
``rounds.json`` records all rounds:

    run_rounds(plan, RunDir("runs/a"), overwrite=False, progress=...)
    -> Outcome(rounds=Rounds(...), results=[Evaluation(...)], asked=480, skipped=0)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import NamedTuple

import msgspec

from lmsi_cli import rounds as rules
from lmsi_cli.catalog import Model
from lmsi_cli.config import DEFAULT_TASK, EvalConfig, RunConfig, SampleConfig
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.jsonl import read_struct, write_struct
from lmsi_cli.prompts import Task
from lmsi_cli.records import Progress, Question
from lmsi_cli.reporting.results import Evaluation, answers_of
from lmsi_cli.reporting.sections import kept_line, verdict_line
from lmsi_cli.rounds import By, Gate, Round, Rounds
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.settings import Settings, of_round
from lmsi_cli.stages import checkup
from lmsi_cli.stages.asking import Asking, examined
from lmsi_cli.stages.evaluate import Exam, evaluate
from lmsi_cli.stages.measure import about, candidates_of
from lmsi_cli.stages.pipeline import Job, opened
from lmsi_cli.stages.sample import SampleSummary
from lmsi_cli.stages.train import finished, train_apart
from lmsi_cli.stages.vote import nothing_kept, permit, vote_run
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.training.validation import DestroyedError, alarming
from lmsi_cli.verdict.rules import Verdict
from lmsi_cli.voting.selection import VoteSummary


class Plan(NamedTuple):
    """What every stage needs; ``exams`` are labelled sets by name.

    ``settings`` are those of the first round. Unless ``force`` is given, questions of the exams
    must not be trained on, and a gate ends the rounds. The ``probe`` serves the verdict and, with
    several rounds, decides which one is kept.
    """

    model: Model
    task: Task
    options: RunConfig
    settings: Settings
    eval: EvalConfig
    questions: Sequence[Question]
    exams: dict[str, Sequence[Question]]
    probe: Sequence[Question]
    force: bool = False

    @property
    def excluded(self) -> dict[str, Sequence[Question]]:
        """Sets whose questions must not be trained on."""
        return {} if self.force else self.exams

    @property
    def several(self) -> bool:
        """Whether there is more than one round."""
        return self.options.rounds > 1


class Outcome(NamedTuple):
    """The rounds, their last evaluations, and counts of questions asked and skipped."""

    rounds: Rounds
    results: list[Evaluation]
    asked: int
    skipped: int


def run_rounds(plan: Plan, root: RunDir, overwrite: bool, progress: Progress) -> Outcome:
    """Do every round that is asked for, or as many as the gates let through.

    ``root`` is the run folder and that of the first round; ``overwrite`` discards its contents,
    later rounds included. LmsiError as the stages; also if the first round's verdict is not to
    train.
    """
    loop = _Loop(plan, root, overwrite, progress)
    with locked(root):
        for number in range(1, plan.options.rounds + 1):
            folder = root.round(number)
            with locked(folder) if number > 1 else nullcontext():
                done = loop.round(number, folder)
            loop.close(done)
            if loop.book.ended:
                break
    skipped = [len(d.skipped) for d in loop.drawn] + [len(e.skipped) for e in loop.results]
    asked = sum(d.questions for d in loop.drawn) + sum(e.n for e in loop.results)
    return Outcome(loop.book, loop.results, asked, sum(skipped))


class _Loop:
    """Does one round after another; ``book`` records them."""

    def __init__(self, plan: Plan, root: RunDir, overwrite: bool, progress: Progress) -> None:
        self.plan, self.root, self.overwrite, self.progress = plan, root, overwrite, progress
        self.book = Rounds(asked=plan.options.rounds, rounds=())
        self.drawn: list[SampleSummary] = []
        self.results: list[Evaluation] = []
        self.asking: Asking | None = None

    def round(self, number: int, folder: RunDir) -> Round:
        """Do one round and collect its gates."""
        teacher = rules.last_good(self.book.rounds)
        start = teacher if self.plan.options.continue_from_last else 0
        init = str(self.root.round(start).adapter) if start else ""
        settings = of_round(self.plan.settings, self.plan.options, number, init)
        if self.plan.several:
            self.progress.say(f"round {number} of {self.plan.options.rounds}")
        self._sample(folder, settings.sample, teacher)
        gates = self._vote(number, folder, settings)
        if not any(g.ends for g in gates):
            gates += self._train(number, folder, settings)
        votes = read_struct(folder.vote_summary, VoteSummary)
        training = finished(folder).summary if folder.adapter_origin.exists() else None
        found = Round(
            number=number,
            folder="." if number == 1 else folder.root.name,
            temperature=settings.sample.temperature,
            drawn_by=teacher,
            started_from=start,
            verdict=read_struct(folder.verdict, Verdict).verdict,
            kept_questions=votes.kept_questions,
            kept_paths=votes.kept_paths,
            mean_share=votes.mean_share,
            trained=training is not None,
            first_loss=training.first_loss if training else None,
            final_loss=training.final_loss if training else None,
            gates=gates,
        )
        return self._checked_up(found) if found.trained and self.plan.several else found

    def close(self, done: Round) -> None:
        """Measure a round's adapter and record the round."""
        rounds = (*self.book.rounds, done)
        end = next((f"round {done.number}: {g.text}" for g in done.gates if g.ends), "")
        # --force passes every gate, but a round without an adapter ends the rounds
        last = done.number == self.plan.options.rounds or self.plan.force
        ended = "" if last and done.trained else end
        self.book = msgspec.structs.replace(self.book, rounds=rounds, ended=ended)
        if done.trained:
            self._measure()
        if self.plan.several:
            self._write()
        if ended:
            self.progress.say(f"the rounds end here: {ended}")

    def _sample(self, folder: RunDir, config: SampleConfig, teacher: int) -> None:
        """Draw the paths; the first round settles how questions are asked in all rounds."""
        plan = self.plan
        adapter = str(self.root.round(teacher).adapter_gguf) if teacher else ""
        config = msgspec.structs.replace(config, adapter=adapter)
        asking = self.asking._replace(config=config) if self.asking else None
        job = Job(plan.model, plan.task, config, plan.questions)
        with opened(job, folder, self.progress, self.overwrite, asking=asking) as drawing:
            if self.asking is None:
                self.asking = drawing.asking
                settings = plan.settings._replace(sample=drawing.asking.config)
                self.plan = plan._replace(task=drawing.asking.task, settings=settings)
            self.drawn.append(drawing.draw(plan.questions))

    def _vote(self, number: int, folder: RunDir, settings: Settings) -> tuple[Gate, ...]:
        """Vote; a verdict against training is an error in the first round, and ends later ones."""
        plan, say = self.plan, self.progress.say
        summary, verdict = vote_run(
            folder, plan.task, settings.vote, self.progress, plan.excluded, plan.probe
        )
        for line in (kept_line(summary), *(f"warning: {w}" for w in summary.warnings)):
            say(line)
        say(verdict_line(verdict))
        nothing = nothing_kept(folder, summary)
        if number == 1:
            if nothing:
                raise nothing
            if not plan.force:
                permit(folder, "lmsi run ... --force")
        if nothing is None and (out := checkup.leave_out(folder, plan.probe, plan.several)):
            say(f"{out} examples of the probe's questions are left out of training")
        gate = rules.voted(verdict)
        passes = plan.force and nothing is None
        return (msgspec.structs.replace(gate, ends=gate.ends and not passes),)

    def _train(self, number: int, folder: RunDir, settings: Settings) -> tuple[Gate, ...]:
        """Train; a destroyed adapter is an error in the first round, and ends later ones."""
        plan = self.plan
        try:
            result = train_apart(folder, plan.model.path, plan.task, settings.train, self.progress)
        except DestroyedError as e:
            if number == 1:
                raise
            return rules.alarmed(str(e))
        return rules.alarmed(alarming(result.summary.stopped))

    @cached_property
    def asked(self) -> tuple[list[Question], By]:
        """The questions of all check-ups, chosen after the first round."""
        plan = self.plan
        return checkup.to_ask(self.root, plan.task, plan.probe, plan.settings.train.val_share)

    def _checked_up(self, found: Round) -> Round:
        """Ask base and adapters the same questions, and compare this round with the one before."""
        questions, by = self.asked
        if not questions:
            return found
        config = checkup.manner(self.plan.settings.sample)
        exam = Exam(checkup.NAME, questions, self.plan.task, config)
        [result] = self._evaluated([exam], (*self.book.rounds, found), config, self.root.checkup)
        folder = self.root.checkup.eval_dir
        figures = [
            checkup.figures(v.model, answers_of(v, folder), result.gold) for v in result.mains
        ]
        last = max((r.number for r in self.book.rounds if r.trained), default=0)
        trained = self._trained_on(found.number) | self._trained_on(last)
        self.book = msgspec.structs.replace(
            self.book, by=by, questions=len(questions), base=figures[0]
        )
        gates = (*found.gates, *rules.checked(figures, by, trained, self.plan.task.chance))
        return msgspec.structs.replace(found, figures=figures[-1], gates=gates)

    def _trained_on(self, number: int) -> frozenset[str]:
        """Ids of the questions that a round was trained on; none for round 0, the base."""
        val_share = self.plan.settings.train.val_share
        return checkup.trained_on(self.root.round(number), val_share) if number else frozenset()

    def _measure(self) -> None:
        """Measure all rounds so far on the labelled sets, in the run folder; asks nothing twice."""
        plan = self.plan
        if not plan.exams:
            folder = self.root.typed
            self.progress.say(f"nothing measured; lmsi eval {folder} --data FILE does it")
            return
        task, config = examination(plan)
        exams = [Exam(name, questions, task, config) for name, questions in plan.exams.items()]
        self.results = self._evaluated(exams, self.book.rounds, plan.eval, self.root)

    def _evaluated(
        self, exams: Sequence[Exam], rounds: Sequence[Round], config: EvalConfig, folder: RunDir
    ) -> list[Evaluation]:
        """Evaluate the base and the rounds' adapters; the results go into ``folder``."""
        model = self.plan.model
        folders = [self.root.round(r.number) for r in rounds if r.trained]
        candidates = candidates_of(self.root, model.path, scales=config.scale, rounds=folders)
        with LlamaEngine(model.path, config) as engine:
            record = about(model, engine)
            return evaluate(exams, candidates, engine, folder, self.progress, record)

    def _write(self) -> None:
        """Record all rounds, later ones of an earlier call included, and which one is kept."""
        old = None if self.overwrite else rules.read_rounds(self.root)
        made = len(self.book.rounds)
        rounds = (*self.book.rounds, *(r for r in (old.rounds if old else ()) if r.number > made))
        seen = {r.number: self._trained_on(r.number) for r in rounds}
        kept = rules.best(rounds, seen, self.book.by)
        self.book = msgspec.structs.replace(self.book, best=kept)
        write_struct(self.root.rounds, msgspec.structs.replace(self.book, rounds=rounds))


def examination(plan: Plan) -> tuple[Task, EvalConfig]:
    """How the labelled sets are asked, in the form that the first round settled."""
    task = plan.task
    if plan.eval.task != DEFAULT_TASK:
        task = msgspec.structs.replace(load_task(plan.eval.task), chat=task.chat)
    return examined(task, plan.settings.sample, plan.eval)
