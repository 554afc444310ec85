"""Ctrl-C in an evaluation: what was answered stays, and the same command asks only for the rest."""

import json
import signal
import sys
import time

import pytest
from test_signals import TINYMATH, finished, lines, start, wait

from lmsi_cli.run_folder import RunDir

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]
EVAL = ["--limit", "6", "--modes", "sc,cot", "-n", "8", "--max-tokens", "64", "--set", "parallel=4",
        "--threads", "1", "-q"]  # fmt: skip


def test_an_interrupted_evaluation_goes_on(tmp_path):
    run = RunDir(tmp_path / "r")
    model = TINYMATH / "tinymath-f16.gguf"
    questions = TINYMATH / "questions.jsonl"
    made = ["sample", questions, "-m", model, "-o", run.root, "--limit", "1", "-n", "1", "-q"]
    assert finished(made)[0] == 0
    command = ["eval", run.root, "--data", TINYMATH / "test.jsonl", *EVAL]
    process = start(*command)
    while not (files := list(run.eval_dir.glob("base-test-t0.7-*"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    wait(process, files[0], 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "interrupted; what was finished is saved, the same command goes on\n"
    assert out == "" and not list(run.eval_dir.glob("*.result.json"))
    kept = lines(files[0])
    assert 3 <= len(kept) < 6 * 8
    assert finished(command)[0] == 0
    assert lines(files[0])[: len(kept)] == kept
    keys = [(a["question_id"], a["path"]) for a in map(json.loads, lines(files[0]))]
    assert len(keys) == len(set(keys)) == 6 * 8
    assert len(list(run.eval_dir.glob("*.result.json"))) == 1
