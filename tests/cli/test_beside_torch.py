"""The loop on a quantised model, whose weights AMX's tiles take: commands as they are typed.

Where llama.cpp works with AMX, sampling and measuring go through its tiles, and a command that let
PyTorch compute beside it would die with SIGILL. Elsewhere the same rule is kept, and seen.
"""

import subprocess
import sys

import pytest
from commands import give_answers, works

from lmsi_cli.engine.cpu_check import cpu_check
from lmsi_cli.engine.fast_copy import check_kind, quantise
from lmsi_cli.run_folder import RunDir

pytestmark = [pytest.mark.model, pytest.mark.slow]

SMALL = """
sample = {threads = 1, paths = 3, max_tokens = 8}
vote = {min_votes = 1}
train = {max_steps = 4, rank = 4}
eval = {threads = 1, modes = ["cot"], max_tokens = 8}
"""
WATCHED = """
import sys
from lmsi_cli.cli.main import main
from lmsi_cli.engine import cpu_check
asked = set()
check = cpu_check.check_repacked
def noted(repacked):
    asked.add((repacked, cpu_check.torch_is_here()))
    check(repacked)
cpu_check.check_repacked = noted
try:
    main()
finally:
    print(f"decoded: {sorted(asked)}", file=sys.stderr)
"""


def decodes(*argv):
    """Run a command to its end; (repacked, beside PyTorch) of its own process's decodes."""
    command = [sys.executable, "-c", WATCHED, *argv, "--config", "small.toml", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stderr.splitlines()[-1].removeprefix("decoded: ")


def test_the_whole_loop_and_an_export_that_needs_both(folder, one_block):
    """Two paths of three are given, so that a small model has something to vote on."""
    quantise(one_block, folder / "q8.gguf", check_kind("Q8_0"))
    (folder / "small.toml").write_text(SMALL)
    asked = ("q.jsonl", "-m", "q8.gguf", "-o", "r")
    works("sample", *asked, "--config", "small.toml")
    run = RunDir("r")
    give_answers(run)
    # nothing beside PyTorch, which trained elsewhere
    amx = cpu_check().extra_buffers
    assert decodes("run", *asked, "--data", "test.jsonl", "--force") == f"[({amx}, False)]"
    assert len(run.paths.read_text().splitlines()) == 2 * 3
    assert run.adapter_gguf.exists() and list(run.eval_dir.glob("*.result.json"))
    assert decodes("export", "r", "--to", "hf") == "[(False, True)]"
