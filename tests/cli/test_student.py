"""`lmsi train --student`: what is refused, and the whole way with models of other makes.

The teacher's run is made of files, as `lmsi sample` and `lmsi vote` would leave them; the students
are real files that are really trained.
"""

import json
import shutil
import sys
from pathlib import Path

import broken_models
import builders
import msgspec
import pytest
from builders import tree
from chat_models import SWITCH, chat_model
from commands import refused, works

import lmsi_cli
from lmsi_cli.catalog import Model
from lmsi_cli.config import SampleConfig, VoteConfig
from lmsi_cli.engine.encode import ChatMode
from lmsi_cli.jsonl import read_records
from lmsi_cli.prompts import PAPER
from lmsi_cli.records import TrainExample
from lmsi_cli.run_folder import RunDir, sha256_file
from lmsi_cli.stages.asking import formed, keep
from lmsi_cli.stages.pipeline import identity
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.wording import candidates
from lmsi_cli.verdict.rules import STOP, Observer

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from hf_to_gguf import build, write

COUNT = 24  # questions; two of three are kept
QUICK = ("--max-steps", 3, "--rank", 2, "--batch-size", 4, "--set", "dtype=fp32", "-q")


def question(n):
    return {"id": f"q{n:02}", "question": f"Tom has {n} pens and gets 4 more. How many pens now?"}


def path(n):
    text = f" Tom has {n} + 4 = {n + 4}. The answer is {n + 4}."
    return builders.path(0, str(n + 4), text, question_id=f"q{n:02}", num_generated_tokens=20)


def vote(n):
    ballots = {"majority_votes": 3, "total_votes": 3, "num_paths": 3, "ballots": {str(n + 4): 3}}
    return builders.vote(f"q{n:02}", str(n + 4), **ballots, kept=(0,) if n % 3 else ())


@pytest.fixture
def teacher(folder, gguf):
    """A run of the embedded model; nothing was drawn for it."""
    run = RunDir(folder / "t")
    task = load_task("tinymath")
    run.create()
    wording, plain = candidates("", task, False)[0], ChatMode(False, "no chat template")
    asking = formed(task, wording, plain, SampleConfig(max_tokens=256))
    own = identity(Model(gguf, None), asking)
    run.save_settings("sample", {**msgspec.to_builtins(asking.config), **own})
    keep(run, asking)
    run.save_settings("vote", msgspec.to_builtins(VoteConfig(formats=PAPER)))
    lines = {run.questions: question, run.paths: path, run.votes: vote}
    for file, make in lines.items():
        file.write_bytes(b"".join(msgspec.json.encode(make(n)) + b"\n" for n in range(COUNT)))
    return run


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words", "hint"),
    [
        ("-o s", "-o is a student's", "--student MODEL"),
        ("--student tinymath", "the very model that drew the paths", "`lmsi train t`"),
        ("--student e.gguf", "e.gguf: training is not possible: ... architecture 'bert'", ""),
        ("--student m.gguf -o t", "t: this is the teacher's own folder", ""),
        ("--student m.gguf -o u", "u: this folder holds a run of its own", ""),
        ("--student m.gguf --rank 4000", "rank", ""),
    ],
)
def test_bad_wishes_cost_nothing(teacher, lmsi, flags, words, hint):
    folder = teacher.root.parent
    broken_models.bert(folder / "e.gguf")
    shutil.copytree(teacher.root, folder / "u")
    before = tree(teacher.root)
    refused(lmsi("train", "t", "-q", *flags.split()), *words.split(" ... "), hint=hint, notes=2)
    assert tree(folder / "t").items() >= before.items()
    assert not list((folder / "t").rglob("adapter*"))


def test_a_run_without_votes_cannot_teach(teacher, lmsi):
    teacher.votes.unlink()
    done = lmsi("train", "t", "--student", "m.gguf")
    refused(done, "t/votes.jsonl: no such file", hint="`lmsi vote t`")


def test_the_verdict_on_the_teacher_s_vote_counts_for_the_student(teacher, lmsi):
    told = Observer({}, None).finish()  # of a vote that kept nothing
    assert told.verdict == STOP
    teacher.verdict.write_bytes(msgspec.json.encode(told))
    done = lmsi("train", "t", "--student", "m.gguf", *QUICK)
    refused(done, "the verdict is not to train", hint="lmsi train t --student m.gguf --force")
    assert not (teacher.root / "students").exists()


# --- the whole way ------------------------------------------------------------------------------


def trained(*argv):
    return json.loads(works("train", "t", *argv, *QUICK, "--json").stdout)


