"""`lmsi init`, settings from the environment, and what the shell completes."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from commands import give_answers, paths_in, refused, settings, works
from typer.testing import CliRunner

from lmsi_cli.cli.main import app
from lmsi_cli.run_folder import RunDir

LMSI = [sys.executable, "-m", "lmsi_cli"]


@pytest.mark.usefixtures("folder")
def test_a_config_file_and_a_next_command_that_serve(lmsi):
    done = works("init", "q.jsonl", "-m", "m.gguf")
    file = Path("lmsi.toml")
    file.write_text(file.read_text().replace("# paths = 16", "paths = 1"))
    following = done.stdout.partition("next: lmsi ")[2].split()
    works(*following, "--threads", 1, "--max-tokens", 4)
    assert len(paths_in("runs/q")) == 2
    body = file.read_text().partition("\n\n")[2]
    file.write_text(body.replace("\n# ", "\n"))  # what stands there holds if it is taken in
    refused(lmsi("vote", "runs/q", "--config", "lmsi.toml"), "none of 2 paths can vote", notes=2)


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


VOTES = "LMSI_VOTE_MIN_VOTES"
ALWAYS = {"LMSI_CONFIG": "c.toml", "LMSI_VOTE_PAIRS": "4", "LMSI_VOTE_FORMATS": "cot-few,cot-zero",
          "LMSI_VERSION": "1"}  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "words", "votes"),
    [
        ({}, "", 3),
        ({VOTES: ""}, "", 3),
        ({VOTES: "4"}, "", 4),
        ({VOTES: "4", "LMSI_SET": "min_votes=5"}, "", 5),
        ({VOTES: "4"}, "--set min_votes=5", 5),
        ({VOTES: "4"}, "--set min_votes=5 --min-votes 6", 6),
    ],
)
@pytest.mark.usefixtures("sampled")
def test_flags_before_variables_before_the_file(lmsi, monkeypatch, variables, words, votes):
    give_answers(RunDir("r"))
    Path("c.toml").write_text("[vote]\nmin_votes = 3\npairs = 3\n")
    for name, value in (ALWAYS | variables).items():
        monkeypatch.setenv(name, value)
    lmsi("vote", "r", *words.split())
    used = settings(table="vote")
    assert (used["min_votes"], used["pairs"]) == (votes, 4)
    assert used["formats"] == ["cot-few", "cot-zero"]


def test_a_variable_that_is_wrong_is_named(lmsi, monkeypatch):
    monkeypatch.setenv("LMSI_TRAIN_ALARMS", "maybe")
    refused(lmsi("vote", "r"), "LMSI_TRAIN_ALARMS: alarms: expected true or false")


@pytest.mark.parametrize(
    ("shell", "words", "found"),
    [
        ("bash", "vote runs/f", "runs/first"),
        ("zsh", "vote ./", "./runs/first"),
        ("fish", "sample q.jsonl -m m", "m.gguf"),
        ("bash", "sample q.jsonl --task gs", "gsm8k"),
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
