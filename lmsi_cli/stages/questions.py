"""Questions from a model's own pen: seed questions in, new ones with confident votes out.

Knows the order of work and what makes two generations the same; what is a question is decided in
``generation/``, and the paths are drawn by a function that the command supplies (``lmsi sample``'s
stage), so that the folder is an ordinary run folder. One line of ``generated.jsonl``:

    {"id": "gen-38dc46698984", "question": "Tom has 3 pens and buys 4. How many has he now?"}

The work goes in turns: as many drafts as may be needed, their candidates in the order of the
drafts, paths for as many of them as questions are still wanted. Each turn follows from the files
alone, and draws only what they lack: an interrupted call takes the same course again, and goes on.
So the questions are the first confident candidates, however the work was cut up.
"""

from __future__ import annotations

import hashlib
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import EngineConfig, QuestionsConfig, VoteConfig
from lmsi_cli.engine.base import Engine, Request, Wanted, path_seed
from lmsi_cli.engine.context_check import split
from lmsi_cli.errors import LmsiError
from lmsi_cli.generation.drafts import Draft, draft_prompt
from lmsi_cli.generation.filters import Sieve
from lmsi_cli.generation.summary import (
    Ended,
    Generation,
    Selected,
    alarms,
    answers,
    choose,
    to_seeds,
    variety,
    votes_needed,
)
from lmsi_cli.jsonl import appender, read_records, write_records
from lmsi_cli.prompts import Task
from lmsi_cli.records import Path, Progress, Question, Vote
from lmsi_cli.resume import check_same
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages import pipeline
from lmsi_cli.voting.ballots import vote

SHOTS = 4  # seed questions in a prompt, as in ScPO; variety hardly depends on it (docs/methods.md)
DRAFTS = 4  # from each prompt
EFFORT = 10  # drafts at most for each question to keep; the embedded model needs two
FEWEST = 32  # drafts of a turn: a batch for the engine, and enough to tell that none is new
LOWEST_YIELD = 0.1  # candidates a draft, as the next turn is planned
# These change how much is made and what is kept of it, never what a draft says.
FREE = {*EngineConfig.__struct_fields__, "number", "paths", "min_share", "llama_cpp_python", "lmsi"}
GROWING = ("number", "paths")
SECTION = "questions"  # of run.toml
Draw = Callable[[Sequence[Question]], object]


def pick_seeds(questions: Sequence[Question], config: QuestionsConfig, name: str) -> list[Question]:
    """Choose the seed questions by the seed of the run; nothing else of the file is used."""
    if len(questions) < config.seeds:
        message = f"{name}: {len(questions)} questions, and --seeds asks for {config.seeds}"
        raise LmsiError(message, hint=f"--seeds {len(questions)} takes all of them")
    chosen = _shuffled(questions, config.seed, "seeds")[: config.seeds]
    return [Question(id=q.id, question=q.question) for q in chosen]


def bind(run: RunDir, config: QuestionsConfig, identity: Mapping[str, Any]) -> QuestionsConfig:
    """Tie the folder to these settings, or refuse if it holds other drafts or another run's paths.

    More questions or paths extend what is there; fewer take nothing away: the settings that are
    returned have the most that were ever asked for. ``identity`` has names and hashes of model,
    task and seed questions, and versions. LmsiError: the folder belongs to others; says why.
    """
    now = {**msgspec.to_builtins(config), **identity}
    if run.drafts.exists() and run.drafts.stat().st_size:
        saved = run.load_settings().get(SECTION, {})
        now |= {name: max(now[name], saved.get(name, 0)) for name in GROWING}
        check_same(saved, now, f"the drafts in {run.root}", FREE)
    elif run.has_paths():
        hint = "generated questions need a folder of their own"
        raise LmsiError(f"{run.root}: holds the paths of other questions", hint)
    run.save_settings(SECTION, now)
    return msgspec.structs.replace(config, **{name: now[name] for name in GROWING})


