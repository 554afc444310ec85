"""The loop on a quantised model, whose weights AMX's tiles take: commands as they are typed.

Where llama.cpp works with AMX, sampling and measuring go through its tiles, and a command that let
PyTorch compute beside it would die with SIGILL. Elsewhere the same rule is kept, and seen.
"""

import json
import subprocess
import sys

import pytest

from lmsi_cli.engine.quantise import check_kind, quantise
from lmsi_cli.run_folder import RunDir

pytestmark = [pytest.mark.model, pytest.mark.slow]

SMALL = """
[sample]
threads = 1
paths = 2
max_tokens = 64
[vote]
min_votes = 1
[train]
max_steps = 2
batch_size = 2
rank = 4
[eval]
threads = 1
modes = ["cot"]
max_tokens = 64
"""
QUESTIONS = [
    ("Tom has 3 pens. Tom gets 4 more. How many pens does Tom have now?", 7),
    ("Sara has 8 stamps. Sara gives away 5. How many stamps does Sara have now?", 3),
]
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


@pytest.fixture(scope="module")
def place(gguf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("beside")
    quantise(gguf, folder / "q8.gguf", check_kind("Q8_0"), threads=1)
    (folder / "small.toml").write_text(SMALL)
    lines = [{"id": str(n), "question": q, "answer": a} for n, (q, a) in enumerate(QUESTIONS)]
    for name in ("q", "t"):
        told = [json.dumps({**line, "id": name + line["id"]}) + "\n" for line in lines]
        (folder / f"{name}.jsonl").write_text("".join(told))
    return folder


def decodes(place, *argv):
    """Run a command to its end; (repacked, beside PyTorch) of its own process's decodes."""
    command = [sys.executable, "-c", WATCHED, *argv, "--config", "small.toml", "--quiet"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stderr.splitlines()[-1].removeprefix("decoded: ")


def works():
    from lmsi_cli.engine.cpu_check import cpu_check

    return cpu_check().extra_buffers


def test_the_whole_loop(place):
    seen = decodes(
        place, "run", "q.jsonl", "-m", "q8.gguf", "--data", "t.jsonl", "-o", "r", "--force"
    )
    assert seen == f"[({works()}, False)]"  # nothing beside PyTorch, which trained elsewhere
    run = RunDir(place / "r")
    assert run.adapter_gguf.exists() and list(run.eval_dir.glob("*.json"))
    assert json.loads(run.adapter_origin.read_text())["result"]["proof"]["ok"]


def test_an_export_that_needs_both(place):
    assert decodes(place, "export", "r", "--to", "hf") == "[(False, True)]"
