"""The scale of an adapter: chosen by questions it never saw, and by no noise."""

import json

import msgspec
import pytest
from stage_helpers import TASK

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import write_records
from lmsi_cli.records import Question, TrainExample, Vote
from lmsi_cli.run_folder import RunDir, chosen_scale
from lmsi_cli.stages import scales
from tests.scripted import ScriptedEngine

RIGHT, WRONG = " The answer is 7.", " The answer is 9."


class Tuned(ScriptedEngine):
    """Right on so many of the questions, by scale; the number of a question decides which."""

    def __init__(self, right):
        super().__init__({})
        self.right, self.scales, self.sampled = right, [], []

    def use_adapter(self, path, scale=1.0):
        super().use_adapter(path, scale)
        self.scales.append(scale)

    def generate(self, requests, sampling, trigger, watch=None):
        self.sampled.append((sampling.temperature, [w for r in requests for w in r.wanted]))
        good = self.right(self.scales[-1])
        numbers = {r.question_id: int(r.question_id[1:]) for r in requests}
        self.script = {q: [RIGHT if n % 100 < good else WRONG] for q, n in numbers.items()}
        return super().generate(requests, sampling, trigger, watch)


def vote(n, share=0.4, winner="7", tie=False, paths=400):
    return Vote(question_id=f"q{n}", predicted_answer=winner, majority_votes=2, runner_up_votes=1,
                total_votes=3, num_paths=paths, no_answer=0, truncated=0, refuted=0, tie=tie,
                share=share, share_of_all=share, margin=0.1, ballots={}, kept=(),
                posterior=share)  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A run with sixty questions, of which the first twenty were trained on."""
    run = RunDir(tmp_path)
    run.adapter.mkdir()
    run.adapter_origin.write_text('{"base_sha256": "aa", "result": {}}')
    run.save_settings("sample", {"temperature": 0.7, "prompt": "cot-zero", "seed": 3, "paths": 4,
                                 "model": "m.gguf", "parallel": 64})  # fmt: skip
    write_records(run.questions, [Question(id=f"q{n}", question=f"{n}?") for n in range(60)])
    write_records(run.votes, [vote(n, share=n / 100) for n in range(60)])
    write_records(run.train, [
        TrainExample(prompt="", completion="", format="cot-zero", question_id=f"q{n}", path=0)
        for n in range(20)
    ])  # fmt: skip
    return run


def asked(run, labelled=(), val_share=0.0):
    return scales.candidates(run, TASK, labelled, val_share)


def swept(run, watcher, right):
    engine = Tuned(right)
    return scales.sweep(run, TASK, asked(run), engine, watcher), engine


def test_only_questions_that_were_not_trained_on_are_asked_the_surest_first(run):
    found = asked(run)
    assert [q.id for q in found.questions] == [f"q{n}" for n in range(59, 19, -1)]
    assert (found.marks, found.paths) == ("vote", 3)


def test_questions_that_training_set_apart_come_before_all_others(run):
    from lmsi_cli.training.examples import TRAINABLE, split

    examples = [
        TrainExample(prompt="", completion="", format="cot-zero", question_id=f"q{n}", path=0)
        for n in range(TRAINABLE)
    ]
    write_records(run.train, examples)
    write_records(run.questions, [Question(id=f"q{n}", question="?") for n in range(120)])
    write_records(run.votes, [vote(n, share=n / 200) for n in range(120)])
    held = {e.question_id for e in split(examples, 0.1).held}
    ids = [q.id for q in asked(run, val_share=0.1).questions]
    assert set(ids[: len(held)]) == held and ids[len(held)] == "q119"
    assert not set(ids) & {e.question_id for e in split(examples, 0.1).train}


def test_ties_and_questions_without_a_winner_are_not_asked(run):
    write_records(run.votes, [vote(30, tie=True), vote(31, winner=None), vote(32)])
    assert [q.id for q in asked(run).questions] == ["q32"]


def test_a_probe_is_used_but_for_what_was_trained_on(run):
    labelled = [Question(id=f"q{n}", question=f"{n}?", answer="7") for n in range(10, 45)]
    found = asked(run, labelled)
    assert [q.id for q in found.questions] == [f"q{n}" for n in range(20, 45)]
    assert found.marks == "labels" and found.wanted["q20"] == "7"
    assert asked(run, labelled[:20]).marks == "vote"  # ten are left, too few


@pytest.mark.parametrize(
    ("paths", "questions", "each"),
    [(400, 40, 3), (70, 21, 3), (60, 24, 2), (20, 24, 0), (10, 12, 0)],
)
def test_the_cost_is_at_most_a_tenth_of_the_paths(run, paths, questions, each):
    write_records(run.votes, [vote(n, share=n / 100, paths=paths) for n in range(60)])
    found = asked(run)
    assert (len(found.questions), found.paths) == (questions, each)
    assert len(scales.SCALES) * questions * (1 + each) <= 60 * paths / 10


def test_a_clearly_better_scale_is_chosen_and_used_from_then_on(run, watcher):
    result, engine = swept(run, watcher, lambda scale: 60 if scale == 0.5 else 35)
    assert result.chosen == 0.5 and engine.scales == list(scales.SCALES)
    half = next(t for t in result.tried if t.scale == 0.5)
    assert (half.agreement, half.change.difference) == (1.0, 1 - 15 / 40)
    assert chosen_scale(run.adapter_gguf) == 0.5
    assert scales.finished(run) == result
    told = json.loads(run.adapter_origin.read_text())
    assert told["base_sha256"] == "aa" and told["scale"]["chosen"] == 0.5
    assert watcher.done[-1] == result.answers == 5 * 40 * 4
    assert watcher.said == ["adapter scale 0.5: +62.5% against scale 1 (p 6e-08)"]


def test_noise_does_not_choose(run, watcher):
    # three of forty questions more: p = 0.25, far from beyond chance among four comparisons
    result, _ = swept(run, watcher, lambda scale: 38 if scale == 1.25 else 35)
    assert result.chosen == 1.0 and "beyond chance" in result.why
    assert max(t.agreement for t in result.tried) == 18 / 40


def test_every_scale_answers_with_the_same_numbers_and_not_those_of_the_vote(run, watcher):
    from lmsi_cli.engine.base import path_seed

    _, engine = swept(run, watcher, lambda scale: 35)
    greedy, drawn = engine.sampled[0::2], engine.sampled[1::2]
    assert len(greedy) == 5 and all(t == 0.0 for t, _ in greedy)
    assert all(t == 0.7 for t, _ in drawn) and all(w == drawn[0][1] for _, w in drawn)
    assert path_seed(3, "q59", 0) not in {w.seed for w in drawn[0][1]}


def test_too_few_questions_leave_scale_1_and_may_be_tried_again(run, watcher):
    write_records(run.questions, [Question(id=f"q{n}", question=f"{n}?") for n in range(30)])
    result, engine = swept(run, watcher, lambda scale: 35)
    assert result.chosen == 1.0 and not engine.scales and "10 questions" in result.why
    assert chosen_scale(run.adapter_gguf) == 1.0 and scales.finished(run) is None


@pytest.mark.parametrize("told", ["0", '"x"', "true", "-1", "1e9", "NaN", "null"])
def test_a_scale_that_is_none_is_refused(run, told):
    if told == "NaN":
        with pytest.raises(LmsiError):
            run.adapter_origin.write_text('{"scale": {"chosen": NaN}}')
            chosen_scale(run.adapter_gguf)
        return
    run.adapter_origin.write_text(f'{{"scale": {{"chosen": {told}}}}}')
    with pytest.raises(LmsiError, match="no adapter scale"):
        chosen_scale(run.adapter_gguf)


def test_an_adapter_from_elsewhere_acts_at_scale_1(tmp_path):
    assert chosen_scale(tmp_path / "adapter.gguf") == 1.0


def test_the_record_survives_its_file(run, watcher):
    result, _ = swept(run, watcher, lambda scale: 35)
    assert msgspec.convert(msgspec.to_builtins(result), scales.Sweep) == result
