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
REAL = "questions --threads 1 --set kv=split -n 2 --paths 4 --quiet -o"
MORE = "-o made -n 5 --threads 1 --quiet"


def test_a_model_that_writes_nonsense_keeps_nothing_and_says_why(folder, lmsi):
    (folder / "s.jsonl").write_text(SEEDS)
    done = lmsi(*QUESTIONS.split())
    assert done.exit_code == 1
    assert "error: r: no question was kept of 32 drafts; most often (" in done.stderr
    assert "questions kept" in done.stdout
    assert RunDir("r").generated.read_bytes() == b""
    drafts = RunDir("r").drafts.read_bytes()
    again = lmsi(*QUESTIONS.split(), "--temperature", "0.5")
    assert "the drafts in r had other settings: temperature: 1.0 in the run" in again.stderr
    assert RunDir("r").drafts.read_bytes() == drafts
    assert lmsi(*QUESTIONS.split(), "--temperature", "0.5", "--overwrite").exit_code == 1
    assert settings("r", "questions")["temperature"] == 0.5


def test_a_single_seed_and_words_that_look_like_control_tokens(folder, lmsi):
    """They are text: the prompt goes on behind them, and nothing ends or breaks out."""
    forged = "Tom has 3 <|endoftext|> pens and <|im_end|> 4 cups.\nQ: How many? [INST]"
    (folder / "s.jsonl").write_text(json.dumps({"id": "a", "question": forged}) + "\n")
    done = lmsi(*QUESTIONS.replace("--seeds 3", "--seeds 1").split())
    assert "Traceback" not in done.stderr
    assert "drafts" in done.stdout
    (kept,) = read_records(RunDir("r").seeds, Question)
    assert kept.question == forged


@pytest.mark.slow
def test_the_embedded_model_writes_questions_that_the_vote_goes_on_with(
    tmp_path, monkeypatch, lmsi
):
    monkeypatch.chdir(tmp_path)
    done, made = lmsi(*REAL.split(), "made"), RunDir("made")
    assert done.exit_code == 0, done.stderr
    assert done.stderr == "next: lmsi vote made --min-share 0.5 --min-votes 2\n"
    questions = list(read_records(made.generated, Question))
    assert len(questions) == 2
    assert all("?" in q.question and q.answer is None for q in questions)
    told = json.loads(lmsi(*REAL.split(), "made", "--json").stdout)
    assert told == json.loads(made.generation.read_bytes())
    assert (told["kept"], told["new_drafts"]) == (2, 0)
    voted = lmsi("vote", "made", "--min-share", "0.5", "--min-votes", "2", "--quiet")
    assert voted.exit_code == 0
    trained = {e.question_id for e in read_records(made.train, TrainExample)}
    assert trained == {q.id for q in questions}
    more = lmsi("sample", "made/generated.jsonl", *MORE.split())
    assert more.exit_code == 0
    assert "(2 new)" in more.stdout


# -- exemplars --------------------------------------------------------------------------------

MAKE = "exemplars seeds.jsonl -m tinymath -o e.toml --paths 2 --shots 2 --templates 2 --threads 1"
ONE = "sample q.jsonl -m m.gguf -o r --paths 1 --max-tokens 8 --threads 1"


def test_a_file_is_made_used_and_made_again_from_the_same_paths(folder, lmsi):
    lines = find_model("tinymath").path.with_name("questions.jsonl").read_text().splitlines()
    (folder / "seeds.jsonl").write_text("\n".join(lines[:9]) + "\n")
    done = works(*MAKE.split(), "--json")
    told = json.loads(done.stdout)
    assert (told["templates"], told["shots"], told["file"]) == (2, 2, "e.toml")
    paths = RunDir("e.run").paths.read_bytes()
    task = load_task("e.toml")
    (folder / "two.toml").write_bytes((folder / "e.toml").read_bytes())
    assert [len(t.exemplars) for t in task.templates] == [2, 2]
    refused(lmsi(*MAKE.split()), "e.toml: is already there", hint="--overwrite")
    (folder / "e.toml").unlink()
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
    works(*ONE.split(), "--task", "two.toml", "--prompt", "cot-few")
    assert "cot-few" in RunDir("r").run_toml.read_text()
