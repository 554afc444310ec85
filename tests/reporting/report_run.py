"""What the reports' tests share: graded answers, and a run folder made of hostile records."""

import builders
import msgspec
import pytest

from lmsi_cli.config import SampleConfig, VoteConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.jsonl import write_records
from lmsi_cli.records import Question
from lmsi_cli.reporting.comparison import compared
from lmsi_cli.reporting.grading import Candidate, Way, graded
from lmsi_cli.reporting.results import Answer, Evaluation, Labelled
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.vote import vote_run
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.training.loop import LogLine

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>&amp;\u202e*_|`"
GOLD = "42"


def answers(question, values, mode="sc"):
    """What each path of a question says, marked."""
    return [
        Answer(
            question_id=question, mode=mode, path=i, text=f" {HOSTILE} The answer is {value}.",
            predicted_answer=value, correct=value == GOLD, num_generated_tokens=20, seconds=0.01,
        )
        for i, value in enumerate(values)
    ]  # fmt: skip


def evaluation(models, count=120, data="test", group=None):
    """Of models by name, each a function from a question's place to its greedy and its paths."""
    asked = tuple(
        Labelled(id=f"t{i}", question=f"{i}: {HOSTILE}", gold=GOLD, group=group and group(i))
        for i in range(count)
    )
    blank = Evaluation(
        data=data, n=count, primary="CoT greedy", kind="number", task="number",
        questions=asked, source={"bytes": 2**20 * 400},
    )  # fmt: skip
    told = []
    for name, said in models.items():
        found = []
        for i, q in enumerate(blank.gold):
            greedy, paths = said(i)
            found += [*answers(q, greedy, "cot"), *answers(q, paths)]
        told.append((Candidate(name, None, {}), [(Way(0.7, 0, True), "", found)]))
    return compared([graded(blank, told)])[0]


def evaluated(run, every=2):
    """Add an evaluation: every third answer is right before, of the adapter every second one."""

    def said(step):
        values = [GOLD if i % step == 0 else "41" for i in range(68)]
        return lambda i: (values[i : i + 1], values[i : i + 8])

    run.eval_dir.mkdir(exist_ok=True)
    result = evaluation({"base": said(3), "adapter": said(every)}, 60, f"set {HOSTILE}")
    run.eval_result("test").write_bytes(msgspec.json.encode(result))


def trained(run, steps):
    """A training as far as so many steps."""
    run.adapter.mkdir(exist_ok=True)
    counts = {"tokens": 9, "unpacked_tokens": 9, "completion_tokens": 5}
    told = {"lr": 0.1, "grad_norm": 1.0, "seconds": 1.0, **counts}
    lines = [LogLine(step=n, loss=2.0 / n, **told) for n in range(1, steps + 1)]
    write_records(run.train_log, lines)


@pytest.fixture
def run(tmp_path):
    """Questions, paths, a vote, a verdict and an evaluation with hostile text everywhere."""
    run = RunDir(tmp_path / "<b>run & co")
    run.create()
    questions = [Question(id=f"q{i}", question=f"{i}: {HOSTILE} 6 * 7?") for i in range(30)]
    write_records(run.questions, questions)
    paths = []
    for question, n in ((q.id, n) for q in questions for n in range(8)):
        answer = GOLD if n < 5 else str(n)
        text = f" 6 * 7 = 42. {HOSTILE} The answer is {answer}."
        more = {"question_id": question, "seed": path_seed(0, question, n)}
        paths.append(builders.path(n, answer, text, **more))
    write_records(run.paths, paths)
    settings = {**msgspec.to_builtins(SampleConfig(paths=8)), "task": "number", "model": HOSTILE}
    run.save_settings("sample", {**settings, "task_name": "number"})
    vote_run(run, load_task("number"), VoteConfig())
    evaluated(run)
    return run
