"""`lmsi questions` on the embedded model: what it makes is a run folder, and nothing is lost."""

import json

import pytest
from bad_input_cases import QUESTIONS, SEEDS
from commands import settings

from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Question, TrainExample
from lmsi_cli.run_folder import RunDir

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
    again = lmsi(*QUESTIONS.split(), "--temperature", "0.5")
    assert "the drafts in r had other settings: temperature: 1.0 in the run" in again.stderr
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
