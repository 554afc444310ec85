"""`lmsi exemplars` on the command line: a file that works, bad input, and going on."""

import json

import pytest
from test_bad_input import refused

from lmsi_cli.run_folder import RunDir
from lmsi_cli.tasks.loader import load_task

pytestmark = pytest.mark.model
MAKE = "exemplars seeds.jsonl -m tinymath -o e.toml --paths 2 --shots 2 --templates 2 --threads 1"
ONE = "sample q.jsonl -m tinymath -o r --paths 1 --max-tokens 30 --threads 1"


@pytest.fixture
def seeds(folder):
    from lmsi_cli.catalog import find_model

    lines = find_model("tinymath").path.with_name("questions.jsonl").read_text().splitlines()
    (folder / "seeds.jsonl").write_text("\n".join(lines[:14]) + "\n")
    return folder


def test_a_file_is_made_used_and_made_again_from_the_same_paths(seeds, lmsi, monkeypatch):
    done = lmsi(*MAKE.split(), "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["templates"], told["shots"], told["file"]) == (2, 2, "e.toml")
    paths = RunDir("e.run").paths.read_bytes()
    task = load_task("e.toml")
    (seeds / "two.toml").write_bytes((seeds / "e.toml").read_bytes())
    assert [len(t.exemplars) for t in task.templates] == [2, 2]
    hint = "--overwrite replaces it; or give another -o"
    refused(lmsi(*MAKE.split()), "e.toml: is already there", hint)
    # other templates from the same paths, which are not drawn again
    one = MAKE.replace("--templates 2", "--templates 1")
    assert lmsi(*one.split(), "--overwrite").exit_code == 0
    assert RunDir("e.run").paths.read_bytes() == paths
    assert load_task("e.toml").exemplars == task.templates[0].exemplars
    # torn off in the middle, the same command goes on to the same paths and the same file
    before = (seeds / "e.toml").read_text()
    RunDir("e.run").paths.write_bytes(paths[: len(paths) // 2])
    assert lmsi(*one.split(), "--overwrite").exit_code == 0
    redrawn = RunDir("e.run").paths.read_bytes()
    key = lambda line: (json.loads(line)["question_id"], json.loads(line)["path"])  # noqa: E731
    assert [key(x) for x in sorted(redrawn.splitlines(), key=key)] == [
        key(x) for x in sorted(paths.splitlines(), key=key)
    ]
    assert (seeds / "e.toml").read_text() == before
    shown = json.loads(lmsi(*["tasks", "show", "two.toml", "--json"]).stdout)
    assert len(shown["templates"]) == 2
    # and it serves where --task does
    ask = "sample q.jsonl -m tinymath -o r --paths 3 --task two.toml --prompt cot-few"
    sampled = lmsi(*ask.split(), "--threads", "1", "--max-tokens", "40")
    assert sampled.exit_code == 0, sampled.stderr
    assert "cot-few" in RunDir("r").run_toml.read_text()


BAD = {
    "no task file": (MAKE.replace("e.toml", "e.json"), "e.json: a task file ends in .toml",
                     "-o e.json.toml"),
    "too few seeds": (MAKE.replace("--templates 2", "--templates 20"),
                      "seeds.jsonl: 14 seeds, and 20 templates of 2 need 40",
                      "a seed is used once: give more of them, or lower --templates or --shots"),
    "no seeds": ("exemplars -m m.gguf -o e.toml", "no questions given",
                 "lmsi exemplars SEEDS -m MODEL -o FILE.toml"),
    "kept for measuring": (
        f"{MAKE} --exclude exam.jsonl", "exam.jsonl holds 1 of the 14 seeds: q-000001",
        "a question that is shown as solved cannot be measured on: take them out of one of the two",
    ),
    "a share": (f"{MAKE} --set min_share=2",
                "--set min_share: expected a number, at least 0 and at most 1, got '2'", ""),
    "another format": (f"{MAKE} --set prompt=cot-few",
                       "--set prompt: expected one of cot-zero, cot-zero-2, got 'cot-few'", ""),
}  # fmt: skip


@pytest.mark.parametrize(("argv", "told", "hint"), BAD.values(), ids=BAD.keys())
def test_bad_input_gets_one_clear_line_before_anything_is_drawn(seeds, lmsi, argv, told, hint):
    first = (seeds / "seeds.jsonl").read_text().splitlines()[0]
    (seeds / "exam.jsonl").write_text(first + "\n")
    refused(lmsi(*argv.split()), told, hint)
    assert not RunDir("e.run").paths.exists()
    assert not (seeds / "e.toml").exists()


def test_paths_of_other_settings_are_refused_and_overwrite_draws_anew(seeds, lmsi):
    few = MAKE.replace("--templates 2", "--templates 1").replace("--shots 2", "--shots 1")
    assert lmsi(*few.split(), "--limit", "3", "--set", "min_share=0").exit_code == 0
    other = [*few.split(), "--limit", "3", "--set", "min_share=0", "--seed", "1"]
    (seeds / "e.toml").unlink()
    done = lmsi(*other)
    assert "the paths in e.run had other settings: seed: 0 in the run folder, 1 now" in done.stderr
    assert lmsi(*other, "--overwrite").exit_code == 0


def test_two_stages_are_shown_by_a_dry_run_and_refused_as_a_training_format(seeds, lmsi):
    sampling = ONE.split()
    done = lmsi(*sampling, "--dry-run", "--prompt", "cot-zero-2", "--json")
    assert json.loads(done.stdout)["second"] == "Therefore, the answer (arabic numerals) is"
    lmsi(*sampling, "--prompt", "cot-zero-2")
    done = lmsi("vote", "r", "--formats", "cot-zero-2")
    assert done.exit_code == 1 and done.stderr.startswith("error: --formats: expected ")
