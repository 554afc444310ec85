"""What the tests of the stages share: a task, four questions, and a script of answers to them."""

import contextlib

from msgspec.structs import replace

from lmsi_cli.config import SampleConfig, VoteConfig
from lmsi_cli.jsonl import read_records
from lmsi_cli.prompts import Task
from lmsi_cli.records import Exemplar, Question, Silent, TrainExample
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.sample import bind, sample
from lmsi_cli.stages.vote import vote_run
from tests.scripted import ScriptedEngine

TASK = Task(
    name="number",
    kind="number",
    exemplars=(Exemplar(question="What is 6 * 7?", rationale="6 * 7 = 42.", answer="42"),),
)
# The gold answers appear nowhere else, so that a leak can be found as text.
QUESTIONS = [
    Question(id=f"q{i}", question=f"What is {i} + {i}?", answer=f"g0ld{i}") for i in range(4)
]
SCRIPT = {
    "q0": [" 0 + 0 = 0. The answer is 0.", " The answer is 0.", " The answer is 1."],
    "q1": [" 1 + 1 = 2. The answer is 2.", " I do not know.", " 1 + 1 = 2, so two", " 2."],
    "q2": [" The answer is 4.", " 2 + 2 = 5. The answer is 5.", " 2 + 2 = 4. The answer is 4."],
    "q3": [" The answer is 6.", " The answer is 7."],
}
THINGS = ["apples", "boats", "coins", "drums", "eggs", "flags", "gloves", "hats", "kites", "lamps"]
NAMES = ["Uma", "Vera", "Walt", "Xena", "Yann", "Zoe", "Alma", "Bert", "Cleo", "Dirk"]
IDENTITY = {"model": "a.gguf", "model_sha256": "aa", "task_name": "number", "task_sha256": "bb"}


def invented(number):
    """A question that is like no other one with another number below a hundred."""
    name, thing = NAMES[number % 10], THINGS[number // 10 % 10]
    count = 2 * number + 5
    return f"{name} counts {count} {thing} and loses {number}. How many {thing} stay with {name}?"


def settled(config):
    """Settings with nothing left open, as the commands hand them to a stage."""
    few_shot = "turns" if config.few_shot == "auto" else config.few_shot
    prompt, tokens = config.prompt or "cot-zero", config.max_tokens or 256
    return replace(config, prompt=prompt, max_tokens=tokens, few_shot=few_shot)


def formed(task, config):
    """The task in the format of settled settings."""
    return replace(task, prompt=config.prompt)


def sampled(root, config=None, fail_after=None, **given):
    """One call of the sampling stage, as the command makes it; an interrupt is let out.

    ``given`` may hold other ``questions``, another ``engine`` or ``task``, and a ``progress``.
    """
    run, config = RunDir(root), settled(config or SampleConfig(paths=3))
    engine = given.get("engine") or ScriptedEngine(SCRIPT, fail_after)
    task = formed(given.get("task", TASK), config)
    bind(run, config, IDENTITY)
    progress = given.get("progress") or Silent()
    asked = given.get("questions", QUESTIONS)[: config.limit or None]
    return sample(asked, engine, task, config, run, progress)


def voted(root, probe=(), **settings):
    """The summary of one call of the voting stage."""
    config = VoteConfig(**settings)
    return vote_run(RunDir(root), TASK, config, probe=probe).summary


def examples_of(run):
    return list(read_records(run.train, TrainExample))


def interrupted(lives, work):
    """Call ``work`` with the number of texts after which each life ends, in the middle or not."""
    for fail_after in lives:
        with contextlib.suppress(KeyboardInterrupt):
            work(fail_after)


def tear(file, most):
    """Cut the end off the last line, as a kill might."""
    data = file.read_bytes() if file.exists() else b""
    last = data[:-1].rfind(b"\n") + 1
    if data:
        file.write_bytes(data[: max(last, len(data) - most)])
