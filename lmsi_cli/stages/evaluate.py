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
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.answers import extract
from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import OPENVINO, EngineConfig, EvalConfig, SamplingConfig, ServerConfig
from lmsi_cli.engine.base import Engine, Refusal, Request, Wanted, draw, path_seed
from lmsi_cli.engine.checks import split_for, tell
from lmsi_cli.engine.paths import to_path, to_requests
from lmsi_cli.jsonl import appender, read_records
from lmsi_cli.prompts import Task, asked
from lmsi_cli.records import Mode, Progress, PromptFormat, Question
from lmsi_cli.reporting.comparison import compared
from lmsi_cli.reporting.grading import Candidate, Way, graded, line_of, ungraded
from lmsi_cli.reporting.results import Answer, Evaluation
from lmsi_cli.run_folder import RunDir
from lmsi_cli.tasks.loader import gold_answers
from lmsi_cli.thinking import answer_part

DIRECT_TOKENS = 32  # enough for an answer sentence
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

    Args:
        exams: The data sets.
        candidates: The base first.
        engine: The loaded base.
        run: Held by the caller (``locked``).
        progress: Advances with every answer.
        about: ``source`` and ``versions`` for the record.

    Raises:
        LmsiError: A gold answer is not of the task's kind, or no question fits.
    """
    results: list[Evaluation] = []
    for exam in exams:
        results.append(_examined(exam, candidates, engine, run, progress))
        results = compared(
            [msgspec.structs.replace(r, **(about or {})) for r in results], exam.config.seeds[0]
        )
        for done, result in zip(exams, results, strict=False):
            file = run.eval_result(f"{done.name}-{_result_key(done, candidates)}")
            write_atomic(file, msgspec.json.format(msgspec.json.encode(result)))
    return results


def ways(config: EvalConfig, who: Candidate | None = None) -> list[Way]:
    """The sittings of one model: greedy first, then every temperature with every seed.

    A control without an adapter is the base once more, with other seeds and no greedy sitting,
    which would only repeat the base's answers.
    """
    again = who is not None and who.null and who.adapter is None
    first = max(config.seeds) + 1 if again else 0
    sampled = [
        Way(t, first + s, False)
        for t in config.temperatures
        for s in config.seeds
        if "sc" in config.modes
    ]
    greedy = [Way(0.0, 0, True)] if set(config.modes) - {"sc"} and not again else []
    return [*greedy, *sampled]


def modes_of(config: EvalConfig, way: Way) -> list[Mode]:
    """The modes of a sitting: ``sc`` if it samples, all others if it is greedy; each once."""
    return [m for m in dict.fromkeys(config.modes) if (m == "sc") != way.greedy]


def requests_of(
    exam: Exam, engine: Engine, mode: Mode, seed: int, have: Collection[tuple[str, str, int]] = ()
) -> list[Request]:
    """Write the requests of one mode, without the paths in ``have``."""
    config = exam.config
    # exemplars ask for direct answers: a bare question leaves the form open
    formats: dict[Mode, PromptFormat] = {"direct": "direct-few", "cot-few": "cot-few"}
    found: list[Request] = []
    for q in exam.asked:
        wanted = [
            Wanted(i, path_seed(seed, q.id, i))
            for i in range(paths_of(config, mode))
            if (mode, q.id, i) not in have
        ]
        way = formats.get(mode, exam.task.format)
        found += to_requests(engine, exam.task, q, way, wanted)
    return found


def paths_of(config: EvalConfig, mode: Mode) -> int:
    """Paths per question of a mode."""
    return config.paths if mode == "sc" else 1


def sampling_of(config: EvalConfig, mode: Mode, way: Way) -> SamplingConfig:
    """The sampling settings of a mode."""
    limit = min(config.max_tokens, DIRECT_TOKENS) if mode == "direct" else config.max_tokens
    return config.sampling(way.temperature, way.seed, limit)


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
        drawn = ways(config, candidate)
        sittings = [_Sitting(exam, gold, candidate, way, engine, run) for way in drawn]
        answered.append((candidate, [(s.way, s.file.name, s.answers(progress)) for s in sittings]))
        skipped |= {q: None for s in sittings for _, q in s.skipped}
    primary = line_of(config.modes[0], config.paths)
    blank = msgspec.structs.replace(
        ungraded(exam.name, exam.asked, gold, exam.task, primary),
        skipped=tuple(skipped),
        settings=msgspec.json.decode(msgspec.json.encode(config)),  # lists, as in the file
    )
    return graded(blank, answered, config.seeds[0])


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
    keys = [_key(exam, c, way) for c in candidates for way in ways(config, c)]
    labelled = [(q.id, q.answer, q.family, q.group) for q in exam.asked]
    return _hash([keys, config.modes, config.paths, config.seeds[0], labelled])


def _hash(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:8]


class _Sitting:
    """One model in one exam, greedy or at one temperature and seed."""

    def __init__(
        self,
        exam: Exam,
        gold: dict[str, str],
        candidate: Candidate,
        way: Way,
        engine: Engine,
        run: RunDir,
    ) -> None:
        self.exam, self.gold, self.way, self.engine = exam, gold, way, engine
        self.who, self.modes = candidate.name, modes_of(exam.config, way)
        name = f"{self.who}-{exam.name}-{way}-{_key(exam, candidate, way)}"
        self.file = run.eval_answers(name.replace(" ", "-"))
        self.skipped: set[tuple[Mode, str]] = set()  # questions that do not fit in a mode

    def answers(self, progress: Progress) -> list[Answer]:
        """Draw what the answers file lacks; return what these settings ask for, in order.

        Every answer is read and marked again: lmsi may read it otherwise by now, and a right answer
        may have been corrected since it was written.
        """
        have: dict[tuple[str, str, int], Answer] = {}
        for a in read_records(self.file, Answer) if self.file.exists() else ():
            have[a.mode, a.question_id, a.path] = a
        with appender(self.file, Answer) as write:
            for mode in self.modes:
                for a in self._missing(mode, have.keys(), progress):
                    write(a)
                    have[a.mode, a.question_id, a.path] = a
        return [
            _unanswered(mode, q.id, path)
            if (mode, q.id) in self.skipped
            else self._marked(have[mode, q.id, path], q)
            for mode in self.modes
            for q in self.exam.asked
            for path in range(paths_of(self.exam.config, mode))
        ]

    def _marked(self, a: Answer, q: Question) -> Answer:
        task = self.exam.task
        said = answer_part(a.text)
        found = extract(said, task.kind, task.trigger, asked(task, q.question))
        value = found.value if found else None
        return msgspec.structs.replace(a, predicted_answer=value, correct=value == self.gold[q.id])

    def _missing(
        self, mode: Mode, have: Collection[tuple[str, str, int]], progress: Progress
    ) -> Iterator[Answer]:
        """Draw one mode's missing answers."""
        exam, sampling = self.exam, sampling_of(self.exam.config, mode, self.way)
        wanted = requests_of(exam, self.engine, mode, self.way.seed, have)
        requests, skipped = split_for(self.engine, wanted, sampling)
        self._skip(mode, skipped, progress)
        total = len({r.question_id for r in requests}) * paths_of(exam.config, mode)
        done = total - sum(len(r.wanted) for r in requests)
        words = {q.id: q.question for q in exam.asked}
        where = "" if self.way.greedy else f" {self.way}"
        progress.start(f"{self.who} on {exam.name}: {mode}{where}", total)
        begun = before = time.monotonic()
        parsed = tokens = 0
        for count, drawn in enumerate(draw(self.engine, requests, sampling, exam.task.trigger), 1):
            path = to_path(drawn, exam.task, words[drawn.question_id])
            now = time.monotonic()
            parsed += path.predicted_answer is not None
            tokens += path.num_generated_tokens
            seconds = max(now - begun, 1e-9)
            progress.advance(
                done + count,
                paths_s=count / seconds,
                tokens_s=tokens / seconds,
                parsed=f"{parsed / count:.0%}",
            )
            yield Answer(
                question_id=path.question_id,
                mode=mode,
                path=path.path,
                text=path.text,
                predicted_answer=path.predicted_answer,
                correct=path.predicted_answer == self.gold[path.question_id],
                num_generated_tokens=path.num_generated_tokens,
                seconds=now - before,
                stop_reason=path.stop_reason,
            )
            before = now
        self._skip(mode, self.engine.refusals(), progress)

    def _skip(self, mode: Mode, skipped: Sequence[Refusal], progress: Progress) -> None:
        tell(skipped, progress)
        self.skipped |= {(mode, s.question_id) for s in skipped}


def _unanswered(mode: Mode, question_id: str, path: int) -> Answer:
    """An answer for a question that could not be asked; costs nothing and is wrong."""
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
