"""`lmsi init`, settings from the environment, and what the shell completes."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from commands import give_answers, paths_in, refused, settings
from typer.testing import CliRunner

from lmsi_cli.cli.main import app
from lmsi_cli.run_folder import RunDir

LMSI = [sys.executable, "-m", "lmsi_cli"]


def test_a_config_file_that_serves(folder, lmsi):
    done = lmsi("init", "q.jsonl", "-m", "m.gguf")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.endswith("next: lmsi sample q.jsonl -o runs/q --config lmsi.toml\n")
    file = Path("lmsi.toml")
    file.write_text(file.read_text().replace("# paths = 16", "paths = 1"))
    words = "sample q.jsonl -o runs/q --config lmsi.toml --threads 1 --max-tokens 4"
    assert lmsi(*words.split()).exit_code == 0
    assert len(paths_in("runs/q")) == 2
    body = file.read_text().partition("\n\n")[2]
    file.write_text(body.replace("\n# ", "\n"))  # what stands there holds if it is taken in
    refused(lmsi("vote", "runs/q", "--config", "lmsi.toml"), "none of 2 paths can vote", notes=2)


@pytest.mark.parametrize(
    ("words", "told", "hint"),
    [
        ("init q.jsonl -m m.gguf", "lmsi.toml: is there already", "-o"),
        ("init q.jsonl -o x.toml", "no model given", "-m MODEL"),
        ("init -m m.gguf -o x.toml", "no questions given", "QUESTIONS"),
    ],
)
def test_a_mistake_writes_nothing(folder, lmsi, words, told, hint):
    Path("lmsi.toml").write_text("mine")
    refused(lmsi(*words.split()), told, hint=hint)
    assert Path("lmsi.toml").read_text() == "mine" and not Path("x.toml").exists()


def test_it_asks_at_a_terminal(folder):
    ours, theirs = pty.openpty()
    env = {**os.environ, "LMSI_INIT_OUT": "mine.toml"}
    os.write(ours, b"1\nno.jsonl\nq.jsonl\n")
    done = subprocess.run(
        [*LMSI, "init"], stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, env=env, timeout=60
    )
    assert done.returncode == 0 and done.stdout.startswith(b"mine.toml is written; next: lmsi")
    assert 'model = "m.gguf"' in Path("mine.toml").read_text()
    shown = os.read(ours, 4096).decode()
    assert "1  m.gguf" in shown and "no.jsonl: no such file" in shown


@pytest.mark.parametrize(
    ("file", "variables", "words", "found"),
    [
        ("min_votes = 3", {}, "", 3),
        ("min_votes = 3", {"LMSI_VOTE_MIN_VOTES": "4"}, "", 4),
        ("min_votes = 3", {"LMSI_VOTE_MIN_VOTES": ""}, "", 3),
        ("", {"LMSI_VOTE_MIN_VOTES": "4"}, "--set min_votes=5 --min-votes 6", 6),
        ("", {"LMSI_CONFIG": "c.toml", "LMSI_SET": "min_votes=7"}, "", 7),
        ("pairs = 3", {"LMSI_VOTE_PAIRS": "4"}, "--set pairs=5", 5),
        ("", {"LMSI_VOTE_FORMATS": "cot-few,cot-zero", "LMSI_VERSION": "1"}, "", 2),
    ],
)
@pytest.mark.usefixtures("sampled")
def test_flags_before_variables_before_the_file(lmsi, monkeypatch, file, variables, words, found):
    give_answers(RunDir("r"))
    Path("c.toml").write_text(f"[vote]\n{file}\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    lmsi("vote", "r", "--config", "c.toml", *words.split())
    used = settings(table="vote")
    assert found in (used["min_votes"], used["pairs"], len(used["formats"]))


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("LMSI_VOTE_MIN_SHARE", "2", "LMSI_VOTE_MIN_SHARE: min_share: expected a number"),
        ("LMSI_TRAIN_ALARMS", "maybe", "LMSI_TRAIN_ALARMS: alarms: expected true or false"),
        ("LMSI_CONFIG", "no.toml", "no.toml: cannot be read"),
    ],
)
def test_a_variable_that_is_wrong_is_named(sampled, lmsi, monkeypatch, variable, value, told):
    monkeypatch.setenv(variable, value)
    refused(lmsi("vote", "r"), told)


@pytest.mark.parametrize(
    ("shell", "words", "found"),
    [
        ("bash", "vote runs/f", "runs/first"),
        ("zsh", "vote ./", "./runs/first"),
        ("fish", "sample q.jsonl -m m", "m.gguf"),
        ("bash", "sample q.jsonl --task gs", "gsm8k"),
        ("zsh", "models show tinymath-", "tinymath-small"),
        ("fish", "tasks show gs", "gsm8k"),
        ("bash", "sample q.jsonl --thr", "--threads"),
    ],
)
def test_the_shell_completes_names(folder, shell, words, found):
    Path("runs/first").mkdir(parents=True)
    Path("runs/first/run.toml").touch()
    line = f"lmsi {words}"
    asked = {"_LMSI_COMPLETE": f"complete_{shell}", "COMP_WORDS": line,
             "COMP_CWORD": str(len(line.split()) - 1), "_TYPER_COMPLETE_ARGS": line,
             "_TYPER_COMPLETE_FISH_ACTION": "get-args"}  # fmt: skip
    done = CliRunner().invoke(app, [], env=asked, prog_name="lmsi")
    assert found in done.stdout.replace('"', " ").split(), done.stdout
