"""`lmsi train --student`: what is refused, and the whole way with models of other makes.

The students are real files that are really trained.
"""

import json
import shutil
import sys
from pathlib import Path

import broken_models
import pytest
from bad_input_cases import SEEN
from builders import tree
from chat_models import SWITCH, chat_model
from commands import give_answers, refused, works

import lmsi_cli
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import TrainExample
from lmsi_cli.run_folder import RunDir, sha256_file

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from hf_to_gguf import build, write

QUICK = ("--max-steps", 3, "--rank", 2, "--batch-size", 4, "--set", "dtype=fp32", "-q")
ASK = "--prompt cot-zero --modes cot --max-tokens 4 --threads 1 -q --json"


@pytest.fixture
def teacher(sampled):
    """A run of a small model, with words put into its mouth, and its vote in all four formats."""
    run = RunDir("r")
    give_answers(run)
    works("vote", "r", "--preset", "paper", "-q")
    return run


@pytest.mark.parametrize(
    ("flags", "words", "hint"),
    [
        ("--student m.gguf", "the very model that drew the paths", "`lmsi train r`"),
        ("--student e.gguf", "e.gguf: training is not possible: ... architecture 'bert'", ""),
        ("--student tinymath -o r", "r: this is the teacher's own folder", ""),
        ("--student tinymath -o u", "u: this folder holds a run of its own", ""),
        ("--student tinymath --rank 4000", "rank", ""),
    ],
)
def test_bad_wishes_cost_nothing(teacher, folder, lmsi, flags, words, hint):
    broken_models.bert(folder / "e.gguf")
    shutil.copytree("r", "u")
    before = tree(folder / "r")
    refused(lmsi("train", "r", "-q", *flags.split()), *words.split(" ... "), hint=hint, notes=2)
    assert tree(folder / "r").items() >= before.items()
    assert not list((folder / "r").rglob("adapter*"))


def test_a_run_that_kept_nothing_or_has_no_votes_cannot_teach(teacher, lmsi):
    command = ("train", "r", "--student", "tinymath")
    lmsi("vote", "r", "--min-votes", 9)
    hint = "lmsi train r --student tinymath -o s --force"
    refused(lmsi(*command, "-o", "s"), "the verdict is not to train", hint=hint)
    teacher.votes.unlink()
    refused(lmsi(*command, "--force"), "r/votes.jsonl: no such file", hint="`lmsi vote r`")
    assert not Path("r/students").exists()


def trained(*argv):
    return json.loads(works("train", "r", *argv, *QUICK, "--json").stdout)


@pytest.mark.model
@pytest.mark.slow
def test_a_student_of_another_make_goes_the_whole_way(teacher, folder, lmsi):
    """Random weights of another architecture over another vocabulary, with a short context."""
    shape = {"vocab_size": 300, "max_position_embeddings": 512, "tie_word_embeddings": True}
    qwen2 = write(folder / "qwen2.gguf", "qwen2", build("qwen2", **shape), kind="F16")
    before = tree(folder / "r")
    told = trained("--student", qwen2)
    run = RunDir(teacher.root / "students" / "qwen2")
    few = [e.format.endswith("few") for e in read_records(run.train, TrainExample)]
    assert told["summary"]["dropped_too_long"] == sum(few) > 0  # eight exemplars in letters
    assert told["summary"]["examples"] == len(few) - sum(few) > 0
    assert told["proof"]["moved"] > 0 and told["proof"]["adapted_gap"] < 0.02
    assert run.load_settings()["train"]["base_sha256"] == sha256_file(qwen2)
    ask = ("eval", run.root, *ASK.split(), "--data")
    [result] = json.loads(works(*ask, "test.jsonl").stdout)
    assert [v["name"] for v in result["variants"]] == ["base", "adapter"]
    (folder / "seen.jsonl").write_text(SEEN)
    refused(lmsi(*ask, "seen.jsonl"), "trained on: a")
    works("export", run.root, "--to", "adapter", "-q")
    card = (run.root / "export" / "adapter" / "README.md").read_text()
    assert "taught by m.gguf's votes" in card
    shown = works("report", run.root, "--markdown").stdout
    assert "A student: it learned from the votes of m.gguf" in shown
    left = {p: data for p, data in tree(folder / "r").items() if run.root.name not in p.parts}
    assert left == before
    keep_to_itself(folder, lmsi, qwen2, run)


def keep_to_itself(folder, lmsi, qwen2, run):
    """Its folder goes on with this student alone, in whatever command."""
    steps = {"max_steps": 3, "rank": 2, "batch_size": 4, "dtype": "fp32"}
    python = lmsi_cli.train("r", student=qwen2, quiet=True, **steps)  # done already
    assert python.summary.steps == 3 and not Path("r/adapter").exists()
    again = ("train", "r", "-o", run.root, *QUICK, "--student")
    refused(lmsi(*again, "tinymath"), "student: ", "in the run folder", hint="--overwrite")
    refused(lmsi(*again, qwen2, "--lr", "0.01"), "lr: 0.001 in the run folder, 0.01 now", notes=2)
    for argv in (("vote",), ("sample", "q.jsonl", "-m", "m.gguf", "-n", 1, "-o")):
        refused(lmsi(*argv, run.root), "a student learns from the votes of")
    done = lmsi("train", run.root, "--student", "m.gguf")
    refused(done, "a student's", hint=f"lmsi train {folder}/r")
    refused(lmsi("compare", "r", run.root, "--own", run.root), "--own belongs to --distilled")
    qwen2.unlink()
    done = lmsi("eval", run.root, "--data", "test.jsonl")
    refused(done, "is no longer there", hint="--student MODEL -o")


@pytest.mark.model
@pytest.mark.slow
def test_a_chat_student_gets_the_variables_that_its_template_knows(teacher, folder, gguf):
    variables = ["enable_thinking=false", "date=never"]
    sample = teacher.load_settings()["sample"] | {"chat": "on", "template_var": variables}
    teacher.save_settings("sample", sample)
    told = trained("--student", chat_model(gguf, folder / "c.gguf", SWITCH), "-o", "s")
    assert told["proof"]["adapted_gap"] < 0.02
    run = RunDir("s")
    kept = run.load_settings()["sample"]
    assert (kept["chat"], kept["template_var"]) == ("on", ["enable_thinking=false"])
    examples = list(read_records(run.train, TrainExample))
    assert examples and all(isinstance(e.prompt, tuple) for e in examples)
    assert all(e.chat_template_kwargs == {"enable_thinking": False} for e in examples)
