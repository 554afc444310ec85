"""The rounds of `lmsi run`: sample, vote and train one after another, with gates between.

Knows which stage comes after which; what a round may do, whether the next one comes and which one
is kept is decided in ``rounds/``. Each round is a run folder of its own, the first one the run's,
so all of it can be looked at or repeated with the single commands. What is done already is not
done again. ``rounds.json`` tells of all:

    run_rounds(plan, RunDir("runs/a"), overwrite=False, progress=...)
    -> Outcome(rounds=Rounds(...), results=[Evaluation(...)], asked=480, skipped=0)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.atomic import write_atomic
from lmsi_cli.catalog import Model
from lmsi_cli.config import DEFAULT_TASK, EvalConfig, RunConfig, SampleConfig
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object
from lmsi_cli.prompts import Task
from lmsi_cli.records import Progress, Question
from lmsi_cli.report.results import Evaluation
from lmsi_cli.report.sections import kept_line, verdict_line
from lmsi_cli.rounds.best import best
from lmsi_cli.rounds.gates import Ground, alarmed, checked, voted
from lmsi_cli.rounds.records import Figures, Gate, Round, Rounds, last_good
from lmsi_cli.rounds.settings import Settings, of_round
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.stages import checkup
from lmsi_cli.stages.asking import Asking, examined
from lmsi_cli.stages.evaluate import Exam, evaluate
from lmsi_cli.stages.measure import about, variants_of
from lmsi_cli.stages.pipeline import Job, Old, draw, opened
from lmsi_cli.stages.sample import SampleSummary
from lmsi_cli.stages.train import train_apart
from lmsi_cli.stages.verdict import conclude, observer_of, permit
from lmsi_cli.stages.vote import nothing_kept, vote_run
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.training.validation import DestroyedError, alarming
from lmsi_cli.voting import VoteSummary

SETTLED = ("prompt", "few_shot", "max_tokens")  # by the first round, for all of them


class Plan(NamedTuple):
    """What every stage needs; ``exams`` are labelled sets by name.

    ``settings`` are those of the first round. Questions of the ``excluded`` sets must not be
    trained on. The ``probe`` serves the verdict and, of several rounds, decides which is kept.
    """

    model: Model
    task: Task
    options: RunConfig
    settings: Settings
    eval: EvalConfig
    questions: Sequence[Question]
    exams: dict[str, Sequence[Question]]
    excluded: dict[str, Sequence[Question]]
    probe: Sequence[Question]
    force: bool

    @property
    def several(self) -> bool:
        """Whether there is more than one round."""
        return self.options.rounds > 1


class Outcome(NamedTuple):
    """The rounds, the last measurement of them all, and how many questions were left out."""

    rounds: Rounds
    results: list[Evaluation]
    asked: int
    skipped: int


def run_rounds(plan: Plan, root: RunDir, overwrite: bool, progress: Progress) -> Outcome:
    """Do every round that is asked for, or as many as the gates let through.

    Args:
        plan: What to do.
        root: The run folder, that of the first round.
        overwrite: Discard what the folder holds, later rounds included.
        progress: Is told of everything.

    Raises:
        LmsiError: As the stages; of the first round also where its verdict is not to train.
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
    return loop.outcome()


