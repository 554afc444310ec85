"""Questions that a model writes: seed questions in, new ones with confident votes out.

Knows the order of work and which settings make two generations the same. ``generation.py`` decides
what is a question. Paths are drawn as by ``lmsi sample``, so the folder is an ordinary run folder.
One line of ``generated.jsonl``:

    {"id": "gen-38dc46698984", "question": "Tom has 3 pens and buys 4. How many has he now?"}

The work goes in turns: draw as many drafts as may be needed, take their candidates in the order of
the drafts, and draw paths for as many of them as questions are still wanted. Each turn follows from
the files alone and draws only what they lack, so an interrupted call resumes on the same course.
The questions are the first confident candidates, however often it was interrupted. Confidence is
the winner's share of all paths (V(y)/k in Prasad et al. 2024, arXiv 2411.04109): paths without an
answer, cut off or with a false equation count against it.
"""

from __future__ import annotations

import hashlib
import math
import pathlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

import msgspec

from lmsi_cli.config import EngineConfig, QuestionsConfig, VoteConfig
from lmsi_cli.engine.base import Request, Wanted, path_seed
from lmsi_cli.engine.checks import split_for, tell
from lmsi_cli.errors import LmsiError
from lmsi_cli.generation import REPEATS, Draft, Sieve, draft_prompt
from lmsi_cli.jsonl import appender, read_records, write_records, write_struct
from lmsi_cli.records import Progress, Question, Record, Vote
from lmsi_cli.resume import check_same
from lmsi_cli.run_folder import RunDir, paths_by_question
from lmsi_cli.stages import pipeline
from lmsi_cli.voting.ballots import vote

SHOTS = 4  # seed questions in a prompt, as in ScPO; variety hardly depends on it (docs/methods.md)
DRAFTS = 4  # from each prompt
EFFORT = 10  # drafts at most for each question to keep; the embedded model needs two
FEWEST = 32  # drafts of a turn at least: a batch for the engine, enough to see that none is new
LOWEST_YIELD = 0.1  # candidates per draft; the plan of a turn assumes no fewer
# These change how much is made and which of it is kept, never what a draft says.
FREE = {*EngineConfig.__struct_fields__, "number", "paths", "min_share", "llama_cpp_python", "lmsi"}
GROWING = ("number", "paths")
SECTION = "questions"  # of run.toml
# Alarms. Measured runs are far from both (docs/methods.md#questions-of-the-models-own).
REPEATED = 0.5  # of the drafts
SAME_ANSWER = 0.25  # of the answers, or twice the chance level if that is more
FEW = 20  # questions or drafts; with fewer no share is an alarm

Ended = Literal["enough", "effort", "no new questions"]


class Generation(Record, frozen=True, kw_only=True):
    """What all calls of ``lmsi questions`` made; new drafts, tokens and seconds are this call's.

    ``drafts = sum(dropped) + candidates`` and ``sampled = kept + sum(rejected)``; other candidates
    still wait for paths. ``min_votes`` is the least number of paths behind a kept question: with it
    (and ``min_share``) ``lmsi vote`` trains on the kept questions and no others. ``mean_share`` is
    over all sampled candidates.
    """

    wanted: int
    kept: int
    ended: Ended
    seeds: int
    drafts: int
    new_drafts: int
    dropped: dict[str, int]
    candidates: int
    sampled: int
    rejected: dict[str, int]
    paths: int
    min_share: float
    min_votes: int
    mean_share: float
    tokens: int
    seconds: float
    warnings: tuple[str, ...] = ()


def pick_seeds(questions: Sequence[Question], config: QuestionsConfig, name: str) -> list[Question]:
    """Choose the seed questions by the run's seed; only their ids and texts are used."""
    if len(questions) < config.seeds:
        message = f"{name}: {len(questions)} questions, and --seeds asks for {config.seeds}"
        raise LmsiError(message, hint=f"--seeds {len(questions)} takes all of them")
    chosen = _shuffled(questions, config.seed, "seeds")[: config.seeds]
    return [Question(id=q.id, question=q.question) for q in chosen]


