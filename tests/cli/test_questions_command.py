"""`lmsi questions` on the embedded model: what it makes is a run folder, and mistakes are told."""

import json
import signal
import subprocess
import sys
import time

import pytest

from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Question, TrainExample
from lmsi_cli.run_folder import RunDir

pytestmark = pytest.mark.model

SEEDS = """{"id": "a", "question": "Tom has 31 pens. Tom gets 4 more pens. How many pens now?"}
{"id": "b", "question": "Anna buys 2 boxes of 5 cups each. How many cups does Anna have?"}
{"id": "c", "question": "Sam sold 12, 15 and 9 hats on 3 days. How many hats in total?"}
"""
SMALL = "questions s.jsonl -m m.gguf -o r --threads 1 --seeds 3 -n 2 --set max_tokens=8 --quiet"
REAL = "questions -o r --threads 1 --set kv=split -n 4 --paths 4 --quiet"
MORE = "-o r -n 5 --threads 1 --quiet"


@pytest.fixture
def place(folder):
    (folder / "s.jsonl").write_text(SEEDS)
    return folder


def refused(done, told, hint):
    assert done.stderr == f"error: {told}\nhint: {hint}\n"
    assert done.exit_code == 1
    assert not RunDir("r").drafts.exists()


REFUSED = {
    "fewer than asked for": (
        SMALL.replace("--seeds 3", "--seeds 10"),
        "s.jsonl: 3 questions, and --seeds asks for 10",
        "--seeds 3 takes all of them",
    ),
    "no file": (
        SMALL.replace(" s.jsonl", ""),
        "no questions given",
        "lmsi questions SEEDS_FILE -m MODEL -o RUN",
    ),
    "missing file": (
        SMALL.replace("s.jsonl", "none.jsonl"),
        "none.jsonl: no such file",
        "give a question file, or `-`",
    ),
    "missing exam": (
        f"{SMALL} --exclude none.jsonl",
        "none.jsonl: no such file",
        "give a question file, or `-`",
    ),
    "choices without options": (
        f"{SMALL} --set task=arc",
        "question 'a' lists no options, and arc is a task of choices (3 of 3 questions)",
        "write (A) ..., (B) ... below the question, one a line; or choose another --task",
    ),
    "longer than the context": (
        SMALL.replace("max_tokens=8", "max_tokens=4000"),
        "a prompt of 3 seed questions has 75 tokens or more; with 4000 for the new one it does not "
        "fit the model's context of 2048",
        "lower `--set shots` or `--set max_tokens`, or take shorter seeds",
    ),
}


@pytest.mark.parametrize(("argv", "told", "hint"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_gets_one_clear_line(place, lmsi, argv, told, hint):
    refused(lmsi(*argv.split()), told, hint)


OUT_OF_RANGE = {
    "-n 0": "-n/--number",
    "--seeds 0": "--seeds",
    "--set max_likeness=0": "--set max_likeness",
    "--min-share 1.1": "--min-share",
}


@pytest.mark.parametrize("flag", OUT_OF_RANGE)
def test_numbers_out_of_range(place, lmsi, flag):
    done = lmsi(*SMALL.split(), *flag.split())
    assert done.exit_code == 1
    assert "expected a" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_empty_file(place, lmsi):
    (place / "s.jsonl").write_text("")
    assert lmsi(*SMALL.split()).stderr.startswith("error: s.jsonl: no questions in it\n")


def test_a_model_that_writes_nonsense_keeps_nothing_and_says_why(place, lmsi):
    done = lmsi(*SMALL.split())
    assert done.exit_code == 1
    assert "error: r: no question was kept of 32 drafts; most often (" in done.stderr
    assert "questions kept" in done.stdout
    assert RunDir("r").generated.read_bytes() == b""
    again = lmsi(*SMALL.split(), "--temperature", "0.5")
    assert "the drafts in r had other settings: temperature: 1.0 in the run" in again.stderr
    assert lmsi(*SMALL.split(), "--temperature", "0.5", "--overwrite").exit_code == 1
    assert RunDir("r").load_settings()["questions"]["temperature"] == 0.5


def test_a_single_seed_and_words_that_look_like_control_tokens(place, lmsi):
    """They are text: the prompt goes on behind them, and nothing ends or breaks out."""
    forged = "Tom has 3 <|endoftext|> pens and <|im_end|> 4 cups.\nQ: How many? [INST]"
    (place / "s.jsonl").write_text(json.dumps({"id": "a", "question": forged}) + "\n")
    done = lmsi(*SMALL.replace("--seeds 3", "--seeds 1").split())
    assert "Traceback" not in done.stderr
    assert "drafts" in done.stdout
    (kept,) = read_records(RunDir("r").seeds, Question)
    assert kept.question == forged


@pytest.mark.slow
def test_the_embedded_model_writes_questions_that_the_vote_goes_on_with(folder, lmsi):
    done = lmsi(*REAL.split())
    assert done.exit_code == 0
    run = RunDir("r")
    made = list(read_records(run.generated, Question))
    assert len(made) == 4
    assert all("?" in q.question and q.answer is None for q in made)
    assert done.stderr == "next: lmsi vote r --min-share 0.5 --min-votes 2\n"
    told = json.loads(lmsi(*REAL.split(), "--json").stdout)
    assert told == json.loads(run.generation.read_bytes())
    assert (told["kept"], told["new_drafts"]) == (4, 0)
    voted = lmsi("vote", "r", "--min-share", "0.5", "--min-votes", "2", "--quiet")
    assert voted.exit_code == 0
    assert {e.question_id for e in read_records(run.train, TrainExample)} == {q.id for q in made}
    more = lmsi("sample", "r/generated.jsonl", *MORE.split())
    assert more.exit_code == 0
    assert "(4 new)" in more.stdout


@pytest.mark.slow
def test_ctrl_c_says_so_and_the_same_command_goes_on(folder, lmsi):
    command = [sys.executable, "-m", "lmsi_cli", *REAL.split()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    drafts = RunDir("r").drafts
    while not (drafts.exists() and drafts.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted; what was finished is saved, the same command goes on\n"
    kept = drafts.read_bytes()
    assert lmsi(*REAL.split()).exit_code == 0
    assert drafts.read_bytes().startswith(kept)
    whole = REAL.replace("-o r", "-o whole")
    assert lmsi(*whole.split()).exit_code == 0
    assert RunDir("r").generated.read_bytes() == RunDir("whole").generated.read_bytes()
