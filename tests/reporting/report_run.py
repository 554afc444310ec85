"""A run folder that is made of records, not of sampling: small, complete and hostile."""

import shutil

import msgspec
import pytest

from lmsi_cli.config import SampleConfig, VoteConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.jsonl import write_records
from lmsi_cli.records import Path, Question
from lmsi_cli.reporting.comparison import compared
from lmsi_cli.reporting.grading import Candidate, Way, graded
from lmsi_cli.reporting.results import Answer, Evaluation, Labelled
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.vote import vote_run
from lmsi_cli.tasks.loader import load_task

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>&amp;\u202e*_|`"
TASK = load_task("number")


def path(question, number, answer, seed=0):
    text = f" 6 * 7 = 42. {HOSTILE} The answer is {answer}."
    return Path(
        question_id=question,
        path=number,
        seed=path_seed(seed, question, number),
        text=text,
        num_generated_tokens=20,
        logprob=-1.0,
        stop_reason="answer",
        predicted_answer=answer,
        extract_rule="marker",
    )


def answers(mode, model, count, paths=1, right=2):
    """Every third question is right before, every second after."""
    every = 3 if model == "base" else right
    return [
        Answer(
            question_id=f"t{i}",
            mode=mode,
            path=p,
            text=f" {HOSTILE} The answer is {42 if (i + p) % every == 0 else 41}.",
            predicted_answer="42" if (i + p) % every == 0 else "41",
            correct=(i + p) % every == 0,
            num_generated_tokens=20,
            seconds=0.01,
        )
        for i in range(count)
        for p in range(paths)
    ]


@pytest.fixture
def run(made, tmp_path):
    """Questions, paths, a vote, a verdict and an evaluation with hostile text everywhere."""
    return RunDir(shutil.copytree(made.root, tmp_path / made.root.name))


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The same once for all tests, which take copies."""
    folder = RunDir(tmp_path_factory.mktemp("report") / "<b>run & co")
    folder.create()
    questions = [Question(id=f"q{i}", question=f"{i}: {HOSTILE} 6 * 7?") for i in range(30)]
    write_records(folder.questions, questions)
    paths = [path(q.id, n, "42" if n < 5 else str(n)) for q in questions for n in range(8)]
    write_records(folder.paths, paths)
    settings = {**msgspec.to_builtins(SampleConfig(paths=8)), "task": "number", "model": HOSTILE}
    folder.save_settings("sample", {**settings, "task_name": "number"})
    vote_run(folder, TASK, VoteConfig())
    evaluated(folder)
    return folder


def evaluated(folder, count=60, right=2):
    """Add an evaluation with greedy and sampled answers of two models."""
    folder.eval_dir.mkdir(exist_ok=True)
    labelled = tuple(
        Labelled(id=f"t{i}", question=f"{i}: {HOSTILE}", gold="42") for i in range(count)
    )
    blank = Evaluation(
        data=f"set {HOSTILE}", n=count, primary="CoT greedy", kind="number", task="number",
        questions=labelled,
    )  # fmt: skip
    answered = []
    for model in ("base", "adapter"):
        both = [
            *answers("cot", model, count, right=right),
            *answers("sc", model, count, 8, right),
        ]
        name = f"{model}.answers.jsonl"
        write_records(folder.eval_dir / name, both)
        answered.append((Candidate(model, None, {}), [(Way(0.7, 0, True), name, both)]))
    result = compared([graded(blank, answered)])[0]
    folder.eval_result("test").write_bytes(msgspec.json.encode(result))