def make_questions(  # noqa: PLR0913 - what to write, from what, and where
    job: pipeline.Job,
    config: QuestionsConfig,
    exams: Mapping[str, Sequence[Question]],
    source: str,
    run: RunDir,
    progress: Progress,
    overwrite: bool = False,
) -> Generation:
    """Let a model write questions in a run folder, and vote on them.

    The job's questions are the seeds, of the file ``source``; ``exams`` must not be asked, by the
    name of their file. The caller holds the folder (``locked``); ``overwrite`` discards what it
    holds, once the model has been loaded.

    LmsiError as ``pipeline.opened``, ``bind`` and ``Desk.generate``.
    """
    seeds = job.questions
    old: pipeline.Old = "discarded" if overwrite else "kept"
    with pipeline.opened(job, run, progress, old, trial=False) as drawing:
        origin = {
            "seed_questions_file": source,
            "seed_questions_sha256": hashlib.sha256(msgspec.json.encode(seeds)).hexdigest(),
            "exclude": sorted(pathlib.Path(file).name for file in exams),
        }
        config = bind(run, config, {**drawing.identity, **origin})
        settings = msgspec.structs.replace(drawing.asking.config, paths=config.paths)
        drawing = drawing._replace(asking=drawing.asking._replace(config=settings))
        draw = partial(pipeline.draw, drawing, run=run, progress=progress)
        task = drawing.asking.task
        desk = Desk(seeds, exams, drawing.engine, task, config, run, draw, progress)
        return desk.generate()


def nothing_kept(run: RunDir, found: Generation) -> LmsiError | None:
    """Say why there is no question at all; ``None`` if there is one."""
    if found.kept:
        return None
    reasons = {**found.dropped, **found.rejected}
    most = max(reasons, key=lambda name: reasons[name])
    hint = "another model, other seeds, or another --temperature"
    if found.sampled:
        hint = "--min-share lower than it is, or questions that the model can answer"
    return LmsiError(
        f"{run.root}: no question was kept of {found.drafts} drafts; most often "
        f"({reasons[most]}): {most}",
        hint=hint,
    )


