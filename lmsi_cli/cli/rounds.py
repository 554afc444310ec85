"""The rounds of `lmsi run`, one after another: the stages in their order, and the gates between.

Knows which stage comes after which; what a round may do, whether the next one comes and which one
is kept is decided in ``rounds/``, what the files say is read in ``stages/rounds.py``. Each round is
a run folder of its own, the first one the run's, so all of it can be looked at or repeated with the
single commands. What is done already is not done again.

    run_rounds(plan, RunDir("runs/a"), overwrite=False, progress=...)
    -> Outcome(rounds=Rounds(...), results=[Evaluation(...)], asked=480, skipped=0)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from lmsi_cli.catalog import Model
from lmsi_cli.cli.asking import Asking, ask, examined, keep
from lmsi_cli.cli.session import about, identity
from lmsi_cli.cli.train import choose_scale, trained
from lmsi_cli.config import DEFAULT_TASK, EvalConfig, RunConfig, SampleConfig
from lmsi_cli.prompts import Task
from lmsi_cli.records import Progress, Question
from lmsi_cli.rounds.records import Figures, Gate, Round, Rounds, last_good
from lmsi_cli.rounds.settings import Settings, of_round, with_seeds_of
from lmsi_cli.run_folder import RunDir, discard, locked
from lmsi_cli.tasks.loader import load_task

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.engine.engine import LlamaEngine
    from lmsi_cli.report.results import Evaluation
    from lmsi_cli.stages.rounds import Asked
    from lmsi_cli.stages.sample import SampleSummary
    from lmsi_cli.voting import VoteSummary


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
        self.several = plan.options.rounds > 1
        self.book = Rounds(asked=plan.options.rounds, rounds=())
        self.drawn: list[SampleSummary] = []
        self.results: list[Evaluation] = []
        self.asked: Asked | None = None
        self.asking: Asking | None = None

    def round(self, number: int, folder: RunDir) -> Round:
        """One round, with its gates."""
        from lmsi_cli.stages.rounds import told

        teacher = last_good(self.book.rounds)
        start = teacher if self.plan.options.continue_from_last else 0
        settings = self._settings(number, folder, start)
        if self.several:
            self.progress.say(f"round {number} of {self.plan.options.rounds}")
        self._sample(folder, settings, teacher)
        gates = self._vote(number, folder, settings)
        if not any(g.ends for g in gates):
            gates += self._train(number, folder, settings)
        found = told(folder, number, settings, teacher, start)
        if found.trained and self.several:
            found, gates = self._check_up(found, gates)
        return msgspec.structs.replace(found, gates=gates)

    def close(self, done: Round) -> None:
        """Measure what a round has trained, and write down what it came to."""
        from lmsi_cli.stages.rounds import ended_by

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

    def _settings(self, number: int, folder: RunDir, start: int) -> Settings:
        """A round's settings; a folder that an older version began keeps the seeds it had."""
        plain = self.plan.settings
        init = str(self.root.round(start).adapter) if start else ""
        own = of_round(plain, self.plan.options, number, init)
        begun = folder.load_settings().get("sample", {}) if folder.paths.exists() else {}
        older = number > 1 and not self.overwrite and begun.get("seed") == plain.sample.seed
        return with_seeds_of(own, plain) if older else own

    def _sample(self, folder: RunDir, settings: Settings, teacher: int) -> None:
        from lmsi_cli.engine.engine import LlamaEngine
        from lmsi_cli.stages import sample as stage

        plan, config = self.plan, settings.sample
        adapter = str(self.root.round(teacher).adapter_gguf) if teacher else ""
        begun = config if self.overwrite else stage.as_begun(folder, config)
        with LlamaEngine(plan.model.path, begun) as engine:
            stage.put_on(engine, adapter)
            drawn_by = stage.drawn_by(adapter, plan.model.path)
            if self.overwrite:  # only now: a model that does not load must not cost the old run
                self._discard(folder)
            asking = self._asking(folder, config, engine)
            stage.bind(folder, asking.config, {**identity(plan.model, asking), **drawn_by})
            keep(folder, asking)
            drawn = stage.sample(
                plan.questions, engine, asking.task, asking.config, folder, self.progress
            )
        self.drawn.append(drawn)

    def _asking(self, folder: RunDir, config: SampleConfig, engine: LlamaEngine) -> Asking:
        """How questions are asked: as the first round settles it, for all and for measuring."""
        from lmsi_cli.engine.encode import choose

        plan = self.plan
        if self.asking is None:
            choice = choose(config.chat, engine.encoder, config.template_var)
            asked = plan.questions[: config.limit or None]
            known = None if self.overwrite else folder
            self.asking = ask(plan.task, choice, config, asked, known, (engine, self.progress))
            settings = plan.settings._replace(sample=self.asking.config)
            self.plan = plan._replace(task=self.asking.task, settings=settings)
        names = ("prompt", "few_shot", "max_tokens")
        settled = {name: getattr(self.asking.config, name) for name in names}
        return self.asking._replace(config=msgspec.structs.replace(config, **settled))

    def _discard(self, folder: RunDir) -> None:
        """A round goes with all that is of it; the first one with all later ones."""
        if folder.root == self.root.root:
            later = sorted(folder.root.glob("round-*"))
            for old in (folder.checkup, *map(RunDir, later)):
                discard(old)
        discard(folder)

    def _vote(self, number: int, folder: RunDir, settings: Settings) -> tuple[Gate, ...]:
        """The vote and its verdict; the first round's is refused as ever, a later one's ends."""
        from lmsi_cli.report.sections import kept_line, verdict_line
        from lmsi_cli.rounds.gates import voted
        from lmsi_cli.stages.rounds import leave_out
        from lmsi_cli.stages.verdict import conclude, observer_of, permit
        from lmsi_cli.stages.vote import nothing_kept, vote_run

        plan, say = self.plan, self.progress.say
        observer = observer_of(folder, plan.task, plan.probe)
        summary: VoteSummary = vote_run(
            folder, plan.task, settings.vote, plan.excluded, observer.gold, observer,
            self.progress,
        )  # fmt: skip
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
        if nothing is None and (out := leave_out(folder, plan.probe, self.several)):
            say(f"{out} examples of the probe's questions are left out of training")
        gate = voted(verdict)
        passes = plan.force and nothing is None
        return (msgspec.structs.replace(gate, ends=gate.ends and not passes),)

    def _train(self, number: int, folder: RunDir, settings: Settings) -> tuple[Gate, ...]:
        """Training and the choice of a scale; an adapter that was destroyed ends later rounds."""
        from lmsi_cli.rounds.gates import alarmed
        from lmsi_cli.training.validation import DestroyedError, alarming

        plan, progress = self.plan, self.progress
        try:
            result = trained(folder, plan.model.path, plan.task, settings.train, progress)
        except DestroyedError as e:
            if number == 1:
                raise
            return alarmed(str(e))
        choose_scale(folder, plan.model.path, plan.task, settings.train, plan.probe, progress)
        return alarmed(alarming(result.summary.stopped))

    def _check_up(self, found: Round, gates: tuple[Gate, ...]) -> tuple[Round, tuple[Gate, ...]]:
        """Ask base and adapters the same questions, and hold this round against the one before."""
        from lmsi_cli.rounds.gates import Ground, checked
        from lmsi_cli.stages.rounds import trained_on

        seen = self._figures(found)
        if not seen:
            return found, gates
        base, *_, after = seen
        before = seen[-2]
        val_share = self.plan.settings.train.val_share
        pair = {found.number, max((r.number for r in self.book.rounds if r.trained), default=0)}
        trained = [trained_on(self.root.round(n), val_share) for n in pair if n]
        ground = Ground(self.book.by, frozenset().union(*trained), self.plan.task.chance)
        self.book = msgspec.structs.replace(self.book, base=base)
        found = msgspec.structs.replace(found, figures=after)
        return found, (*gates, *checked(before, after, base, ground))

    def _figures(self, found: Round) -> list[Figures]:
        """The check-ups of the base, of every round before with an adapter, and of this one."""
        from lmsi_cli.engine.engine import LlamaEngine
        from lmsi_cli.stages.evaluate import Exam, evaluate, variants_of
        from lmsi_cli.stages.rounds import NAME, figures_of, manner

        questions = self._to_ask()
        if not questions:
            return []
        plan, config = self.plan, manner(self.plan.settings.sample)
        folders = [self.root.round(r.number) for r in (*self.book.rounds, found) if r.trained]
        variants = variants_of(self.root, plan.model.path, rounds=folders)
        exam = Exam(NAME, questions, plan.task, config)
        with LlamaEngine(plan.model.path, config) as engine:
            [result] = evaluate([exam], variants, engine, self.root.checkup, self.progress)
        return list(figures_of(result, self.root.checkup).values())

    def _to_ask(self) -> list[Question]:
        """The questions of the check-ups; chosen once, after the first round."""
        from lmsi_cli.stages.rounds import to_ask

        if self.asked is None:
            plan = self.plan
            val_share = plan.settings.train.val_share
            self.asked = to_ask(self.root, plan.task, plan.probe, val_share)
            questions, by = self.asked
            self.book = msgspec.structs.replace(self.book, by=by, questions=len(questions))
        return self.asked.questions

    def _measure(self, rounds: Sequence[Round]) -> None:
        """All rounds so far on the labelled sets, in the run folder; nothing is asked twice."""
        from lmsi_cli.engine.engine import LlamaEngine
        from lmsi_cli.stages.evaluate import Exam, evaluate, variants_of

        plan = self.plan
        if not plan.exams:
            said = f"nothing measured; lmsi eval {self.root.root} --data FILE does it"
            self.progress.say(said)
            return
        task, config = examination(plan)
        folders = [self.root.round(r.number) for r in rounds if r.trained]
        variants = variants_of(self.root, plan.model.path, scales=plan.eval.scale, rounds=folders)
        exams = [Exam(name, questions, task, config) for name, questions in plan.exams.items()]
        with LlamaEngine(plan.model.path, plan.eval) as engine:
            told = about(plan.model, engine)
            self.results = evaluate(exams, variants, engine, self.root, self.progress, told)

    def _write(self) -> None:
        """Tell of the rounds, and of later ones that an earlier call has made."""
        from lmsi_cli.stages.rounds import concluded, read_rounds, write_rounds

        if not self.several:
            return
        old = None if self.overwrite else read_rounds(self.root)
        number = len(self.book.rounds)
        later = [r for r in old.rounds if r.number > number] if old else []
        whole = msgspec.structs.replace(self.book, rounds=(*self.book.rounds, *later))
        whole = concluded(self.root, whole, self.plan.settings.train.val_share)
        write_rounds(self.root, whole)
        self.book = msgspec.structs.replace(self.book, best=whole.best)


def examination(plan: Plan) -> tuple[Task, EvalConfig]:
    """How the labelled sets are asked, once the first round has settled how questions are."""
    task = plan.task
    if plan.eval.task != DEFAULT_TASK:
        task = msgspec.structs.replace(load_task(plan.eval.task), chat=task.chat)
    return examined(task, plan.settings.sample, plan.eval)
