"""The commands that need no model: explain, show, tasks; and sets named on the command line."""

import json
import shutil

import builders
import commands
import pytest

from lmsi_cli.catalog import find_model
from lmsi_cli.jsonl import encode_line, write_records
from lmsi_cli.records import Question
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.asking import pick_task
from lmsi_cli.tasks.loader import task_names
from lmsi_cli.tasks.readers import set_name
from lmsi_cli.voting.ballots import vote

TEXT = "6 * 7 = 42.\nThe answer is $42.00. #### 5"
OPTIONS = "Which is wet?\n(A) sand\n(B) the sea"


def call(*words):
    done = commands.call(*words)
    return done.exit_code, done.stdout, done.stderr


def test_explain_shows_every_rule_and_which_one_fired():
    code, out, _ = call("explain", TEXT)
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert lines["marker"].rstrip().endswith("fired")
    assert "$42.00" in lines["marker"]
    assert " 5 " in lines["hash"] and "fired" not in lines["hash"]
    assert "The answer is >>$42.00<<. #### 5" in out
    told = json.loads(call("explain", TEXT, "--json")[1])
    (fired,) = [r for r in told["rules"] if r["fired"]]
    start, end = fired["found"]["start"], fired["found"]["end"]
    assert (told["answer"], fired["rule"], TEXT[start:end]) == ("42", "marker", "$42.00")


@pytest.mark.parametrize(
    ("words", "last"),
    [
        (["The answer is unknown."], "no answer, by the rule marker"),
        (["The answer is the sea.", "--kind", "choice", "--question", OPTIONS], "answer B: "),
        (["<think>The answer is 5.</think>The answer is 6."], "answer 6: "),
        (["", "--kind", "span"], "no answer: no rule found its place"),
    ],
)
def test_explain_ends_with_the_answer(words, last):
    code, out, err = call("explain", *words)
    assert (code, err) == (0, "")
    assert out.strip().splitlines()[-1].startswith(last)


HOSTILE = "\x1b[2J\x9b31m[red]:smiley: The answer is 4\x07\u202e."


def test_text_of_models_cannot_steer_the_terminal(run):
    folder, paths = run
    write_records(folder.paths, [*paths, path(4, HOSTILE, "4")])
    whole = call("show", str(folder.root), "--question", "q7")[1]
    reply = call("explain", HOSTILE)[1] + call("explain", HOSTILE, "--kind", "text")[1]
    for out in (whole, reply):
        assert "\\x1b[2J\\x9b31m[red]:smiley: The answer is >>4" in out
        assert not set(out) & set("\x1b\x9b\x07\u202e")


def test_a_mistake_of_a_hostile_file_cannot_either(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "x"\n"\\u001b[31mnam" = 1\n')
    err = call("tasks", "show", str(file))[2]
    assert "unknown field `\\x1b[31mnam`" in err and "\x1b" not in err


def test_explain_takes_bytes_that_are_no_text():
    done = commands.call("explain", "-", stdin=b"\xff\xfe The answer is [bold]3.")
    assert (
        done.exit_code == 0 and "answer 3: \ufffd\ufffd The answer is [bold]>>3<<." in done.stdout
    )
    assert call("explain", "\udcff The answer is 3.", "--json")[0] == 0


def path(index, text, answer, **other):
    return builders.path(index, answer, text, question_id="q7", **other)


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "run")
    run.create()
    run.save_settings("sample", {"task": "number", "task_name": "number", "chat": "off"})
    paths = [
        path(1, " 6 * 7 = 41. The answer is 41.", "41"),
        path(0, "<think>5</think> [red]6 * 7 = 42. The answer is 42.", "42"),
        path(2, " 7 * 6 = 42. The answer is 42.", "42"),
        path(3, " I wonder", None, stop_reason="length"),
    ]
    other = [Question(id="q8", question="What is 1 + 1?")]
    write_records(run.questions, [Question(id="q7", question="What is 6 * 7?"), *other])
    write_records(run.paths, paths)
    return run, paths