@dataclass
class Desk:
    """What is written and voted on so far.

    ``taken`` counts the prompts whose drafts went through the sieve, ``votes`` is in the order of
    the candidates. ``exams`` must not be asked, ``draw`` samples the paths of some questions.
    """

    seeds: Sequence[Question]
    exams: Mapping[str, Sequence[Question]]
    engine: Engine
    task: Task
    config: QuestionsConfig
    run: RunDir
    draw: Draw
    progress: Progress
    taken: int = 0
    new: int = 0
    tokens: int = 0
    too_long: int = 0

    def __post_init__(self) -> None:
        self.sieve = Sieve(self.seeds, self.exams, self.task)
        there = read_records(self.run.drafts, Draft) if self.run.drafts.exists() else ()
        self.drafts = {(d.prompt, d.path): d for d in there}
        self.votes: dict[str, Vote] = {}
        # prompts at most: what the effort allows, one turn in any case
        self.most = math.ceil(max(EFFORT * self.config.number, FEWEST) / DRAFTS)

    def generate(self) -> Generation:
        """Write, sift and vote until enough questions are kept, or no more are to be had."""
        begun, run = time.monotonic(), self.run
        write_records(run.seeds, self.seeds)
        ended = self._work()
        kept = set(self._selected().kept)
        questions = [q for q in self.sieve.candidates if q.id in kept]
        write_records(run.generated, questions)
        found = self._report(questions, ended, time.monotonic() - begun)
        text = msgspec.json.format(msgspec.json.encode(found, order="sorted"))
        write_atomic(run.generation, text)
        return found

    def _work(self) -> Ended:
        """Take turns; returns why they ended."""
        while (need := self.config.number - len(self._selected().kept)) > 0:
            waiting = self.sieve.candidates[len(self.votes) :]
            if waiting:
                self._vote_on(waiting[:need])
            elif self.taken >= self.most:
                return "effort"
            elif not self._draft(need):
                return "no new questions"
        return "enough"

    def _selected(self) -> Selected:
        """The questions whose votes are confident, so far."""
        return choose(self.votes.values(), self.config.min_share)

    def _vote_on(self, questions: Sequence[Question]) -> None:
        """Draw the paths of some candidates and hold their votes."""
        self.draw(questions)
        wanted = {q.id: list[Path]() for q in questions}
        for path in read_records(self.run.paths, Path):
            if path.question_id in wanted:
                wanted[path.question_id].append(path)
        for question_id, paths in wanted.items():
            self.votes[question_id] = vote(question_id, paths, VoteConfig().check_equations)

    def _draft(self, need: int) -> int:
        """Take one turn of drafts; returns how many new candidates it brought."""
        before = len(self.sieve.candidates)
        share = before / self.sieve.taken if self.sieve.taken else 1.0
        drafts = max(FEWEST, need / max(share, LOWEST_YIELD))
        first = self.taken
        self.taken = min(first + math.ceil(drafts / DRAFTS), self.most)
        turn = range(first, self.taken)
        self._write(turn)
        for key in sorted(k for k in self.drafts if k[0] in turn):
            self.sieve.take(self.drafts[key])
        return len(self.sieve.candidates) - before

    def _write(self, turn: range) -> None:
        """Draw the drafts of some prompts that are not on the disk yet.

        Prompts that do not fit the context are left out: some seeds may be long.
        """
        shown = {
            number: _shuffled(self.seeds, self.config.seed, f"prompt {number}")[:SHOTS]
            for number in turn
        }
        requests = [self._request(number, seeds) for number, seeds in shown.items()]
        context = self.engine.info.context
        room = min(context, self.config.ctx or context)
        found = split(requests, self.config.max_tokens, room)
        if found.skipped and not found.fitting:
            raise LmsiError(
                f"a prompt of {min(SHOTS, len(self.seeds))} seed questions has "
                f"{min(len(r.prompt) for r in requests)} tokens or more; with "
                f"{self.config.max_tokens} for the new one it does not fit the model's context of "
                f"{room}",
                hint="lower `--set max_tokens`, or take shorter seeds",
            )
        self.too_long += len(found.skipped)
        if not (asked := sum(len(r.wanted) for r in found.fitting)):
            return
        begun = time.monotonic()
        self.progress.start("writing questions", asked)
        with appender(self.run.drafts, Draft) as lines:
            texts = self.engine.generate(found.fitting, self.config, self.task.trigger)
            for done, text in enumerate(texts, 1):
                number = int(text.question_id)
                draft = Draft(
                    prompt=number,
                    path=text.path,
                    seed=text.seed,
                    shown=tuple(q.id for q in shown[number]),
                    text=text.text,
                    num_generated_tokens=text.tokens,
                    stop_reason=text.stop_reason,
                )
                lines.write(draft)
                self.drafts[number, text.path] = draft
                self.new += 1
                self.tokens += text.tokens
                pace = done / max(time.monotonic() - begun, 1e-9)
                self.progress.advance(done, drafts_s=pace)

    def _request(self, number: int, seeds: Sequence[Question]) -> Request:
        wanted = tuple(
            Wanted(path, path_seed(self.config.seed, f"prompt {number}", path))
            for path in range(DRAFTS)
            if (number, path) not in self.drafts
        )
        prompt = draft_prompt([q.question for q in seeds], self.task.chat)
        encoded = self.engine.encode_prompt(prompt, self.task.variables)
        return Request(str(number), tuple(encoded.ids), wanted, begun=encoded.begun)

    def _report(self, questions: Sequence[Question], ended: Ended, seconds: float) -> Generation:
        """Measure what was made."""
        config, sieve, votes = self.config, self.sieve, self.votes
        texts, seeds = [q.question for q in questions], [q.question for q in self.seeds]
        own = variety(seeds, len(seeds))
        assert own is not None  # there is a seed
        shares = [v.share_of_all for v in votes.values()]
        found = Generation(
            wanted=config.number,
            kept=len(questions),
            ended=ended,
            seeds=len(seeds),
            drafts=sieve.taken,
            new_drafts=self.new,
            dropped=dict(sieve.dropped.most_common()),
            candidates=len(sieve.candidates),
            sampled=len(votes),
            waiting=len(sieve.candidates) - len(votes),
            rejected=self._selected().rejected,
            prompts_too_long=self.too_long,
            paths=config.paths,
            min_share=config.min_share,
            min_votes=votes_needed(config.paths, config.min_share),
            mean_share=sum(shares) / len(shares) if shares else 0.0,
            tokens=self.tokens,
            seconds=seconds,
            seed_variety=own,
            variety=variety(texts, len(seeds)),
            to_seeds=to_seeds(texts, seeds),
            answers=answers([str(votes[q.id].predicted_answer) for q in questions]),
        )
        warnings = tuple(alarms(found, self.task.chance or 0.0))
        return msgspec.structs.replace(found, warnings=warnings)


def _shuffled(questions: Sequence[Question], seed: int, name: str) -> list[Question]:
    """An order that depends on (seed, name) and on nothing else, in any version of Python."""
    numbers = sorted(range(len(questions)), key=lambda i: path_seed(seed, name, i))
    return [questions[i] for i in numbers]