class _Loop:
    """Goes from round to round; ``book`` is what is known of them."""

    def __init__(self, plan: Plan, root: RunDir, overwrite: bool, progress: Progress) -> None:
        self.plan, self.root, self.overwrite, self.progress = plan, root, overwrite, progress
        self.book = Rounds(asked=plan.options.rounds, rounds=())
        self.drawn: list[SampleSummary] = []
        self.results: list[Evaluation] = []
        self.asked: checkup.Asked | None = None
        self.asking: Asking | None = None

    def round(self, number: int, folder: RunDir) -> Round:
        """One round, with its gates."""
        teacher = last_good(self.book.rounds)
        start = teacher if self.plan.options.continue_from_last else 0
        init = str(self.root.round(start).adapter) if start else ""
        settings = of_round(self.plan.settings, self.plan.options, number, init)
        if self.plan.several:
            self.progress.say(f"round {number} of {self.plan.options.rounds}")
        self._sample(folder, settings.sample, teacher)
        gates = self._vote(number, folder, settings)
        if not any(g.ends for g in gates):
            gates += self._train(number, folder, settings)
        found = read_round(folder, number, settings, teacher, start)
        if found.trained and self.plan.several:
            found, gates = self._check_up(found, gates)
        return msgspec.structs.replace(found, gates=gates)

    def close(self, done: Round) -> None:
        """Measure what a round has trained, and write down what it came to."""
        rounds = (*self.book.rounds, done)
        # --force goes on past every gate, but what has no adapter leads nowhere
        end = "" if self.plan.force and done.trained else ended_by(done.number, done.gates)
        last = done.number == self.plan.options.rounds and done.trained
        self.book = msgspec.structs.replace(self.book, rounds=rounds, ended="" if last else end)
        if done.trained:
            self._measure(rounds)
        self._write()
        if self.book.ended:
            self.progress.say(f"the rounds end here: {self.book.ended}")

    def outcome(self) -> Outcome:
        """What all rounds came to."""
        asked = sum(d.questions for d in self.drawn) + sum(e.n for e in self.results)
        skipped = [d.skipped for d in self.drawn] + [e.skipped for e in self.results]
        return Outcome(self.book, self.results, asked, sum(map(len, skipped)))

    def _sample(self, folder: RunDir, config: SampleConfig, teacher: int) -> None:
        """Draw the paths; the first round settles how questions are asked, for all of them."""
        plan = self.plan
        adapter = str(self.root.round(teacher).adapter_gguf) if teacher else ""
        config = msgspec.structs.replace(config, adapter=adapter)
        asking = self.asking and self.asking._replace(config=_as_settled(config, self.asking))
        job = Job(plan.model, plan.task, config, plan.questions)
        old: Old = "discarded" if self.overwrite else "kept"
        with opened(job, folder, self.progress, old, asking=asking) as drawing:
            if self.asking is None:
                self._settle(drawing.asking)
            self.drawn.append(draw(drawing, plan.questions, folder, self.progress))

    def _settle(self, asking: Asking) -> None:
        """Ask as in the first round from here on, and measure so."""
        self.asking = asking
        settings = self.plan.settings._replace(sample=asking.config)
        self.plan = self.plan._replace(task=asking.task, settings=settings)

    def _vote(self, number: int, folder: RunDir, settings: Settings) -> tuple[Gate, ...]:
        """The vote and its verdict; the first round's is refused as ever, a later one's ends."""
        plan, say = self.plan, self.progress.say
        observer = observer_of(folder, plan.task, plan.probe)
        summary = vote_run(folder, plan.task, settings.vote, plan.excluded, observer, self.progress)
        verdict = conclude(folder, observer)
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
        gate = voted(verdict)
        passes = plan.force and nothing is None
        return (msgspec.structs.replace(gate, ends=gate.ends and not passes),)

    def _train(self, number: int, folder: RunDir, settings: Settings) -> tuple[Gate, ...]:
        """Training; an adapter that was destroyed ends later rounds."""
        plan, progress = self.plan, self.progress
        try:
            result = train_apart(folder, plan.model.path, plan.task, settings.train, progress)
        except DestroyedError as e:
            if number == 1:
                raise
            return alarmed(str(e))
        return alarmed(alarming(result.summary.stopped))

    def _check_up(self, found: Round, gates: tuple[Gate, ...]) -> tuple[Round, tuple[Gate, ...]]:
        """Ask base and adapters the same questions, and hold this round against the one before."""
        seen = self._figures(found)
        if not seen:
            return found, gates
        base, *_, after = seen
        before = seen[-2]
        val_share = self.plan.settings.train.val_share
        pair = {found.number, max((r.number for r in self.book.rounds if r.trained), default=0)}
        trained = [checkup.trained_on(self.root.round(n), val_share) for n in pair if n]
        ground = Ground(self.book.by, frozenset().union(*trained), self.plan.task.chance)
        self.book = msgspec.structs.replace(self.book, base=base)
        found = msgspec.structs.replace(found, figures=after)
        return found, (*gates, *checked(before, after, base, ground))

    def _figures(self, found: Round) -> list[Figures]:
        """The check-ups of the base, of every round before with an adapter, and of this one."""
        questions = self._to_ask()
        if not questions:
            return []
        config = checkup.manner(self.plan.settings.sample)
        rounds, folder = (*self.book.rounds, found), self.root.checkup
        exam = Exam(checkup.NAME, questions, self.plan.task, config)
        [result] = self._evaluated([exam], rounds, config, folder)
        return list(checkup.figures_of(result, folder).values())

    def _to_ask(self) -> list[Question]:
        """The questions of the check-ups; chosen once, after the first round."""
        if self.asked is None:
            plan = self.plan
            val_share = plan.settings.train.val_share
            self.asked = checkup.to_ask(self.root, plan.task, plan.probe, val_share)
            questions, by = self.asked
            self.book = msgspec.structs.replace(self.book, by=by, questions=len(questions))
        return self.asked.questions

    def _measure(self, rounds: Sequence[Round]) -> None:
        """All rounds so far on the labelled sets, in the run folder; nothing is asked twice."""
        plan = self.plan
        if not plan.exams:
            said = f"nothing measured; lmsi eval {self.root.root} --data FILE does it"
            self.progress.say(said)
            return
        task, config = examination(plan)
        exams = [Exam(name, questions, task, config) for name, questions in plan.exams.items()]
        self.results = self._evaluated(exams, rounds, plan.eval, self.root)

    def _evaluated(
        self, exams: Sequence[Exam], rounds: Sequence[Round], config: EvalConfig, folder: RunDir
    ) -> list[Evaluation]:
        """Ask the base and the rounds' adapters; the results go into a folder."""
        model = self.plan.model
        folders = [self.root.round(r.number) for r in rounds if r.trained]
        variants = variants_of(self.root, model.path, scales=config.scale, rounds=folders)
        with LlamaEngine(model.path, config) as engine:
            told = about(model, engine)
            return evaluate(exams, variants, engine, folder, self.progress, told)

    def _write(self) -> None:
        """Tell of the rounds, and of later ones that an earlier call has made."""
        if not self.plan.several:
            return
        old = None if self.overwrite else read_rounds(self.root)
        number = len(self.book.rounds)
        later = [r for r in old.rounds if r.number > number] if old else []
        whole = msgspec.structs.replace(self.book, rounds=(*self.book.rounds, *later))
        whole = concluded(self.root, whole, self.plan.settings.train.val_share)
        write_atomic(self.root.rounds, msgspec.json.format(msgspec.json.encode(whole)))
        self.book = msgspec.structs.replace(self.book, best=whole.best)


