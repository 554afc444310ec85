"""Bad input gets one clear line, what to do next, and exit code 1; nothing is lost by it."""

import json

import broken_models
import builders
import pytest
from bad_input_cases import CASES, EVAL, ONE, SEEDS, SEEN, WITH_A_RUN, put
from builders import tree
from commands import SAMPLE, paths_in, refused, works

from lmsi_cli.config import TrainConfig
from lmsi_cli.engine import cpu_check
from lmsi_cli.engine.llama import library
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import write_records
from lmsi_cli.run_folder import RunDir, locked, sha256_file
from lmsi_cli.stages.measure import candidates_of
from lmsi_cli.stages.train import train_run
from lmsi_cli.tasks.loader import load_task

pytestmark = pytest.mark.model


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_input_gets_one_clear_line(folder, lmsi, one_block, case):
    (folder / "s.jsonl").write_text(SEEDS)
    put(folder, case.files, one_block)
    before = tree(folder)
    refused(lmsi(*case.argv.split()), *case.told.split(" ... "), hint=case.hint)
    assert tree(folder).items() >= before.items()  # nothing that was there is another now
    drawn = [f for f in folder.rglob("*.jsonl") if f.name in ("paths.jsonl", "drafts.jsonl")]
    assert not any(f.read_bytes() for f in drawn) and not (folder / "e.toml").exists()


@pytest.fixture
def adapted(sampled):
    """The folder ``r`` with paths and an adapter."""
    RunDir("r").adapter.mkdir()
    broken_models.adapter(RunDir("r").adapter_gguf, 512)
    return sampled


@pytest.mark.parametrize("case", WITH_A_RUN.values(), ids=WITH_A_RUN.keys())
def test_bad_input_beside_a_run_gets_one_clear_line(adapted, lmsi, one_block, case):
    before = RunDir("r").paths.read_bytes()
    put(adapted, case.files, one_block)
    refused(lmsi(*case.argv.split()), *case.told.split(" ... "), hint=case.hint)
    assert not list(adapted.glob("*/eval/*.result.json"))
    assert RunDir("r").paths.read_bytes() == before


def test_wrong_usage_is_exit_code_2(folder, lmsi):
    done = lmsi(*SAMPLE.split(), "--paths", "x")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "'-n' / '--paths'" in done.stderr
    assert "Did you mean 'sample'?" in lmsi("smaple").stderr


# -- a run folder that was begun otherwise ---------------------------------------------------


def test_a_run_of_other_settings_is_refused_and_overwrite_starts_over(sampled, lmsi):
    before = RunDir("r").paths.read_bytes()
    other = [*SAMPLE.split(), "--seed", "1", "--temperature", "1"]
    told = "temperature: 0.7 in the run folder, 1.0 now", "seed: 0 in the run folder, 1 now"
    refused(lmsi(*other), *told, hint="--overwrite")
    assert RunDir("r").paths.read_bytes() == before
    works(*other, "--overwrite")
    old = {json.loads(line)["seed"] for line in before.splitlines()}
    assert len(paths_in()) == 4 and {p["seed"] for p in paths_in()}.isdisjoint(old)


def changed(one_block, target):
    """The model with another last weight."""
    target.unlink(missing_ok=True)
    target.write_bytes(one_block.read_bytes()[:-4] + b"\0\0\0\0")


def test_a_run_of_another_model_is_refused_and_a_moved_one_is_found(sampled, lmsi, one_block):
    run, model = RunDir("r"), sampled / "m.gguf"
    changed(one_block, sampled / "n.gguf")
    told = f"model: {model} in the run folder, {sampled}/n.gguf now"
    refused(lmsi(*SAMPLE.replace("m.gguf", "n.gguf").split()), told, hint="--overwrite")
    changed(one_block, model)
    told = f"model: {model} has changed since"
    for command in ("train r", EVAL):
        refused(lmsi(*command.split()), told)
    run.train.write_text("{}\n")  # within one `lmsi run`, nothing looks at the folder in between
    with pytest.raises(LmsiError, match=told):
        train_run(run, model, load_task("number"), TrainConfig(), None)
    with pytest.raises(LmsiError, match=told):
        candidates_of(run, model)
    model.unlink()
    hint = "`lmsi sample r/questions.jsonl -m MODEL -o r -n 2`"
    refused(lmsi("train", "r"), f"{model}: ", hint=hint)
    (sampled / "moved.gguf").symlink_to(one_block)
    again = SAMPLE.replace("q.jsonl", "r/questions.jsonl").replace("m.gguf", "moved.gguf")
    assert "4 (0 new)" in works(*again.split()).stdout


