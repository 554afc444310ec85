"""Stage four: labelled questions in; answers of base and adapters, and what changed, out.

The only stage that needs gold answers. A sitting is one model on one data set, greedy or at one
temperature and seed. Its answers are appended as they finish, to a file named after everything that
could change them. So an interrupted evaluation continues, a longer one reuses the answers that
exist, and an older one is never overwritten. The records are in ``reporting/results.py``:

    eval/base-test-greedy-1f0c9a2b.answers.jsonl  eval/base-test-t0.7-s0-5e0c11d4.answers.jsonl
    eval/test-77d01e5c.result.json
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.config import OPENVINO, EngineConfig, EvalConfig, ServerConfig
from lmsi_cli.engine.base import Engine, Refusal, Request, Wanted, draw, path_seed
from lmsi_cli.engine.checks import split_for, tell
from lmsi_cli.engine.paths import to_requests
from lmsi_cli.jsonl import appender, read_records, write_struct
from lmsi_cli.prompts import Task, answer_in
from lmsi_cli.records import Mode, Progress, PromptFormat, Question
from lmsi_cli.reporting.comparison import compared
from lmsi_cli.reporting.grading import Candidate, Way, graded, line_of, ungraded
from lmsi_cli.reporting.results import Answer, Evaluation
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.sample import pace
from lmsi_cli.tasks.loader import gold_answers

DIRECT_TOKENS = 32  # enough for an answer sentence
# Exemplars ask for direct answers: a bare question leaves the form open.
FORMATS: dict[Mode, PromptFormat] = {"direct": "direct-few", "cot-few": "cot-few"}
# These change the speed or the amount, or are part of the task or of a sitting's ``Way``.
FREE = {*EngineConfig.__struct_fields__, *ServerConfig.__struct_fields__, "engine", "modes",
        "limit", "paths", "scale", "temperature", "seed", "task", "chat", "few_shot",
        "system", "model"}  # fmt: skip
FILTERS = {"top_k", "top_p", "min_p"}  # never remove the likeliest token, the greedy choice


class Exam(NamedTuple):
    """A labelled data set and how it is asked; ``config.limit`` takes the first questions."""

    name: str
    questions: Sequence[Question]
    task: Task
    config: EvalConfig

    @property
    def asked(self) -> Sequence[Question]:
        """The questions within the limit."""
        return self.questions[: self.config.limit or None]

    @property
    def gold(self) -> dict[str, str]:
        """Right answers in canonical form, by question id; LmsiError: one is of another kind."""
        return gold_answers(self.asked, self.task)


def evaluate(
    exams: Sequence[Exam],
    candidates: Sequence[Candidate],
    engine: Engine,
    run: RunDir,
    progress: Progress,
    about: dict[str, Any] | None = None,
) -> list[Evaluation]:
    """Ask every candidate every question, and compare the later ones with the first.

    A question that does not fit the model's context is reported, skipped, and counted as
    unanswered: leaving it out would make all models look better than they are on the set. It is not
    stored, so the next call reports it again. A data set's result is written as soon as it is done,
    and again after each later set, because the correction of its p-values covers all sets.

    The base is the first candidate, and the engine has loaded it. The caller holds ``run``
    (``locked``). ``about`` has ``source`` and ``versions`` for the record.

    LmsiError: a gold answer is not of the task's kind, or no question fits.
    """
    results: list[Evaluation] = []
    for exam in exams:
        results.append(_examined(exam, candidates, engine, run, progress))
        results = compared(
            [msgspec.structs.replace(r, **(about or {})) for r in results], exam.config.seed[0]
        )
        for done, result in zip(exams, results, strict=False):
            file = run.eval_result(f"{done.name}-{_result_key(done, candidates)}")
            write_struct(file, result)
    return results


def ways(config: EvalConfig, who: Candidate) -> list[tuple[Way, list[Mode]]]:
    """The sittings of one model with their modes: greedy, then each temperature with each seed.

    A control without an adapter is the base once more, with other seeds and no greedy sitting,
    which would only repeat the base's answers.
    """
    again = who.null and who.adapter is None
    first = max(config.seed) + 1 if again else 0
    greedy: list[Mode] = [m for m in dict.fromkeys(config.modes) if m != "sc"]
    found = [(Way(0.0, 0, True), greedy)] if greedy and not again else []
    seeds = dict.fromkeys(config.seed)  # each once, as the temperatures
    for t in dict.fromkeys(config.temperature) if "sc" in config.modes else ():
        found += [(Way(t, first + s, False), ["sc"]) for s in seeds]
    return found


def paths_of(config: EvalConfig, mode: Mode) -> int:
    """Paths per question of a mode."""
    return config.paths if mode == "sc" else 1


def unread(mode: Mode, question_id: str, path: int, text: str = "") -> Answer:
    """An answer whose text is not read yet, and whose cost is unknown and counts as 0."""
    return Answer(
        question_id=question_id,
        mode=mode,
        path=path,
        text=text,
        predicted_answer=None,
        correct=False,
        num_generated_tokens=0,
        seconds=0.0,
    )


def marked(a: Answer, question: Question, task: Task, gold: str) -> Answer:
    """Read an answer's text, and hold what it says against the right answer."""
    found = answer_in(a.text, task, question.question)
    value = found.value if found else None
    return msgspec.structs.replace(a, predicted_answer=value, correct=value == gold)