def make_questions(  # noqa: PLR0913 - what to write, from what, and where
    job: pipeline.Job,
    config: QuestionsConfig,
    exams: Mapping[str, Sequence[Question]],
    source: str,
    run: RunDir,
    progress: Progress,
    overwrite: bool = False,
) -> Generation:
    """Let a model write questions into a run folder, and vote on them.

    The job's questions are the seeds, from the file ``source``. ``exams`` are questions that must
    not be generated, by file name. The caller holds the folder (``locked``); ``overwrite`` discards
    its contents once the model has been loaded.

    LmsiError as ``pipeline.opened`` and ``bind``; or no prompt fits the model's context.
    """
    with pipeline.opened(job, run, progress, overwrite, trial=False) as drawing:
        origin = {
            "seed_questions_file": source,
            "seed_questions_sha256": hashlib.sha256(msgspec.json.encode(job.questions)).hexdigest(),
            "exclude": sorted(pathlib.Path(file).name for file in exams),
        }
        config = bind(run, config, {**drawing.identity, **origin})
        return Generator(job.questions, exams, config, drawing).generate()


def bind(run: RunDir, config: QuestionsConfig, identity: Mapping[str, Any]) -> QuestionsConfig:
    """Tie the folder to these settings, or refuse if it holds other drafts or another run's paths.

    Asking for more questions or paths adds to the folder; asking for fewer takes nothing away: the
    returned settings hold the most ever asked for. ``identity`` has names and hashes of model, task
    and seed questions, and versions. LmsiError: the folder holds other drafts or paths; says which.
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


class Generator:
    """Writes, sifts and votes; ``exams`` are questions that must not be generated.

    ``taken`` counts the prompts whose drafts went through the sieve, ``votes`` is in the order of
    the candidates.
    """

    def __init__(
        self,
        seeds: Sequence[Question],
        exams: Mapping[str, Sequence[Question]],
        config: QuestionsConfig,
        drawing: pipeline.Drawing,
    ) -> None:
        self.seeds, self.config, asking = seeds, config, drawing.asking
        self.run, self.progress = drawing.run, drawing.progress
        paths = msgspec.structs.replace(asking.config, paths=config.paths)
        self.drawing = drawing._replace(asking=asking._replace(config=paths))
        self.task = asking.task
        self.sieve = Sieve(seeds, exams, self.task)
        file = self.run.drafts
        there = read_records(file, Draft) if file.exists() else ()
        self.drafts = {(d.prompt, d.path): d for d in there}
        self.votes: dict[str, Vote] = {}
        self.taken = self.new = self.tokens = 0
        # the most prompts: as many as the effort allows, but one turn at least
        self.most = math.ceil(max(EFFORT * config.number, FEWEST) / DRAFTS)
        # a lone answer is never enough, as in `lmsi vote`
        enough = math.ceil(config.min_share * config.paths - 1e-9)
        self.min_votes = max(VoteConfig().min_votes, enough)

    def generate(self) -> Generation:
        """Write, sift and vote until enough questions are kept or no more can be had."""
        begun, run, config = time.monotonic(), self.run, self.config
        write_records(run.seeds, self.seeds)
        ended = self._work()
        sieve, votes, kept = self.sieve, self.votes, self._kept()
        write_records(run.generated, [q for q in sieve.candidates if q.id in kept])
        found = Generation(
            wanted=config.number,
            kept=len(kept),
            ended=ended,
            seeds=len(self.seeds),
            drafts=sieve.taken,
            new_drafts=self.new,
            dropped=dict(sieve.dropped.most_common()),
            candidates=len(sieve.candidates),
            sampled=len(votes),
            rejected=dict(Counter(filter(None, map(self._doubt, votes.values())))),
            paths=config.paths,
            min_share=config.min_share,
            min_votes=self.min_votes,
            mean_share=fmean(v.share_of_all for v in votes.values()) if votes else 0.0,
            tokens=self.tokens,
            seconds=time.monotonic() - begun,
            warnings=tuple(self._alarms(kept)),
        )
        write_struct(run.generation, found, sort=True)
        return found

    def _work(self) -> Ended:
        """Take turns; returns why they ended."""
        while (need := self.config.number - len(self._kept())) > 0:
            waiting = self.sieve.candidates[len(self.votes) :]
            if waiting:
                self.drawing.draw(waiting[:need])
                with paths_by_question(self.run) as paths:
                    for q in waiting[:need]:
                        own = paths.get(q.id)
                        self.votes[q.id] = vote(q.id, own, VoteConfig().check_equations)
            elif self.taken >= self.most:
                return "effort"
            elif not self._draft(need):
                return "no new questions"
        return "enough"

    def _kept(self) -> dict[str, Vote]:
        """The confident votes so far, by question id."""
        return {q: v for q, v in self.votes.items() if not self._doubt(v)}

    def _doubt(self, vote: Vote) -> str:
        """Why a vote is not confident; empty if it is."""
        if not vote.total_votes:
            return "no path voted"
        if vote.tie:
            return "tie"
        return "" if vote.majority_votes >= self.min_votes else "low share"

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
        """Draw the drafts that some prompts lack, and append them to the file.

        Prompts that do not fit the context are reported and skipped: some seeds may be long.
        """
        engine, config = self.drawing.engine, self.config
        shown = {n: _shuffled(self.seeds, config.seed, f"prompt {n}")[:SHOTS] for n in turn}
        requests = [self._request(number, seeds) for number, seeds in shown.items()]
        try:
            fitting, skipped = split_for(engine, requests, config)
        except LmsiError as e:
            hint = "lower `--set max_tokens`, or take shorter seeds"
            raise LmsiError(str(e), hint) from None
        tell(skipped, self.progress)
        if not (asked := sum(len(r.wanted) for r in fitting)):
            return
        self.progress.start("writing questions", asked)
        begun = time.monotonic()
        with appender(self.run.drafts, Draft) as write:
            for done, text in enumerate(engine.generate(fitting, config, self.task.trigger), 1):
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
                write(draft)
                self.drafts[number, text.path] = draft
                self.new += 1
                self.tokens += text.tokens
                self.progress.advance(done, drafts_s=done / max(time.monotonic() - begun, 1e-9))
        tell(engine.refusals(), self.progress)

    def _request(self, number: int, seeds: Sequence[Question]) -> Request:
        wanted = tuple(
            Wanted(path, path_seed(self.config.seed, f"prompt {number}", path))
            for path in range(DRAFTS)
            if (number, path) not in self.drafts
        )
        prompt = draft_prompt([q.question for q in seeds], self.task.chat)
        encoded = self.drawing.engine.encode_prompt(prompt, self.task.variables)
        words = "to write one like " + ", ".join(q.id for q in seeds)
        return Request(str(number), tuple(encoded.ids), wanted, words, encoded.begun)

    def _alarms(self, kept: Mapping[str, Vote]) -> Iterator[str]:
        """Warn in words of signs that the set has collapsed."""
        drafts = self.sieve.taken
        repeats = sum(self.sieve.dropped.get(reason, 0) for reason in REPEATS)
        if drafts >= FEW and repeats > REPEATED * drafts:
            yield (
                f"{repeats} of {drafts} drafts repeat a seed or another draft; --temperature is "
                "low?"
            )
        if len(kept) >= FEW:
            [(commonest, n)] = Counter(v.predicted_answer for v in kept.values()).most_common(1)
            if n / len(kept) > max(SAME_ANSWER, 2 * (self.task.chance or 0.0)):
                yield f"{n / len(kept):.0%} of the questions have one answer, {commonest!r}"


def nothing_kept(run: RunDir, found: Generation) -> LmsiError | None:
    """The error that says why no question was kept; ``None`` if one was."""
    if found.kept:
        return None
    reasons = {**found.dropped, **found.rejected}
    most = max(reasons, key=lambda name: reasons[name])
    return LmsiError(
        f"{run.root}: no question was kept of {found.drafts} drafts; most often "
        f"({reasons[most]}): {most}",
        hint="other seeds, another --temperature or model, or a lower --min-share",
    )


def _shuffled(questions: Sequence[Question], seed: int, name: str) -> list[Question]:
    """An order that depends on (seed, name) and on nothing else, in any version of Python."""
    numbers = sorted(range(len(questions)), key=lambda i: path_seed(seed, name, i))
    return [questions[i] for i in numbers]
