"""The steps of a run, each done once and kept in a folder: sample, cut, vote, train, measure.

Knows the commands and their JSON; no experiment and no table. A step's folder is named by a hash of
all that could change its content, and a file marks a finished step, so an interrupted experiment
continues where it was.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.commands import lmsi
from benchmarks.paper.records import GREEDY, Line, Point, Result, Run
from benchmarks.paper.sets import Sets
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Path as Sampled
from lmsi_cli.records import Question, Vote
from lmsi_cli.reporting.results import Evaluation, Variant
from lmsi_cli.run_folder import RunDir
from lmsi_cli.tasks.loader import gold_answers, load_task
from lmsi_cli.tasks.readers import read_labelled

STUDENT = "student"  # the student's folder, in the teacher's


def digest(*parts: object) -> str:
    """A short name for everything that makes a step what it is."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=6).hexdigest()


class MissingError(Exception):
    """A step is not done, but only finished ones are to be read."""


class Steps:
    """The steps, in one work folder; with ``collect`` none is run, and only finished ones are read.

    ``files`` are those of published models, by their names in runs.
    """

    def __init__(
        self, work: Path, sets: Sets, *, collect: bool = False, files: Mapping[str, str]
    ) -> None:
        self.work, self.sets, self.collect, self.files = work, sets, collect, files

    def missing(self, done: Path) -> bool:
        """Whether a step is still to be done.

        Raises:
            MissingError: It is, but only finished steps are to be read.
        """
        if self.collect and not done.exists():
            raise MissingError(done)
        return not done.exists()

    def results(self, run: Run) -> list[Result]:
        """Do what is missing of a run; a result per exam, or per exam and temperature."""
        run = msgspec.structs.replace(run, model=self.files.get(run.model, run.model))
        folder = self.trained(run)
        return [r for exam in run.exams for r in self._measured(run, folder, exam)]

    def sampled(self, run: Run) -> Path:
        """The folder with the run's paths, sampled or cut from a larger one."""
        count, paths = run.drawn or (run.count, run.paths)
        whole = self._drawn(run, count, paths)
        if (count, paths) == (run.count, run.paths):
            return whole
        folder = whole.with_name(f"{whole.name}-{run.count}-{run.paths}")
        if self.missing(folder / "cut"):
            shutil.rmtree(folder, ignore_errors=True)
            cut(whole, folder, run.count, run.paths)
            (folder / "cut").touch()
        return folder

    def _drawn(self, run: Run, count: int, paths: int) -> Path:
        own = ["generated"] if run.generated else []
        key = digest(run.model, run.questions, count, paths, run.seed, run.sample, *own)
        folder = self.work / "sampled" / f"{run.questions.replace(' ', '-')}-s{run.seed}-{key}"
        done = folder / "sampled.json"
        if self.missing(done):
            file = self.sets.bare(run.questions)
            task = f"task={self.sets.task(run.questions)}"
            how = ["--set", task, "--seed", run.seed, "--paths", paths]
            if run.generated:
                found = lmsi("questions", file, "-m", run.model, "-o", folder, "--seeds", 10,
                             "-n", count, *how, *self._apart(run), "--quiet")  # fmt: skip
            else:
                found = lmsi("sample", file, "-m", run.model, "-o", folder, "--limit", count,
                             *how, *run.sample, "--quiet")  # fmt: skip
            done.write_bytes(msgspec.json.encode(found))
        return folder

    def _apart(self, run: Run) -> list[object]:
        """The flags that keep generated questions apart from the exams."""
        return [part for exam in run.exams for part in ("--exclude", self.sets.labelled(exam))]

    def trained(self, run: Run) -> Path:
        """The folder with the run's vote and adapter (no adapter if nothing was kept)."""
        sampled = self.sampled(run)
        key = digest(sampled.name, run.vote, run.train, *([run.student] if run.student else []))
        folder = self.work / "runs" / f"{run.questions.replace(' ', '-')}-s{run.seed}-{key}"
        done = folder / "trained.json"
        if self.missing(done):
            if not (folder / "copied").exists():
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(sampled, folder)
                (folder / "copied").touch()
            done.write_bytes(msgspec.json.encode(self._learnt(run, folder)))
        return folder

    def _learnt(self, run: Run, folder: Path) -> dict[str, Any]:
        probed = self._probed(run, folder) if run.probe else None
        vote = lmsi("vote", folder, *run.vote, also=(1,))
        trained = None
        if run.train is not None and vote["kept_paths"]:
            student = ["--student", run.student, "-o", folder / STUDENT] if run.student else []
            trained = lmsi("train", folder, "--seed", run.seed, *student, *run.train, "--force",
                           "--quiet")  # fmt: skip
        return {"vote": vote, "train": trained, "probed": probed}

    def _probed(self, run: Run, folder: Path) -> str:
        """The verdict with a probe; the vote is repeated without it afterwards."""
        probe = folder / "probe.jsonl"
        asked = read_labelled(str(self.sets.labelled(run.questions)))
        write_records(probe, asked[: run.probe])
        found = lmsi("vote", folder, *run.vote, "--probe", probe, also=(1,))
        return str(found.get("verdict", {}).get("verdict", ""))

    def _measured(self, run: Run, folder: Path, exam: str) -> Iterator[Result]:
        """One result, or one per temperature where there are several."""
        told = msgspec.json.decode((folder / "trained.json").read_bytes())
        key = digest(exam, run.limit, run.eval, *([run.task] if run.task else []))
        done = folder / f"measured-{key}.json"
        if self.missing(done):
            self._evaluate(run, folder / STUDENT if run.student else folder, exam, done)
        found = msgspec.json.decode(done.read_bytes(), type=Evaluation)
        result = self._result(run, folder, exam, told, found)
        hot = list(dict.fromkeys(v.temperature for v in found.variants))
        for t in hot:
            own = {v.model: curve(v) for v in found.variants if v.curve and v.temperature == t}
            name = f"T {t:g}" if len(hot) > 1 else run.name
            yield msgspec.structs.replace(result, name=name, curves=own)

    def _evaluate(self, run: Run, folder: Path, exam: str, done: Path) -> None:
        """Measure; the base's answers are shared by all runs of a model."""
        pool = self.work / "base" / digest(run.student or run.model)
        pool.mkdir(parents=True, exist_ok=True)
        (folder / "eval").mkdir(exist_ok=True)
        for file in pool.glob("base-*"):
            shutil.copy(file, folder / "eval" / file.name)
        asked = ["--task", run.task or self.sets.task(exam), "--limit", run.limit]
        if "--seed" not in run.eval:
            asked += ["--seed", run.seed]
        also = ["--allow-overlap"]
        (found,) = lmsi("eval", folder, "--data", self.sets.labelled(exam), *asked, *also,
                        *run.eval, "--quiet")  # fmt: skip
        for file in (folder / "eval").glob("base-*.answers.jsonl"):
            shutil.copy(file, pool / file.name)
        done.write_bytes(msgspec.json.encode(found))

    def _result(
        self, run: Run, folder: Path, exam: str, told: dict[str, Any], found: Evaluation
    ) -> Result:
        vote, verdict = told["vote"], told["vote"].get("verdict", {})
        sampled = msgspec.json.decode((self._drawn_folder(run) / "sampled.json").read_bytes())
        own = RunDir(folder)
        train = own.pairs if "scpo" in (run.train or ()) else own.train
        return Result(
            name=run.name,
            seed=run.seed,
            exam=exam,
            n=found.n,
            verdict=verdict.get("verdict", ""),
            reason=verdict["reasons"][0]["text"] if verdict.get("reasons") else "",
            probed=told.get("probed") or "",
            kept_questions=vote["kept_questions"],
            kept_paths=vote["kept_paths"],
            examples=sum(1 for _ in train.open()) if train.exists() else 0,
            sampled_tokens=sampled.get("tokens", 0),
            lines=dict(lines(found)),
            greedy=greedy(found),
            shares=shares_of(found),
            **self._rightness(run, folder),
        )

    def _drawn_folder(self, run: Run) -> Path:
        return self._drawn(run, *(run.drawn or (run.count, run.paths)))

    def _rightness(self, run: Run, folder: Path) -> dict[str, Any]:
        """How right votes and paths were; for readers of the tables, never for training."""
        if run.generated:  # nobody knows their answers
            return {}
        asked = read_labelled(str(self.sets.labelled(run.questions)))
        task = load_task(self.sets.task(run.questions))
        return rightness(RunDir(folder), gold_answers(asked, task))