def _as_settled(config: SampleConfig, asking: Asking) -> SampleConfig:
    settled = {name: getattr(asking.config, name) for name in SETTLED}
    return msgspec.structs.replace(config, **settled)


def examination(plan: Plan) -> tuple[Task, EvalConfig]:
    """How the labelled sets are asked, once the first round has settled how questions are."""
    task = plan.task
    if plan.eval.task != DEFAULT_TASK:
        task = msgspec.structs.replace(load_task(plan.eval.task), chat=task.chat)
    return examined(task, plan.settings.sample, plan.eval)


def read_rounds(run: RunDir) -> Rounds | None:
    """What is told of a run's rounds; None if it had only one.

    Raises:
        LmsiError: The file is of another version.
    """
    if not run.rounds.exists():
        return None
    try:
        return msgspec.convert(read_object(run.rounds), Rounds)
    except msgspec.ValidationError as e:
        raise LmsiError(f"{run.rounds}: {e}", hint="run `lmsi run` again") from None


def concluded(run: RunDir, rounds: Rounds, val_share: float) -> Rounds:
    """Add which round is kept."""
    trained = {r.number: checkup.trained_on(run.round(r.number), val_share) for r in rounds.rounds}
    return msgspec.structs.replace(rounds, best=best(rounds.rounds, trained, rounds.by))


def read_round(
    folder: RunDir, number: int, settings: Settings, drawn_by: int, started_from: int
) -> Round:
    """What a round's files say of it, as far as it has come.

    Args:
        folder: Voted on; trained or not.
        number: Of the round.
        settings: It was sampled and trained with.
        drawn_by: The round whose adapter drew its paths; 0: the base.
        started_from: The round whose weights its training began with; 0: the base.
    """
    votes = msgspec.convert(read_object(folder.vote_summary), VoteSummary)
    return Round(
        number=number,
        folder="." if number == 1 else folder.root.name,
        temperature=settings.sample.temperature,
        seed=settings.sample.seed,
        drawn_by=drawn_by,
        started_from=started_from,
        verdict=read_object(folder.verdict)["verdict"],
        questions=votes.questions,
        kept_questions=votes.kept_questions,
        kept_paths=votes.kept_paths,
        mean_share=votes.mean_share,
        **_trained(folder),
    )


def _trained(folder: RunDir) -> dict[str, Any]:
    """What is told of a finished adapter."""
    if not folder.adapter_origin.exists():
        return {"trained": False}
    summary = read_object(folder.adapter_origin)["result"]["summary"]
    return {
        "trained": True,
        "first_loss": summary["first_loss"],
        "final_loss": summary["final_loss"],
        "stopped": summary.get("stopped", ""),
    }


def ended_by(number: int, gates: Sequence[Gate]) -> str:
    """Why the rounds end after this one; empty if they go on."""
    return next((f"round {number}: {g.text}" for g in gates if g.ends), "")
