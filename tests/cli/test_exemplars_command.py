"""`lmsi exemplars` on the command line: a file that works, bad input, and going on."""

import json

import pytest
from commands import refused

from lmsi_cli.run_folder import RunDir
from lmsi_cli.tasks.loader import load_task

pytestmark = pytest.mark.model
MAKE = "exemplars seeds.jsonl -m tinymath -o e.toml --paths 2 --shots 2 --templates 2 --threads 1"
ONE = "sample q.jsonl -m m.gguf -o r --paths 1 --max-tokens 8 --threads 1"


@pytest.fixture
def seeds(folder):
    from lmsi_cli.catalog import find_model

    lines = find_model("tinymath").path.with_name("questions.jsonl").read_text().splitlines()
    (folder / "seeds.jsonl").write_text("\n".join(lines[:9]) + "\n")
    return folder


def test_a_file_is_made_used_and_made_again_from_the_same_paths(seeds, lmsi):
    done = lmsi(*MAKE.split(), "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["templates"], told["shots"], told["file"]) == (2, 2, "e.toml")
    paths = RunDir("e.run").paths.read_bytes()
    task = load_task("e.toml")
    (seeds / "two.toml").write_bytes((seeds / "e.toml").read_bytes())
    assert [len(t.exemplars) for t in task.templates] == [2, 2]
    refused(lmsi(*MAKE.split()), "e.toml: is already there", hint="--overwrite")
    (seeds / "e.toml").unlink()
    told = "the paths in e.run had other settings", "seed: 0 in the run folder, 1 now"
    refused(lmsi(*MAKE.split(), "--seed", "1"), *told, hint="--overwrite")
    # other templates from the same paths, which are not drawn again
    one = MAKE.replace("--templates 2", "--templates 1")
    assert lmsi(*one.split(), "--overwrite").exit_code == 0
    assert RunDir("e.run").paths.read_bytes() == paths
    assert load_task("e.toml").exemplars == task.templates[0].exemplars
    shown = json.loads(lmsi(*["tasks", "show", "two.toml", "--json"]).stdout)
    assert len(shown["templates"]) == 2
    # and it serves where --task does
    sampled = lmsi(*ONE.split(), "--task", "two.toml", "--prompt", "cot-few")
    assert sampled.exit_code == 0, sampled.stderr
    assert "cot-few" in RunDir("r").run_toml.read_text()