def rightness(run: RunDir, gold: dict[str, str]) -> dict[str, Any]:
    """Shares of right winners and paths, and (share, right) of every question with a winner."""
    votes = [v for v in read_records(run.votes, Vote) if v.question_id in gold]
    won = [v for v in votes if v.predicted_answer is not None]
    right = {v.question_id: v.predicted_answer == gold[v.question_id] for v in won}
    kept = {(v.question_id, p) for v in votes for p in v.kept}
    drawn = [p for p in read_records(run.paths, Sampled) if p.question_id in gold]
    paths = [((p.question_id, p.path), p.predicted_answer == gold[p.question_id]) for p in drawn]
    ballots = tuple(plain_shares(drawn, gold))
    return {
        "checked": sum(right.values()) / len(votes) if votes else None,
        "plain": sum(good for _, good in ballots) / len(votes) if votes else None,
        "labels": _mean(right[v.question_id] for v in won if v.kept),
        "winners": _mean(right.values()),
        "kept_right": _mean(good for key, good in paths if key in kept),
        "paths_right": _mean(good for _, good in paths),
        "ballots": ballots,
    }


def plain_shares(paths: Iterable[Sampled], gold: dict[str, str]) -> Iterator[tuple[float, bool]]:
    """The paper's confidence: of all paths with an answer, the share of the commonest one.

    Equations are not checked, whatever the vote did. Questions with a tie have no winner.
    """
    answers: dict[str, Counter[str]] = {}
    for p in paths:
        if p.predicted_answer is not None:
            answers.setdefault(p.question_id, Counter())[p.predicted_answer] += 1
    for question, counts in answers.items():
        (first, most), *others = counts.most_common(2)
        if not others or others[0][1] < most:
            yield most / counts.total(), first == gold[question]


