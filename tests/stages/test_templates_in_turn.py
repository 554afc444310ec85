"""Templates through the stages: which path is shown which, resumed and measured."""

import msgspec
import pytest
from stage_helpers import IDENTITY, QUESTIONS, TASK, formed, settled

from lmsi_cli.config import EvalConfig, SampleConfig
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Exemplar, Path, Question, Silent, Template
from lmsi_cli.reporting.grading import Candidate
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.evaluate import Exam, evaluate
from lmsi_cli.stages.sample import bind, sample
from tests.scripted import ScriptedEngine

SCRIPT = {q.id: [f" Let me see. {i} + {i} = {2 * i}.", " It is", " So what"]
          for i, q in enumerate(QUESTIONS)}  # fmt: skip
FEW = SampleConfig(paths=4, prompt="cot-few")
SHOWN = [Exemplar(question=f"Template {i}?", rationale="1 + 1 = 2.", answer="2") for i in range(3)]
TURNS = msgspec.structs.replace(
    TASK, exemplars=(SHOWN[0],), templates=tuple(Template(exemplars=(e,)) for e in SHOWN)
)


class Noting(ScriptedEngine):
    """Remembers which template each path was shown, call by call."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.shown, self.calls = {}, []

    def generate(self, requests, sampling, trigger, watch=None):
        self.calls.append([r.block for r in requests if r.wanted])
        for r in requests:
            template = bytes(r.prompt).decode().partition("Template ")[2][:1]
            self.shown |= {(r.question_id, w.path): template for w in r.wanted}
        yield from super().generate(requests, sampling, trigger, watch)


def drawn(root, config=FEW, task=TURNS, fail_after=None, script=SCRIPT):
    run, engine, config = RunDir(root), Noting(script, fail_after), settled(config)
    bind(run, config, IDENTITY)
    return engine, sample(QUESTIONS, engine, formed(task, config), config, run, Silent())


def paths_of(root):
    return sorted(read_records(RunDir(root).paths, Path), key=lambda p: (p.question_id, p.path))


@pytest.mark.parametrize("paths", [1, 2, 3, 7])
def test_path_k_is_shown_template_k_modulo_their_number(tmp_path, paths):
    engine, _ = drawn(tmp_path, SampleConfig(paths=paths, prompt="cot-few"), TURNS)
    assert engine.shown == {(q.id, k): str(k % 3) for q in QUESTIONS for k in range(paths)}
    # a call holds one template's prompts, which have a long prefix in common
    assert [set(call) for call in engine.calls if call] == [{t} for t in range(min(paths, 3))]
    assert len(paths_of(tmp_path)) == 4 * paths


def test_interrupted_between_templates_nothing_is_lost_or_twice(tmp_path):
    for fail_after in (3, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            drawn(tmp_path / "lives", fail_after=fail_after)
    drawn(tmp_path / "lives")
    drawn(tmp_path / "whole")
    assert paths_of(tmp_path / "lives") == paths_of(tmp_path / "whole")
    assert len(paths_of(tmp_path / "lives")) == 4 * FEW.paths


def test_with_an_early_stop_the_paths_come_in_their_order(tmp_path):
    config = SampleConfig(paths=6, prompt="cot-few", stop="window:2")
    same = {q.id: [" The answer is 4."] for q in QUESTIONS}
    engine, summary = drawn(tmp_path, config, TURNS, script=same)
    assert {p.path for p in paths_of(tmp_path)} == {0, 1}
    assert (summary.stopped, summary.never_drawn + summary.cancelled) == (4, 16)
    assert [set(call) for call in engine.calls if call] == [{0}, {1}]


LABELLED = [Question(id=q.id, question=q.question, answer=str(2 * i))
            for i, q in enumerate(QUESTIONS)]  # fmt: skip
BASE = [Candidate("base", None, {"model_sha256": "mm"})]


def examined(root, task, engine, **config):
    asked = settled(EvalConfig(paths=3, modes=("cot", "sc"), **config))
    exam = Exam("test", LABELLED, formed(task, asked), asked)
    return evaluate([exam], BASE, engine, RunDir(root), Silent())[0]


def test_in_an_evaluation_greedy_answers_see_the_first_template_and_paths_all(tmp_path):
    engine = Noting(SCRIPT)
    examined(tmp_path, TURNS, engine, prompt="cot-few")
    assert [set(call) for call in engine.calls if call] == [{0}, {0}, {1}, {2}]
    # another set of templates is another sitting
    files = len(list(RunDir(tmp_path).eval_dir.glob("*.answers.jsonl")))
    fewer = msgspec.structs.replace(TURNS, templates=TURNS.templates[:2])
    examined(tmp_path, fewer, engine, prompt="cot-few")
    assert len(list(RunDir(tmp_path).eval_dir.glob("*.answers.jsonl"))) == files + 2
