"""The commands that need no model: explain, show, tasks; and sets named on the command line."""

import json
import shutil

import builders
import commands
import pytest
from commands import works

from lmsi_cli.catalog import find_model
from lmsi_cli.jsonl import write_records
from lmsi_cli.records import Question
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.asking import pick_task
from lmsi_cli.tasks.loader import task_names
from lmsi_cli.tasks.readers import set_name
from lmsi_cli.voting.ballots import vote

TEXT = "6 * 7 = 42.\nThe answer is $42.00. #### 5"
OPTIONS = "Which is wet?\n(A) sand\n(B) the sea"
HOSTILE = "\x1b[2J\x9b31m[red]:smiley: The answer is 4\x07\u202e."
CONTROLS = set("\x1b\x9b\x07\u202e")


def test_explain_shows_every_rule_and_which_one_fired():
    out = works("explain", TEXT).stdout
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "$42.00" in lines["marker"] and lines["marker"].rstrip().endswith("fired")
    assert "fired" not in lines["hash"]
    told = json.loads(works("explain", TEXT, "--json").stdout)
    (fired,) = [r for r in told["rules"] if r["fired"]]
    start, end = fired["found"]["start"], fired["found"]["end"]
    assert (told["answer"], fired["rule"], TEXT[start:end]) == ("42", "marker", "$42.00")


@pytest.mark.parametrize(
    ("words", "last"),
    [
        ([TEXT], "The answer is >>$42.00<<. #### 5"),
        (["The answer is unknown."], "no answer, by the rule marker"),
        (["The answer is the sea.", "--kind", "choice", "--question", OPTIONS], "answer B: "),
        (["<think>The answer is 5.</think>The answer is 6."], "answer 6: "),
        (["", "--kind", "span"], "no answer: no rule found its place"),
        (["-"], "answer 3: \ufffd\ufffd The answer is [bold]>>3<<."),
        (["\udcff The answer is 3."], "answer 3: \ufffd"),
    ],
    ids=["marked", "unread", "options", "thinking", "nothing", "stdin", "no text"],
)
def test_explain_ends_with_the_answer(words, last):
    done = commands.call("explain", *words, stdin=b"\xff\xfe The answer is [bold]3.")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.strip().splitlines()[-1].startswith(last)


def path(index, text, answer, **other):
    return builders.path(index, answer, text, question_id="q7", **other)


PATHS = [
    path(1, " 6 * 7 = 41. The answer is 41.", "41"),
    path(0, "<think>5</think> [red]6 * 7 = 42. The answer is 42.", "42"),
    path(2, " 7 * 6 = 42. The answer is 42.", "42"),
    path(3, " I wonder", None, stop_reason="length"),
]
QUESTIONS = [Question(id=f"q{n}", question=f"What is 6 * {n}?") for n in (7, 8)]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunDir("r")
    run.create()
    run.save_settings("sample", {"task": "number", "task_name": "number", "chat": "off"})
    write_records(run.questions, QUESTIONS)
    write_records(run.paths, PATHS)
    return run


def test_text_of_models_and_files_cannot_steer_the_terminal(run, tmp_path):
    write_records(run.paths, [path(4, HOSTILE, "4")])
    write_records(run.questions, [*QUESTIONS, Question(id="q9", question=f"{HOSTILE}\n" * 9)])
    (tmp_path / "mine.toml").write_text('name = "x"\n"\\u001b[2Jnam" = 1\n')
    argvs = ["show r --question q7", "show r", "tasks show mine.toml"]
    shown = [commands.call(*argv.split()) for argv in argvs]
    shown += [commands.call("explain", HOSTILE, "--kind", kind) for kind in ("number", "text")]
    for done in shown:
        said = done.stdout + done.stderr
        assert "\\x1b[2J" in said and not set(said) & CONTROLS
    for done in (shown[0], *shown[3:]):
        assert "\\x1b[2J\\x9b31m[red]:smiley: The answer is >>4" in done.stdout


ASK = ("show", "r", "--question", "q7")


def test_show_before_and_after_the_vote(run):
    out = works(*ASK).stdout
    assert "<think>5</think> [red]6 * 7 = 42. The answer is >>42<<." in out
    assert out.index("path 0") < out.index("path 1") < out.index("path 3")
    assert "no answer, 9 tokens, cut off" in out and "no vote yet" in out
    write_records(run.votes, [vote("q7", PATHS)])
    out = works(*ASK).stdout
    assert "path 2   42 by marker, 9 tokens, kept" in out
    assert "path 1   41 by marker, 9 tokens, a false equation\n" in out
    told = json.loads(works(*ASK, "--json").stdout)
    spans = [p["path"]["text"][p["start"] : p["end"]] for p in told["paths"] if p["start"]]
    assert spans == ["42", "41", "42"] and told["vote"]["ballots"] == {"42": 2, "41": 1}
    write_records(run.votes, [vote("q7", PATHS[3:])])  # without a ballot
    assert "no winner; ballots: 0 of 1 path (" in works(*ASK).stdout


def test_show_lists_the_questions(run):
    write_records(run.votes, [vote("q7", PATHS)])
    rows = [line.split() for line in works("show", "r").stdout.splitlines()]
    assert [row[:4] for row in rows[1:]] == [["q7", "67%", "42", "2"], ["q8", "-", "-", "-"]]
    told = json.loads(works("show", "r", "--json").stdout)
    assert [(q["id"], q["predicted_answer"]) for q in told] == [("q7", "42"), ("q8", None)]


def test_tasks_are_listed_and_shown():
    assert [task["name"] for task in json.loads(works("tasks", "--json").stdout)] == task_names()
    assert "strategyqa" in works("tasks").stdout
    for show in (("show", "strategyqa", "--json"), ("--json", "show", "strategyqa")):
        assert json.loads(works("tasks", *show).stdout)["kind"] == "yesno"
    assert json.loads(works("models", "--json", "show", "tinymath").stdout)["card"]
    shown = works("tasks", "show", "strategyqa").stdout
    assert 'kind = "yesno"' in shown and "[[exemplars]]" in shown


def test_a_set_names_its_task_and_its_results(tmp_path, gguf):
    assert set_name("gsm8k:data/test.jsonl") == "gsm8k-test"
    assert set_name("data/test.jsonl") == "test"
    model = find_model(str(shutil.copy(gguf, tmp_path / "m.gguf")))  # under a name without a card
    assert pick_task("auto", model, "strategyqa:dev.json").name == "strategyqa"
    assert pick_task("svamp", model, "strategyqa:dev.json").name == "svamp"
    assert pick_task("auto", model, "dev.jsonl").name in ("number", "tinymath")