def _mean(values: Iterable[bool]) -> float | None:
    found = [float(v) for v in values]
    return sum(found) / len(found) if found else None


def lines(found: Evaluation, model: int = 1) -> Iterator[tuple[str, Line]]:
    """Every line of an evaluation, with the change that its nth model makes, if there is one."""
    base, *others = found.mains
    other = others[model - 1] if len(others) >= model else None
    for figure in base.figures:
        after = other.figure(figure.name) if other else None
        pair = found.pair(figure.name, other.model) if other else None
        yield (
            figure.name,
            Line(
                before=figure.accuracy.value,
                after=after.accuracy.value if after else None,
                low=pair.change.low if pair else None,
                high=pair.change.high if pair else None,
                p_value=pair.change.p_value if pair else None,
                tokens=(figure.tokens, after.tokens) if after else None,
            ),
        )


def greedy(found: Evaluation, model: int = 1) -> tuple[str, str] | None:
    """Right (1) or wrong (0) by question, before and after."""
    told = [v.figure(GREEDY) for v in (found.mains[0], *found.mains[model : model + 1])]
    marks = ["".join(str(round(s)) for s in f.scores) for f in told if f]
    return (marks[0], marks[-1]) if marks else None


def curve(variant: Variant) -> tuple[Point, ...]:
    """What a variant's sampled paths are worth, by their number."""
    return tuple(Point(k=p.k, majority=p.majority.value, any=p.any.value) for p in variant.curve)


def shares_of(found: Evaluation) -> dict[str, float]:
    """Mean share of the commonest answer of each model; empty where nothing was sampled."""
    return {model: t.confidence for model, t in found.confidence.items()}


def cut(whole: Path, folder: Path, count: int, paths: int) -> None:
    """Copy a run folder, but only its first questions and paths."""
    source, target = RunDir(whole), RunDir(folder)
    folder.mkdir(parents=True)
    shutil.copy(source.run_toml, target.run_toml)
    questions = list(read_records(source.questions, Question))[:count]
    kept = {q.id for q in questions}
    write_records(target.questions, questions)
    write_records(
        target.paths,
        (
            p
            for p in read_records(source.paths, Sampled)
            if p.question_id in kept and p.path < paths
        ),
    )
