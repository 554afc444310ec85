"""Every command explains itself: defaults, an example that parses, and no heavy import."""

import re
import shlex
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from lmsi_cli.cli.main import app
from lmsi_cli.config import TABLES

COMMANDS = [
    ["run"], ["sample"], ["vote"], ["train"], ["eval"], ["compare"], ["watch"], ["doctor"],
    ["questions"], ["exemplars"], ["export"], ["report"], ["show"], ["explain"],
    ["tasks"],
    ["tasks", "list"], ["tasks", "show"], ["models"], ["models", "list"], ["models", "show"],
]  # fmt: skip
HEAVY = {"torch", "transformers", "peft", "llama_cpp", "numpy", "scipy", "gguf"}


def help_of(*command):
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0
    assert done.stderr == ""
    return done.stdout


def test_all_commands_are_listed_here():
    listed = help_of().partition("Commands:")[2].split("\n  ")
    assert {line.split()[0] for line in listed if line.strip()} == {c[0] for c in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_that_parses(command):
    example = re.search(r"Example: (lmsi .*(?:\n {2,}.*\S)*)", help_of(*command))
    assert example
    words = shlex.split(" ".join(example[1].split()))
    assert words[: len(command) + 1] == ["lmsi", *command]
    # parsed by the real parser, which stops at a wrong flag or a missing argument
    group = typer.main.get_command(app)
    context = group.make_context("lmsi", words[1:], resilient_parsing=False)
    name, sub, rest = group.resolve_command(context, words[1:])
    sub.make_context(name, rest, parent=context)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] in TABLES], ids=" ".join)
def test_help_shows_every_setting_and_its_default(command):
    text = " ".join(help_of(*command).split())
    kind = TABLES[command[0]]
    for field in kind.__struct_fields__:
        assert f"--{field.replace('_', '-')}" in text or f"--adapter-{field}" in text
    assert text.count("[default: ") >= len(kind.__struct_fields__)
    assert "--config" in text


def test_defaults_are_shown_as_they_would_be_typed():
    text = " ".join(help_of("vote").split())
    for told in (
        "[default: 0.25]",
        "[default: yes]",
        "[default: cot-few,direct-few,cot-zero,direct-zero]",
    ):
        assert told in text


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_needs_no_heavy_package(command):
    code = (
        "import sys; from lmsi_cli.cli.main import app; from typer.testing import CliRunner; "
        "done = CliRunner().invoke(app, sys.argv[1:]); "
        f"sys.exit(str(done.exit_code or {HEAVY} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.strip() == ""
