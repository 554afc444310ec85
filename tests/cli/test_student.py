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
from chat_models import CHATML, SWITCH, chat_model
from commands import refused

import lmsi_cli
from lmsi_cli.catalog import Model
from lmsi_cli.config import SampleConfig, VoteConfig
from lmsi_cli.engine.encode import ChatMode
from lmsi_cli.run_folder import RunDir, sha256_file
from lmsi_cli.stages.asking import formed, keep
from lmsi_cli.stages.pipeline import identity
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.wording import candidates
from lmsi_cli.verdict.observer import Observer
from lmsi_cli.verdict.rules import STOP

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
def teacher(folder, gguf, lmsi):
    """A run of the embedded model; nothing was drawn for it."""
    run = RunDir(folder / "t")
    task = load_task("tinymath")
    run.create()
    wording, plain = candidates("", task, False)[0], ChatMode(False, "no chat template")
    asking = formed(task, wording, plain, SampleConfig(max_tokens=256))
    own = identity(Model(gguf, None), asking)
    run.save_settings("sample", {**msgspec.to_builtins(asking.config), **own})
    keep(run, asking)
    run.save_settings("vote", msgspec.to_builtins(VoteConfig()))
    lines = {run.questions: question, run.paths: path, run.votes: vote}
    for file, make in lines.items():
        file.write_bytes(b"".join(msgspec.json.encode(make(n)) + b"\n" for n in range(COUNT)))
    return run


def tree(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words", "hint"),
    [
        ("-o s", "-o is a student's", "--student MODEL"),
        ("--student no.gguf", "no.gguf: no such model file", "tinymath"),
        ("--student tinymath", "the very model that drew the paths", "`lmsi train t`"),
        ("--student q.jsonl", "q.jsonl", ""),
        ("--student e.gguf", "e.gguf: training is not possible: architecture 'bert'", ""),
        ("--student cut.gguf", "cut.gguf", ""),
        ("--student m.gguf -o t", "t: this is the teacher's own folder", ""),
        ("--student m.gguf -o u", "u: this folder holds a run of its own", ""),
        ("--student m.gguf --rank 4000", "rank", ""),
        ("--student m.gguf --set target=nothing", "nothing", ""),
    ],
)
def test_bad_wishes_cost_nothing(teacher, lmsi, gguf, flags, words, hint):
    folder = teacher.root.parent
    broken_models.bert(folder / "e.gguf")
    broken_models.truncated(gguf, folder / "cut.gguf", 5_000)
    shutil.copytree(teacher.root, folder / "u")
    before = tree(teacher.root)
    refused(lmsi("train", "t", "-q", *flags.split()), words, hint=hint, notes=2)
    assert tree(folder / "t").items() >= before.items()
    assert not list((folder / "t").rglob("adapter*"))


def test_a_run_without_votes_cannot_teach(teacher, lmsi):
    teacher.votes.unlink()
    done = lmsi("train", "t", "--student", "m.gguf")
    refused(done, "t/votes.jsonl: no such file", hint="`lmsi vote t`")


def test_the_verdict_on_the_teacher_s_vote_counts_for_the_student(teacher, lmsi):
    told = Observer({}, None, None).finish()  # of a vote that kept nothing
    assert told.verdict == STOP
    teacher.verdict.write_bytes(msgspec.json.encode(told))
    done = lmsi("train", "t", "--student", "m.gguf", *QUICK)
    refused(done, "the verdict is not to train", hint="lmsi train t --student m.gguf --force")
    assert not (teacher.root / "students").exists()


def test_a_folder_goes_on_with_its_own_student_alone(teacher, folder, lmsi, gguf):
    other = broken_models.relabelled(gguf, folder / "two.gguf", blocks=2)
    assert lmsi("train", "t", "--student", "m.gguf", "-o", "s", *QUICK).exit_code == 0
    done = lmsi("train", "t", "--student", other, "-o", "s", *QUICK)
    refused(done, "student: ", "m.gguf in the run folder", "two.gguf now", hint="--overwrite")
    done = lmsi("train", "t", "--student", "m.gguf", "-o", "s", *QUICK, "--lr", "0.01")
    refused(done, "lr: 0.001 in the run folder, 0.01 now", notes=2)
    done = lmsi("train", "t", "--student", "m.gguf", "-o", "s", *QUICK, "--lr", "0.01",
                "--overwrite")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    adapter = (folder / "s" / "adapter" / "adapter.gguf").read_bytes()
    same = {"max_steps": 3, "rank": 2, "batch_size": 4, "dtype": "fp32", "lr": 0.01}
    python = lmsi_cli.train("t", student="m.gguf", out="s", quiet=True, **same)  # done already
    assert python.summary.steps == 3 and not (teacher.root / "adapter").exists()
    assert (folder / "s" / "adapter" / "adapter.gguf").read_bytes() == adapter
    for argv in (("vote", "s"), ("sample", "q.jsonl", "-m", "m.gguf", "-o", "s", "-n", 1)):
        refused(lmsi(*argv), "a student learns from the votes of")
    refused(lmsi("train", "s", "--student", other), "a student's", hint=f"lmsi train {folder}/t")
    done = lmsi("compare", "t", "s", "--own", "s")
    refused(done, "--own belongs to --distilled")
    (folder / "m.gguf").unlink()
    done = lmsi("eval", "s", "--data", "test.jsonl")
    refused(done, "the model of s is no longer there", hint="--student MODEL -o s")