def test_overwriting_for_what_cannot_begin_loses_nothing(adapted, lmsi, one_block):
    broken_models.truncated(one_block, adapted / "cut.gguf", 40_000)
    write_records(RunDir("r").train, [builders.example("a")])
    write_records(RunDir("r").pairs, [])
    before = tree(adapted / "r")
    run = "run q.jsonl -o r -m"
    for argv in ("sample q.jsonl -m cut.gguf -o r", f"{run} cut.gguf",
                 f"{run} m.gguf --set train.target=x",
                 "train r --set target=x", "train r --loss scpo"):  # fmt: skip
        refused(lmsi(*argv.split(), "--overwrite", "-q"))
    assert tree(adapted / "r").items() >= before.items()


def test_a_folder_in_use_is_left_alone_by_every_command(sampled, lmsi):
    with locked(RunDir("r")):  # ``test_run_folder.py`` has it held by another process
        for argv in (SAMPLE, "vote r", "train r", EVAL, "run q.jsonl -m m.gguf -o r"):
            refused(lmsi(*argv.split()), "run folder r is in use by process")


# -- what goes wrong on the way --------------------------------------------------------------


def test_questions_longer_than_the_context_are_skipped_and_count_as_wrong(folder, lmsi):
    long = json.dumps({"id": "a", "question": "Tom has 3 pens. " * 500, "answer": 3})
    (folder / "q.jsonl").write_text(f"{long}\n{ONE}")
    done = lmsi(*SAMPLE.split(), "--quiet")
    skipped, error, hint = done.stderr.splitlines()
    assert skipped.startswith("skipped: question 'a' (\"Tom has") and "2048" in skipped
    assert error.startswith("error: 1 of 2 questions ") and "--max-tokens" in hint
    assert (done.exit_code, len(paths_in())) == (1, 2)
    with (folder / "test.jsonl").open("a") as file:
        file.write(f"{long}\n")
    done = lmsi(*EVAL.split())
    assert done.exit_code == 1
    assert "skipped: question 'a'" in done.stderr and "error: 1 of 2 questions" in done.stderr


def test_layers_for_a_gpu_that_llama_cpp_cannot_use_are_refused(folder, lmsi):
    usable, _, _ = cpu_check.gpu(library())
    if usable:
        pytest.skip("this build has a GPU")
    refused(lmsi(*SAMPLE.split(), "-ngl", "12"), "--gpu-layers 12: GPU offload is ",
            hint="pip install llama-cpp-python --no-binary")  # fmt: skip
    works(*SAMPLE.split(), "-ngl", "none")


# -- sets that overlap, or show too little ---------------------------------------------------


def test_overlap_is_allowed_by_name_and_a_gain_is_required_by_exit_code(adapted, lmsi):
    (adapted / "seen.jsonl").write_text(SEEN)
    run, argv = RunDir("r"), EVAL.replace("test.jsonl", "seen.jsonl").split()
    write_records(run.train, [builders.example("b")])
    works(*argv, "--dry-run")
    run.adapter_origin.write_text(json.dumps({"train_sha256": sha256_file(run.train)}))
    works(*argv, "--dry-run")
    # after a later vote all questions with kept paths count as trained on
    run.adapter_origin.write_text(json.dumps({"train_sha256": "of another vote"}))
    refused(lmsi(*argv, "--dry-run"), "seen holds 1 of the 2", "trained on: a", hint="--allow-over")
    run.adapter_origin.unlink()
    done = lmsi(*argv, "--allow-overlap", "--require-gain")
    assert (done.exit_code, "CoT greedy *" in done.stdout) == (3, True)
    assert done.stderr.startswith("no significant gain: CoT greedy")
    works(*argv, "--allow-overlap")


def test_a_dry_run_tells_what_the_set_can_show_and_writes_nothing(adapted):
    questions = [{"question": f"{i} + 1?", "answer": i + 1, "group": i // 2} for i in range(20)]
    (adapted / "many.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    argv = [*EVAL.replace("test.jsonl", "many.jsonl").split(), "--dry-run"]
    done = works(*argv, "--json", "--modes", "cot,sc", "-n", "3", "--temperature", "1,2")
    (plan,) = json.loads(done.stdout)
    assert (plan["questions"], plan["groups"], plan["models"]) == (20, 10, 2)
    assert plan["answers"] == 2 * 20 * (1 + 3 + 3)
    assert 0.3 < plan["smallest_visible"] < 0.9
    assert not RunDir("r").eval_dir.exists()
