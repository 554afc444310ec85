"""Bad input gets one clear line, what to do next, and exit code 1; nothing is lost by it."""

import json
import re
import subprocess
import sys

import broken_models
import pytest
from bad_input_cases import CASES, ONE, SAMPLE
from small_disks import small_disk

from lmsi_cli.config import TrainConfig
from lmsi_cli.engine import builds
from lmsi_cli.engine.llama import library
from lmsi_cli.errors import LmsiError
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.measure import variants_of
from lmsi_cli.stages.train import train_run
from lmsi_cli.tasks.loader import load_task


def refused(done, told, hint=""):
    """Check that a call ended as a person's mistake should: told in one line, and not as a bug."""
    expected = f"error: {told}\n" + (f"hint: {hint}\n" if hint else "")
    assert done.stderr == expected
    assert done.stdout == ""
    assert done.exit_code == 1


@pytest.mark.model
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_input_gets_one_clear_line(folder, lmsi, one_block, case):
    for name, content in case.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        if callable(content):
            content(one_block, folder / name)
        elif content is not None:
            (folder / name).write_text(content)
    refused(lmsi(*case.argv.split()), case.told, case.hint)
    assert not (folder / "r" / "paths.jsonl").exists()


USAGE = {
    "unknown command": ("smaple", "No such command 'smaple'. Did you mean 'sample'?"),
    "unknown flag": ("vote r --nonesuch", "No such option: --nonesuch"),
    "missing option": ("sample q.jsonl", "Missing option '-o' / '--out'."),
    "missing argument": ("vote", "Missing argument 'run'."),
    "no number": (f"{SAMPLE} --paths x", "Invalid value for '-n' / '--paths'"),
}


@pytest.mark.parametrize(("argv", "told"), USAGE.values(), ids=USAGE.keys())
def test_wrong_usage_is_exit_code_2(folder, lmsi, argv, told):
    done = lmsi(*argv.split())
    assert done.exit_code == 2
    assert told in done.stderr
    assert done.stdout == ""


def paths_in(root="r"):
    return [json.loads(line) for line in RunDir(root).paths.read_text().splitlines()]


@pytest.mark.model
def test_a_run_of_other_settings_is_refused_and_overwrite_starts_over(folder, lmsi):
    assert lmsi(*SAMPLE.split()).exit_code == 0
    before = RunDir("r").paths.read_bytes()
    other = [*SAMPLE.split(), "--seed", "1", "--temperature", "1"]
    hint = "give the old value, start over with `--overwrite`, or use another folder"
    refused(
        lmsi(*other),
        "the paths in r had other settings: temperature: 0.7 in the run folder, 1.0 now; "
        "seed: 0 in the run folder, 1 now",
        hint,
    )
    assert RunDir("r").paths.read_bytes() == before
    assert lmsi(*other, "--overwrite").exit_code == 0
    assert {p["seed"] for p in paths_in()}.isdisjoint(
        json.loads(line)["seed"] for line in before.splitlines()
    )
    assert len(paths_in()) == 4


@pytest.mark.model
def test_a_run_of_another_model_is_refused(folder, lmsi, one_block):
    lmsi(*SAMPLE.split())
    other = folder / "n.gguf"
    other.write_bytes(one_block.read_bytes()[:-4] + b"\0\0\0\0")  # the last weight but one
    refused(
        lmsi(*SAMPLE.replace("m.gguf", "n.gguf").split()),
        f"the paths in r had other settings: model: {folder}/m.gguf in the run folder, "
        f"{folder}/n.gguf now",
        "give the old value, start over with `--overwrite`, or use another folder",
    )
    (folder / "m.gguf").unlink()
    other.rename(folder / "m.gguf")
    for command in ("train r", "eval r --data test.jsonl"):
        done = lmsi(*command.split())
        assert f"model: {folder}/m.gguf has changed since" in done.stderr
    (folder / "m.gguf").unlink()
    refused(
        lmsi("train", "r"),
        f"{folder}/m.gguf: the model of r is no longer there",
        "tell where it is now: `lmsi sample r/questions.jsonl -m MODEL -o r`",
    )
    (folder / "moved.gguf").symlink_to(one_block)
    again = SAMPLE.replace("q.jsonl", "r/questions.jsonl").replace("m.gguf", "moved.gguf")
    done = lmsi(*again.split())
    assert "4 (0 new)" in done.stdout


@pytest.mark.model
def test_overwriting_for_a_model_that_does_not_load_loses_nothing(folder, lmsi, one_block):
    lmsi(*SAMPLE.split())
    before = RunDir("r").paths.read_bytes()
    broken_models.truncated(one_block, folder / "cut.gguf", 40_000)
    for argv in ("sample q.jsonl -m cut.gguf -o r", "run q.jsonl -m cut.gguf -o r"):
        assert lmsi(*argv.split(), "--overwrite").exit_code == 1
    assert lmsi("train", "r", "--overwrite").exit_code == 1
    assert RunDir("r").paths.read_bytes() == before


