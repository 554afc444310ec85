"""Stage four: labelled questions in, answers of base and adapter and what changed out.

The only stage that reads gold answers. Answers are appended as they end, under a name made of
everything that could change them, so an interrupted evaluation goes on and an older one is never
overwritten. The records are in ``report/comparison.py``:

    eval/base-test-1f0c9a2b.answers.jsonl  eval/adapter-test-77d01e5c.answers.jsonl
    eval/test-77d01e5c.result.json
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.config import EngineConfig, EvalConfig
from lmsi_cli.engine.base import Engine, Wanted, path_seed
from lmsi_cli.engine.fitting import split_for, tell
from lmsi_cli.engine.reading import to_path, to_request
from lmsi_cli.lines import appender, read_records, write_atomic
from lmsi_cli.prompts import Task
from lmsi_cli.records import Mode, Progress, PromptFormat, Question
from lmsi_cli.report.comparison import Answer, Comparison, compare
from lmsi_cli.rundir import RunDir, check_base, check_model, chosen_scale, sha256_file
from lmsi_cli.tasks.golds import gold_answers

DIRECT_TOKENS = 32  # an answer sentence, no more
SPEED_ONLY = {*EngineConfig.__struct_fields__, "modes", "limit", "scale", "paths"}


class Exam(NamedTuple):
    """A labelled data set and how it is asked."""

    name: str
    questions: Sequence[Question]
    task: Task
    config: EvalConfig


class Variant(NamedTuple):
    """A model to examine; ``identity`` holds hashes of all that could change its answers."""

    name: str
    adapter: str | None
    identity: dict[str, Any]


def evaluate(
    exam: Exam, variants: Sequence[Variant], engine: Engine, run: RunDir, progress: Progress
) -> Comparison:
    """Answer every question with every variant; the last one is compared with the first.

    A question that does not fit the model's context is told, skipped, and counted as unanswered:
    leaving it out would make both models look better than they are on the set. Nothing is stored
    of it, so it is told again by the next call.

    Raises:
        LmsiError: A gold answer is not of the task's kind, or no question fits.
    """
    gold = gold_answers(exam.questions, exam.task)
    answers: dict[str, list[Answer]] = {}
    skipped: dict[str, None] = {}  # in order, each once
    for variant in variants:
        engine.use_adapter(variant.adapter, _scale(exam, variant))
        sitting = _Sitting(exam, gold, variant, engine, run)
        answers[variant.name] = sitting.answers(progress)
        skipped |= {question_id: None for _, question_id in sitting.skipped}
    result = compare(exam.name, answers, gold, exam.config.seed)
    result = msgspec.structs.replace(result, skipped=tuple(skipped))
    file = run.eval_result(f"{exam.name}-{_key(exam, variants[-1])}")
    write_atomic(file, msgspec.json.format(msgspec.json.encode(result)))
    return result


def variants_of(run: RunDir, model: Path) -> list[Variant]:
    """The base model, and the run's adapter if it has one.

    Raises:
        LmsiError: The paths were drawn, or the adapter was trained, with another base.
    """
    base = {"model_sha256": sha256_file(model)}
    check_model(run, model, base["model_sha256"])
    found = [Variant("base", None, base)]
    if run.adapter_gguf.exists():
        check_base(run.adapter_gguf, base["model_sha256"])
        trained = {**base, "adapter_sha256": sha256_file(run.adapter_gguf)}
        found.append(Variant("adapter", str(run.adapter_gguf), trained))
    return found


def _scale(exam: Exam, variant: Variant) -> float:
    """As asked for, else as chosen when the adapter was trained."""
    if exam.config.scale is not None or variant.adapter is None:
        return exam.config.scale or 1.0
    return chosen_scale(Path(variant.adapter))


def _key(exam: Exam, variant: Variant) -> str:
    """Name everything that could change an answer, in eight hex digits."""
    settings = msgspec.to_builtins(exam.config)
    kept = {k: v for k, v in settings.items() if k not in SPEED_ONLY}
    if variant.adapter is not None:
        kept["scale"] = _scale(exam, variant)
    texts = [(q.id, q.question, q.answer) for q in exam.questions]
    told = msgspec.json.encode([kept, variant.identity, msgspec.to_builtins(exam.task), texts])
    return hashlib.sha256(told).hexdigest()[:8]


class _Sitting:
    """One variant in one exam."""

    def __init__(
        self, exam: Exam, gold: dict[str, str], variant: Variant, engine: Engine, run: RunDir
    ) -> None:
        self.exam, self.gold, self.variant, self.engine = exam, gold, variant, engine
        self.modes = tuple(dict.fromkeys(exam.config.modes))  # each once, however often it is named
        self.file = run.eval_answers(f"{variant.name}-{exam.name}-{_key(exam, variant)}")
        self.skipped: set[tuple[Mode, str]] = set()  # questions that do not fit in a mode

    def answers(self, progress: Progress) -> list[Answer]:
        """Draw what the answers file lacks; return what these settings ask for, in order."""
        have: dict[tuple[str, str, int], Answer] = {}
        if self.file.exists():
            have = {(a.mode, a.question_id, a.path): a for a in read_records(self.file, Answer)}
        with appender(self.file, Answer) as lines:
            for mode in self.modes:
                for answer in self._missing(mode, set(have), progress):
                    lines.write(answer)
                    have[answer.mode, answer.question_id, answer.path] = answer
        asked = [(m, q, i) for m in self.modes for q in self.gold for i in range(self._paths(m))]
        return [_unanswered(*key) if key[:2] in self.skipped else have[key] for key in asked]

    def _paths(self, mode: Mode) -> int:
        return self.exam.config.paths if mode == "sc" else 1

    def _missing(
        self, mode: Mode, have: set[tuple[str, str, int]], progress: Progress
    ) -> Iterator[Answer]:
        """Draw one mode's missing answers."""
        exam, n = self.exam, self._paths(mode)
        requests = [
            to_request(
                self.engine,
                exam.task,
                q,
                self._format(mode),
                tuple(
                    Wanted(i, path_seed(exam.config.seed, q.id, i))
                    for i in range(n)
                    if (mode, q.id, i) not in have
                ),
            )
            for q in exam.questions
        ]
        sampling = self._sampling(mode)
        requests, skipped = split_for(self.engine, requests, sampling)
        tell(skipped, progress)
        self.skipped |= {(mode, s.question_id) for s in skipped}
        total, before = len(requests) * n, time.monotonic()
        done = total - sum(len(r.wanted) for r in requests)
        words = {q.id: q.question for q in exam.questions}
        progress.start(f"{self.variant.name}: {mode}", total)
        for generated in self.engine.generate(requests, sampling, exam.task.trigger):
            path = to_path(generated, exam.task, words[generated.question_id])
            now, done = time.monotonic(), done + 1
            progress.advance(done)
            yield Answer(
                question_id=path.question_id,
                mode=mode,
                path=path.path,
                text=path.text,
                predicted_answer=path.predicted_answer,
                correct=path.predicted_answer == self.gold[path.question_id],
                num_generated_tokens=path.num_generated_tokens,
                seconds=now - before,
            )
            before = now

    def _format(self, mode: Mode) -> PromptFormat:
        """Direct answers are asked for by example: a bare question leaves the form open."""
        return "direct-few" if mode == "direct" else self.exam.config.prompt

    def _sampling(self, mode: Mode) -> EvalConfig:
        config = self.exam.config
        if mode == "sc":
            return config
        limit = min(config.max_tokens, DIRECT_TOKENS) if mode == "direct" else config.max_tokens
        return msgspec.structs.replace(config, temperature=0.0, max_tokens=limit)


def _unanswered(mode: Mode, question_id: str, path: int) -> Answer:
    """Stands for a question that could not be asked; costs nothing and is not right."""
    return Answer(
        question_id=question_id,
        mode=mode,
        path=path,
        text="",
        predicted_answer=None,
        correct=False,
        num_generated_tokens=0,
        seconds=0.0,
    )
