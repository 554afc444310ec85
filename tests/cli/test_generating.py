"""`lmsi questions` and `lmsi exemplars`: what they make serves, and they go on where they were."""

import json

import pytest
from bad_input_cases import QUESTIONS, SEEDS
from commands import refused, settings, works

from lmsi_cli.catalog import find_model
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Question, TrainExample
from lmsi_cli.run_folder import RunDir
from lmsi_cli.tasks.loader import load_task

pytestmark = pytest.mark.model
REAL = "questions --threads 1 --set kv=split -n 2 --paths 4 --quiet -o made"
MORE = "sample made/generated.jsonl -o made -n 5 --threads 1 --quiet"


def test_a_model_that_writes_nonsense_keeps_nothing_and_says_why(folder, lmsi):
    (folder / "s.jsonl").write_text(SEEDS)
    done, run = lmsi(*QUESTIONS.split()), RunDir("r")
    assert done.exit_code == 1 and "questions kept" in done.stdout
    assert "error: r: no question was kept of 32 drafts; most often (" in done.stderr
    drafts = run.drafts.read_bytes()
    told = "the drafts in r had other settings: temperature: 1.0 in the run"
    refused(lmsi(*QUESTIONS.split(), "--temperature", "0.5"), told)
    assert (run.generated.read_bytes(), run.drafts.read_bytes()) == (b"", drafts)
    lmsi(*QUESTIONS.split(), "--temperature", "0.5", "--overwrite")
    assert settings("r", "questions")["temperature"] == 0.5


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_the_embedded_model_writes_questions_that_the_vote_goes_on_with():
    made, following = RunDir("made"), "lmsi vote made --min-share 0.5 --min-votes 2"
    assert works(*REAL.split()).stderr == f"next: {following}\n"
    questions = list(read_records(made.generated, Question))
    assert len(questions) == 2
    assert all("?" in q.question and q.answer is None for q in questions)
    told = json.loads(works(*REAL.split(), "--json").stdout)
    assert told == json.loads(made.generation.read_bytes())
    assert (told["kept"], told["new_drafts"]) == (2, 0)
    works(*following.split()[1:], "--quiet")
    trained = {e.question_id for e in read_records(made.train, TrainExample)}
    assert trained == {q.id for q in questions}
    more = works(*MORE.split())
    assert "(2 new)" in more.stdout


# -- exemplars --------------------------------------------------------------------------------

MAKE = "exemplars seeds.jsonl -m tinymath -o e.toml --paths 2 --shots 2 --templates 2 --threads 1"
ONE = "sample q.jsonl -m m.gguf -o r --paths 1 --max-tokens 8 --threads 1"


def test_a_file_is_made_used_and_made_again_from_the_same_paths(folder, lmsi):
    lines = find_model("tinymath").path.with_name("questions.jsonl").read_text().splitlines()
    (folder / "seeds.jsonl").write_text("\n".join(lines[:9]) + "\n")
    told = json.loads(works(*MAKE.split(), "--json").stdout)
    assert (told["templates"], told["shots"], told["file"]) == (2, 2, "e.toml")
    paths = RunDir("e.run").paths.read_bytes()
    refused(lmsi(*MAKE.split()), "e.toml: is already there", hint="--overwrite")
    task = load_task(str((folder / "e.toml").rename("two.toml")))
    assert [len(t.exemplars) for t in task.templates] == [2, 2]
    told = "the paths in e.run had other settings", "seed: 0 in the run folder, 1 now"
    refused(lmsi(*MAKE.split(), "--seed", "1"), *told, hint="--overwrite")
    # other templates from the same paths, which are not drawn again
    works(*MAKE.replace("--templates 2", "--templates 1").split(), "--overwrite")
    assert RunDir("e.run").paths.read_bytes() == paths
    assert load_task("e.toml").exemplars == task.templates[0].exemplars
    # and it serves where --task does
    works(*ONE.split(), "--task", "two.toml", "--prompt", "cot-few")
    assert settings()["prompt"] == "cot-few"