# --- the whole way ------------------------------------------------------------------------------


def shape(**more):
    return build("qwen2", tie_word_embeddings=True, **more)


@pytest.fixture
def qwen2(folder):
    """Random weights of another architecture over another vocabulary, with a short context."""
    model = shape(vocab_size=300, max_position_embeddings=512)
    return write(folder / "qwen2.gguf", "qwen2", model, kind="F16")


def trained(lmsi, *argv):
    done = lmsi("train", "t", *argv, *QUICK, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def examples(run):
    return [json.loads(line) for line in run.train.read_text().splitlines()]


@pytest.mark.model
@pytest.mark.slow
def test_a_student_of_another_make_goes_the_whole_way(teacher, folder, lmsi, qwen2):
    before = tree(teacher.root)
    told, _ = trained(lmsi, "--student", qwen2)
    run = RunDir(teacher.root / "students" / "qwen2")
    few = [e for e in examples(run) if e["format"] in ("cot-few", "direct-few")]
    assert told["summary"]["dropped_too_long"] == len(few) == 32  # four exemplars in letters
    assert told["summary"]["examples"] == 32
    assert told["proof"]["moved"] > 0 and told["proof"]["adapted_gap"] < 0.02
    settings = run.load_settings()
    assert settings["sample"]["model_sha256"] == sha256_file(qwen2)
    assert settings["train"]["base_sha256"] == sha256_file(qwen2)
    assert settings["teacher"]["model_sha256"] != sha256_file(qwen2)

    few_tokens = ("--modes", "cot", "--max-tokens", "4", "--threads", "1", "-q")
    done = lmsi("eval", run.root, "--data", "test.jsonl", *few_tokens, "--json")
    assert done.exit_code == 0, done.stderr
    [result] = json.loads(done.stdout)
    assert [v["name"] for v in result["variants"]] == ["base", "adapter"]
    assert result["source"]["architecture"] == "qwen2"
    learned = dict(question(1), answer="5")
    (folder / "seen.jsonl").write_text(json.dumps(learned) + "\n")
    refused(lmsi("eval", run.root, "--data", "seen.jsonl", *few_tokens), "trained on: q01")

    done = lmsi("export", run.root, "--to", "adapter", "-q")
    assert done.exit_code == 0, done.stderr
    card = (run.root / "export" / "adapter" / "README.md").read_text()
    assert "taught by tinymath-f16.gguf's votes" in card
    done = lmsi("report", run.root)
    assert done.exit_code == 0, done.stderr
    page = run.report.read_text()
    assert "A student: it learned from the votes of tinymath-f16.gguf" in page
    done = lmsi("watch", run.root, "--once")
    assert "a student of tinymath-f16.gguf" in " ".join(done.stdout.split())
    left = {p: data for p, data in tree(teacher.root).items() if run.root not in p.parents}
    assert left == before


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "kept"), [(SWITCH, ["enable_thinking=false"]), (CHATML, None)]
)
def test_a_student_gets_the_variables_that_its_template_knows(
    teacher, folder, gguf, lmsi, template, kept
):
    sample = teacher.load_settings()["sample"]
    variables = ["enable_thinking=false", "date=never"]
    teacher.save_settings("sample", {**sample, "chat": "on", "template_var": variables})
    trained(lmsi, "--student", chat_model(gguf, folder / "c.gguf", template), "-o", "s")
    run = RunDir(folder / "s")
    assert run.load_settings()["sample"].get("template_var") == kept
    values = {"enable_thinking": False} if kept else None
    assert all(e.get("chat_template_kwargs") == values for e in examples(run))