def _examined(
    exam: Exam,
    candidates: Sequence[Candidate],
    engine: Engine,
    run: RunDir,
    progress: Progress,
) -> Evaluation:
    """Hold all sittings of a data set and grade them; compares nothing yet."""
    config, gold, answered = exam.config, exam.gold, []
    skipped: dict[str, None] = {}  # in order, each once
    for candidate in candidates:
        engine.use_adapter(candidate.adapter, candidate.scale)
        sittings = []
        for way, modes in ways(config, candidate):
            name = f"{candidate.name}-{exam.name}-{way}-{_key(exam, candidate, way)}"
            file = run.eval_answers(name.replace(" ", "-"))
            sitting = _Sitting(exam, gold, candidate.name, way, modes, engine, file, progress)
            sittings.append((way, file.name, sitting.answers()))
            skipped |= {q: None for _, q in sitting.skipped}
        answered.append((candidate, sittings))
    primary = line_of(config.modes[0], config.paths)
    blank = msgspec.structs.replace(
        ungraded(exam.name, exam.asked, gold, exam.task, primary),
        skipped=tuple(skipped),
        settings=msgspec.json.decode(msgspec.json.encode(config)),  # lists, as in the file
    )
    return graded(blank, answered, config.seed[0])


def _key(exam: Exam, candidate: Candidate, way: Way) -> str:
    """Hash everything that could change an answer, to eight hex digits."""
    settings = msgspec.to_builtins(exam.config)
    kept = {
        k: v for k, v in settings.items() if k not in FREE and not (way.greedy and k in FILTERS)
    }
    if exam.config.engine == OPENVINO:
        kept["engine"] = OPENVINO
    if candidate.adapter is not None:
        kept["scale"] = candidate.scale
    texts = [(q.id, q.question) for q in exam.questions]
    return _hash([kept, way, candidate.identity, exam.task, texts])


def _result_key(exam: Exam, candidates: Sequence[Candidate]) -> str:
    """Hash everything that could change a figure, to eight hex digits."""
    config = exam.config
    keys = [_key(exam, c, way) for c in candidates for way, _ in ways(config, c)]
    labelled = [(q.id, q.answer, q.family, q.group) for q in exam.asked]
    return _hash([keys, config.modes, config.paths, config.seed[0], labelled])


def _hash(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:8]


@dataclass
class _Sitting:
    """One model in one exam, greedy or at one temperature and seed."""

    exam: Exam
    gold: Mapping[str, str]
    who: str
    way: Way
    modes: Sequence[Mode]
    engine: Engine
    file: Path
    progress: Progress
    skipped: dict[tuple[Mode, str], None] = field(default_factory=dict)  # do not fit in a mode

    def answers(self) -> list[Answer]:
        """Draw what the answers file lacks; return what these settings ask for, in order.

        Every answer is read and marked again: lmsi may read it otherwise by now, and a right answer
        may have been corrected since it was written.
        """
        exam = self.exam
        there = read_records(self.file, Answer) if self.file.exists() else ()
        have = {(a.mode, a.question_id, a.path): a for a in there}
        with appender(self.file, Answer) as write:
            for mode in self.modes:
                for a in self._missing(mode, have.keys()):
                    write(a)
                    have[a.mode, a.question_id, a.path] = a
        return [
            unread(mode, q.id, path)
            if (mode, q.id) in self.skipped
            else marked(have[mode, q.id, path], q, exam.task, self.gold[q.id])
            for mode in self.modes
            for q in exam.asked
            for path in range(paths_of(exam.config, mode))
        ]

    def _requests(self, mode: Mode, have: Collection[tuple[Mode, str, int]]) -> Iterator[Request]:
        """The requests of one mode, without the paths in ``have``."""
        task = self.exam.task
        for q in self.exam.asked:
            wanted = [
                Wanted(i, path_seed(self.way.seed, q.id, i))
                for i in range(paths_of(self.exam.config, mode))
                if (mode, q.id, i) not in have
            ]
            yield from to_requests(self.engine, task, q, FORMATS.get(mode, task.format), wanted)

    def _missing(self, mode: Mode, have: Collection[tuple[Mode, str, int]]) -> Iterator[Answer]:
        """Draw one mode's missing answers."""
        exam, way, config = self.exam, self.way, self.exam.config
        limit = min(config.max_tokens, DIRECT_TOKENS) if mode == "direct" else config.max_tokens
        sampling = config.sampling(way.temperature, way.seed, limit)
        requests, skipped = split_for(self.engine, list(self._requests(mode, have)), sampling)
        self._skip(mode, skipped)
        total = len({r.question_id for r in requests}) * paths_of(config, mode)
        done = total - sum(len(r.wanted) for r in requests)
        questions = {q.id: q for q in exam.asked}
        where = "" if way.greedy else f" {way}"
        self.progress.start(f"{self.who} on {exam.name}: {mode}{where}", total)
        begun = before = time.monotonic()
        parsed = tokens = 0
        for count, g in enumerate(draw(self.engine, requests, sampling, exam.task.trigger), 1):
            blank = unread(mode, g.question_id, g.path, g.text)
            a = marked(blank, questions[g.question_id], exam.task, self.gold[g.question_id])
            now = time.monotonic()
            parsed += a.predicted_answer is not None
            tokens += g.tokens
            self.progress.advance(done + count, **pace(begun, count, tokens, parsed / count))
            cost = {"num_generated_tokens": g.tokens, "seconds": now - before}
            yield msgspec.structs.replace(a, **cost, stop_reason=g.stop_reason)
            before = now
        self._skip(mode, self.engine.refusals())

    def _skip(self, mode: Mode, skipped: Sequence[Refusal]) -> None:
        tell(skipped, self.progress)
        self.skipped |= {(mode, s.question_id): None for s in skipped}