@pytest.mark.model
def test_changed_text_under_an_id_is_refused(folder, lmsi):
    lmsi(*SAMPLE.split())
    (folder / "q.jsonl").write_text('{"id": "a", "question": "What else?"}\n')
    refused(
        lmsi(*SAMPLE.split()),
        "question 'a' has another text than in r/questions.jsonl",
        "give it a new id, start over with `--overwrite`, or use another folder",
    )


HOLDER = """
import sys, time
from lmsi_cli.run_folder import RunDir, locked
with locked(RunDir("r")):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.model
def test_two_processes_on_one_folder(folder, lmsi):
    lmsi(*SAMPLE.split())
    child = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"held\n"
        for argv in (SAMPLE, "vote r", "train r", "eval r --data test.jsonl",
                     "run q.jsonl -m m.gguf -o r"):  # fmt: skip
            refused(
                lmsi(*argv.split()),
                f"run folder r is in use by process {child.pid}",
                "wait for it, stop it, or use another folder",
            )
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert lmsi(*SAMPLE.split()).exit_code == 0


@pytest.mark.model
def test_a_full_disk_keeps_what_was_written_and_the_same_command_goes_on(folder, lmsi):
    with small_disk(500):
        done = lmsi(*SAMPLE.split(), "--quiet")
    refused(
        done,
        "r/paths.jsonl: cannot be written: No space left on device; what was written before stays",
        "put this right and give the same command again: it goes on",
    )
    kept = paths_in()
    assert 0 < len(kept) < 4
    assert lmsi(*SAMPLE.split(), "--quiet").exit_code == 0
    assert paths_in()[: len(kept)] == kept
    assert len({(p["question_id"], p["path"]) for p in paths_in()}) == len(paths_in()) == 4


@pytest.mark.model
def test_a_question_longer_than_the_context_is_skipped_and_may_be_corrected(folder, lmsi):
    long = json.dumps({"id": "a", "question": "Tom has 3 pens. " * 500})
    (folder / "q.jsonl").write_text(long + "\n" + ONE)
    for _ in range(2):  # all the rest is done by the first; the second says the same
        done = lmsi(*SAMPLE.split(), "--quiet")
        assert re.fullmatch(
            r"skipped: question 'a' \(\"Tom has 3 pens\. Tom has 3 pens\. [^\n]* \.\.\.\"\): "
            r"prompt of \d+ tokens and 8 for the path do not fit the model's context of 2048\n"
            r"error: 1 of 2 questions did not fit the model's context and were skipped; "
            r"the others are done\n"
            r"hint: shorten or remove them \(the lines with `skipped:` name them\), "
            r"or lower --max-tokens\n",
            done.stderr,
        )
        assert "skipped, too long" in done.stdout
        assert done.exit_code == 1
        assert len(paths_in()) == 2
    (folder / "q.jsonl").write_text('{"id": "a", "question": "How many?"}\n' + ONE)
    assert lmsi(*SAMPLE.split()).exit_code == 0


@pytest.mark.model
def test_a_labelled_question_longer_than_the_context_counts_as_wrong(folder, lmsi):
    lmsi(*SAMPLE.split())
    long = json.dumps({"id": "u", "question": "Tom has 3 pens. " * 500, "answer": 3})
    with (folder / "test.jsonl").open("a") as file:
        file.write(long + "\n")
    argv = "eval r --data test.jsonl --modes cot --threads 1 --max-tokens 4 --quiet"
    done = lmsi(*argv.split())
    assert done.exit_code == 1
    assert "skipped: question 'u'" in done.stderr
    assert "error: 1 of 2 questions did not fit" in done.stderr
    assert "1 too long for the model's context; they count as wrong." in done.stdout


@pytest.mark.model
def test_damaged_weights_get_one_clear_line(folder, lmsi, one_block):
    broken_models.poisoned(one_block, folder / "nan.gguf", float("nan"))
    refused(
        lmsi(*SAMPLE.replace("m.gguf", "nan.gguf").split(), "--quiet"),
        "nan.gguf: the model computes NaN instead of logits (at question 'a')",
        "its weights are damaged or overflow: download or convert it again, or use another "
        "quantisation of it",
    )


@pytest.mark.model
def test_layers_for_a_gpu_that_llama_cpp_cannot_use_are_refused(folder, lmsi):
    if builds.gpu(library()).usable:
        pytest.skip("this build has a GPU")
    (folder / "c.toml").write_text("[sample]\ngpu_layers = 12\n")
    for more in ("--gpu-layers all", "-ngl 3", "--config c.toml"):
        done = lmsi(*SAMPLE.split(), *more.split())
        assert done.exit_code == 1
        assert re.match(r"error: --gpu-layers (all|3|12): GPU offload is ", done.stderr)
        assert done.stdout == ""
    assert "pip install llama-cpp-python --no-binary" in done.stderr
    assert lmsi(*SAMPLE.split(), "--config", "c.toml", "-ngl", "none").exit_code == 0
    assert "GPU offload" in lmsi("doctor").stdout


@pytest.mark.model
def test_a_model_that_changed_between_sampling_and_training_is_refused(folder, lmsi, one_block):
    """Within one `lmsi run`, too, where nothing looks at the run folder again in between."""
    lmsi(*SAMPLE.split())
    run = RunDir("r")
    run.train.write_text("{}\n")
    (folder / "m.gguf").unlink()
    (folder / "m.gguf").write_bytes(one_block.read_bytes()[:-4] + b"\0\0\0\0")
    told = f"the paths in r had other settings: model: {folder}/m.gguf has changed since"
    with pytest.raises(LmsiError) as e:
        train_run(run, folder / "m.gguf", load_task("number"), TrainConfig(), None)
    assert str(e.value) == told
    with pytest.raises(LmsiError) as e:
        variants_of(run, folder / "m.gguf")
    assert str(e.value) == told


@pytest.mark.model
def test_the_setting_that_failed_may_be_corrected(folder, lmsi):
    assert lmsi(*SAMPLE.split(), "--max-tokens", "4000").exit_code == 1
    assert lmsi(*SAMPLE.split()).exit_code == 0


@pytest.mark.model
def test_nothing_parsed_at_all(folder, lmsi):
    lmsi(*SAMPLE.split(), "--max-tokens", "1")
    refused(
        lmsi("vote", "r", "--quiet"),
        "r/paths.jsonl: none of 4 paths can vote: 4 cut off",
        "sample again, with more --max-tokens and --overwrite",
    )
    refused(lmsi("train", "r"), "r/train.jsonl: no such file", "run `lmsi vote` first")
    refused(
        lmsi("train", "r", "--loss", "scpo"),
        "r/pairs.jsonl: no such file, and --loss scpo trains on its pairs",
        "run `lmsi vote r` first",
    )


@pytest.mark.model
@pytest.mark.parametrize(
    ("width", "origin", "told"),
    [
        (
            64,
            None,
            "no adapter for {folder}/m.gguf: tensor 'blk.0.attn_q.weight' has incorrect shape",
        ),
        (512, '{"base_sha256": "0", "base_file": "o.gguf"}', "trained on another model, o.gguf"),
    ],
    ids=["shapes", "origin"],
)
def test_evaluating_an_adapter_of_another_base(folder, lmsi, width, origin, told):
    lmsi(*SAMPLE.split())
    run = RunDir("r")
    run.adapter.mkdir()
    broken_models.adapter(run.adapter_gguf, width)
    if origin:
        run.adapter_origin.write_text(origin)
    argv = "eval r --data test.jsonl --modes direct --threads 1 --max-tokens 4 --quiet"
    done = lmsi(*argv.split())
    assert done.exit_code == 1
    assert done.stderr.startswith("error: r/adapter/adapter.gguf: ")
    assert told.format(folder=folder) in done.stderr
    assert done.stderr.count("\n") == 2


@pytest.mark.model
def test_bad_training_files(folder, lmsi):
    lmsi(*SAMPLE.split())
    run, broken = RunDir("r"), {"prompt": "Q", "completion": "", "format": "cot-zero"}
    run.train.write_text("")
    refused(
        lmsi("train", "r", "-q"),
        "nothing to train on: 0 examples",
        "loosen the filters of `lmsi vote`",
    )
    run.train.write_text(json.dumps({**broken, "question_id": "a", "path": 0}) + "\n")
    refused(
        lmsi("train", "r", "-q"),
        "training example 1, question 'a' (cot-zero): its completion is empty",
        "run `lmsi vote` again, or delete that line",
    )
    run.train.write_text('{"prompt": 3}\n')
    assert "r/train.jsonl:1: " in lmsi("train", "r", "-q").stderr
    assert not run.adapter_gguf.exists()


@pytest.mark.model
@pytest.mark.slow
def test_an_architecture_that_only_llama_cpp_knows_samples_but_does_not_train(
    folder, lmsi, one_block
):
    broken_models.relabelled(one_block, folder / "i.gguf", "internlm2")
    assert lmsi(*SAMPLE.replace("m.gguf", "i.gguf").split()).exit_code == 0
    example = {"prompt": "Q: 1 + 1?\nA:", "completion": " The answer is 2.",
               "format": "direct-zero", "question_id": "a", "path": None}  # fmt: skip
    RunDir("r").train.write_text(json.dumps(example) + "\n")
    done = lmsi("train", "r", "--quiet")
    assert done.exit_code == 1
    assert done.stderr.startswith(
        "error: training is not possible: architecture 'internlm2': lmsi does not know how to load "
        "it in transformers; sampling and voting work\n"
    )
    assert "Traceback" not in done.stderr