def test_show_before_and_after_the_vote(run):
    folder, paths = run
    ask = ("show", str(folder.root), "--question", "q7")
    code, out, _ = call(*ask)
    assert code == 0
    assert "What is 6 * 7?" in out and "(2 questions in the run)" in out
    assert "<think>5</think> [red]6 * 7 = 42. The answer is >>42<<." in out
    assert out.index("path 0") < out.index("path 1") < out.index("path 3")
    assert "no answer, 9 tokens, cut off" in out
    assert "no vote yet" in out
    write_records(folder.votes, [vote("q7", paths)])
    out = call(*ask)[1]
    assert "path 2   42 by marker, 9 tokens, kept" in out
    assert "path 1   41 by marker, 9 tokens, a false equation\n" in out
    assert "winner 42: share 67%, margin 33%, 2 paths kept; ballots: 3 of 4 paths" in out
    told = json.loads(call(*ask, "--json")[1])
    spans = [p["path"]["text"][p["start"] : p["end"]] for p in told["paths"] if p["start"]]
    assert spans == ["42", "41", "42"]
    assert told["vote"]["ballots"] == {"42": 2, "41": 1}
    silent = [p for p in paths if p.predicted_answer is None]
    write_records(folder.paths, silent)
    write_records(folder.votes, [vote("q7", silent)])
    code, out, _ = call(*ask)
    assert code == 0 and "no winner; ballots: 0 of 1 path (" in out


def test_show_lists_the_questions(run):
    folder, paths = run
    hostile = Question(id="q9", question=f"{HOSTILE}\nso " + "long " * 40)
    with folder.questions.open("ab") as file:
        file.write(encode_line(hostile))
    write_records(folder.votes, [vote("q7", paths)])
    out = call("show", str(folder.root))[1]
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["question", "share", "winner", "kept"]
    assert rows[1] == ["q7", "67%", "42", "2", "What", "is", "6", "*", "7?"]
    assert rows[2] == ["q8", "-", "-", "-", "What", "is", "1", "+", "1?"]
    assert "\\x1b[2J" in out and rows[3][-1].endswith("...") and len(rows) == 4
    assert not set(out) & set("\x1b\x9b\x07\u202e")
    told = json.loads(call("show", str(folder.root), "--json")[1])
    assert [q["id"] for q in told[:2]] == ["q7", "q8"]
    assert (told[0]["predicted_answer"], told[1]["predicted_answer"]) == ("42", None)


def test_what_cannot_be_shown_is_one_line(tmp_path, run):
    code, _, err = call("show", str(run[0].root), "--question", "q77")
    assert code == 1 and "no question 'q77'" in err and "the first one is q7" in err
    run[0].questions.unlink()
    for folder, told in ((tmp_path, "not a run folder"), (run[0].root, "no questions in it yet")):
        code, _, err = call("show", str(folder))
        assert code == 1 and told in err


def test_tasks_are_listed_and_shown():
    _, out, _ = call("tasks")
    lines = [x for x in out.splitlines() if x.strip() and not x.startswith(" ")]  # not wrapped ones
    assert [line.split()[0] for line in lines][1:] == task_names()
    code, out, _ = call("tasks", "show", "strategyqa")
    assert code == 0 and 'kind = "yesno"' in out and "[[exemplars]]" in out
    assert json.loads(call("tasks", "show", "aqua", "--json")[1])["chance"] == 0.2


def test_a_set_names_its_task_and_its_results(tmp_path, gguf):
    assert set_name("gsm8k:data/test.jsonl") == "gsm8k-test"
    assert set_name("data/test.jsonl") == "test"
    copy = tmp_path / "m.gguf"
    shutil.copy(gguf, copy)
    model = find_model(str(copy))
    assert pick_task("auto", model, "strategyqa:dev.json").name == "strategyqa"
    assert pick_task("svamp", model, "strategyqa:dev.json").name == "svamp"
    assert pick_task("auto", model, "dev.jsonl").name in ("number", "tinymath")