@pytest.mark.model
@pytest.mark.slow
def test_a_student_of_another_make_goes_the_whole_way(teacher, folder, lmsi):
    """Random weights of another architecture over another vocabulary, with a short context."""
    shape = {"vocab_size": 300, "max_position_embeddings": 512, "tie_word_embeddings": True}
    qwen2 = write(folder / "qwen2.gguf", "qwen2", build("qwen2", **shape), kind="F16")
    before = tree(teacher.root)
    told = trained("--student", qwen2)
    run = RunDir(teacher.root / "students" / "qwen2")
    few = [e for e in read_records(run.train, TrainExample) if e.format.endswith("few")]
    assert told["summary"]["dropped_too_long"] == len(few) == 32  # four exemplars in letters
    assert told["summary"]["examples"] == 32
    assert told["proof"]["moved"] > 0 and told["proof"]["adapted_gap"] < 0.02
    settings = run.load_settings()
    assert settings["sample"]["model_sha256"] == sha256_file(qwen2)
    assert settings["train"]["base_sha256"] == sha256_file(qwen2)
    assert settings["teacher"]["model_sha256"] != sha256_file(qwen2)

    few_tokens = ("--modes", "cot", "--max-tokens", "4", "--threads", "1", "-q")
    done = works("eval", run.root, "--data", "test.jsonl", *few_tokens, "--json")
    [result] = json.loads(done.stdout)
    assert [v["name"] for v in result["variants"]] == ["base", "adapter"]
    assert result["source"]["architecture"] == "qwen2"
    learned = dict(question(1), answer="5")
    (folder / "seen.jsonl").write_text(json.dumps(learned) + "\n")
    refused(lmsi("eval", run.root, "--data", "seen.jsonl", *few_tokens), "trained on: q01")

    works("export", run.root, "--to", "adapter", "-q")
    card = (run.root / "export" / "adapter" / "README.md").read_text()
    assert "taught by tinymath-f16.gguf's votes" in card
    works("report", run.root)
    page = run.report.read_text()
    assert "A student: it learned from the votes of tinymath-f16.gguf" in page
    done = lmsi("watch", run.root, "--once")
    assert "a student of tinymath-f16.gguf" in " ".join(done.stdout.split())
    left = {p: data for p, data in tree(teacher.root).items() if run.root not in p.parents}
    assert left == before
    keep_to_itself(teacher, folder, lmsi, qwen2, run)


def keep_to_itself(teacher, folder, lmsi, qwen2, run):
    """Its folder goes on with this student alone, in whatever command."""
    steps = {"max_steps": 3, "rank": 2, "batch_size": 4, "dtype": "fp32"}
    python = lmsi_cli.train("t", student=qwen2, quiet=True, **steps)  # done already
    assert python.summary.steps == 3 and not (teacher.root / "adapter").exists()
    again = ("train", "t", "-o", run.root, *QUICK, "--student")
    done = lmsi(*again, "m.gguf")
    refused(done, "student: ", "qwen2.gguf in the run folder", "m.gguf now", hint="--overwrite")
    refused(lmsi(*again, qwen2, "--lr", "0.01"), "lr: 0.001 in the run folder, 0.01 now", notes=2)
    for argv in (("vote",), ("sample", "q.jsonl", "-m", "m.gguf", "-n", 1, "-o")):
        refused(lmsi(*argv, run.root), "a student learns from the votes of")
    done = lmsi("train", run.root, "--student", "m.gguf")
    refused(done, "a student's", hint=f"lmsi train {folder}/t")
    refused(lmsi("compare", "t", run.root, "--own", run.root), "--own belongs to --distilled")
    qwen2.unlink()
    done = lmsi("eval", run.root, "--data", "test.jsonl")
    refused(done, "is no longer there", hint="--student MODEL -o")


@pytest.mark.model
@pytest.mark.slow
def test_a_chat_student_gets_the_variables_that_its_template_knows(teacher, folder, gguf):
    sample = teacher.load_settings()["sample"]
    variables = ["enable_thinking=false", "date=never"]
    teacher.save_settings("sample", {**sample, "chat": "on", "template_var": variables})
    told = trained("--student", chat_model(gguf, folder / "c.gguf", SWITCH), "-o", "s")
    assert told["summary"]["examples"] == 64 and told["proof"]["adapted_gap"] < 0.02
    run = RunDir(folder / "s")
    kept = run.load_settings()["sample"]
    assert (kept["chat"], kept["template_var"]) == ("on", ["enable_thinking=false"])
    examples = list(read_records(run.train, TrainExample))
    assert examples and all(isinstance(e.prompt, tuple) for e in examples)
    assert all(e.chat_template_kwargs == {"enable_thinking": False} for e in examples)
