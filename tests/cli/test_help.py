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

LMSI = typer.main.get_command(app)
COMMANDS = [[], *([name] for name in LMSI.commands), ["tasks", "show"], ["models", "show"]]
HEAVY = {"torch", "transformers", "peft", "llama_cpp", "numpy", "scipy", "gguf"}


def help_of(*command, which="--help"):
    done = CliRunner().invoke(app, [*command, which], env={"COLUMNS": "250"})
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_option_s_variable_has_its_flag_s_name(command):
    found = LMSI
    for name in command:
        found = found.commands[name]
    for option in found.params:
        if option.param_type_name == "option" and option.allow_from_autoenv:
            own = option.envvar or "_".join(["lmsi", *command, option.name]).upper()
            flag = max(option.opts, key=len).lstrip("-").replace("-", "_").upper()
            assert own.endswith(f"_{flag}")


@pytest.mark.parametrize("command", COMMANDS[1:], ids=" ".join)
def test_help_has_an_example_that_parses(command):
    example = re.search(r"Example: (lmsi .*)", help_of(*command))
    words = shlex.split(example[1])
    assert words[: len(command) + 1] == ["lmsi", *command]
    # parsed by the real parser, which stops at a wrong flag or a missing argument
    context = LMSI.make_context("lmsi", words[1:], resilient_parsing=False)
    name, sub, rest = LMSI.resolve_command(context, words[1:])
    sub.make_context(name, rest, parent=context)


@pytest.mark.parametrize("command", [[name] for name in TABLES], ids=" ".join)
def test_help_shows_every_setting_and_its_default(command):
    text, short = help_of(*command, which="--help-all"), help_of(*command)
    for name in TABLES[command[0]].__struct_fields__:
        assert re.search(rf"--{name.replace('_', '-')}\b|--set {name}: \w", text), name
    flags, everyday = (set(re.findall(r"│ [ *]*(--[a-z-]+)", page)) for page in (text, short))
    assert len(flags) > len(everyday) and "--help-all" in short
    assert all(flag in short for flag in flags)
    typed = {"vote": ("0.25", "true", "auto"), "eval": ("cot,sc,direct",)}
    for told in typed.get(command[0], ()):
        assert f"[default: {told}]" in " ".join(text.split())


def test_importing_loads_nothing_and_help_and_reports_no_heavy_package():
    code = f"""
import sys, lmsi_cli
assert not [name for name in sys.modules if name.startswith("lmsi_cli.")]
assert set(lmsi_cli.__all__) <= set(dir(lmsi_cli)) and not hasattr(lmsi_cli, "sampel")
from typer.testing import CliRunner
from lmsi_cli.cli.main import app
for command in {COMMANDS}:
    assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0, command
    assert not {HEAVY} & set(sys.modules), command
lmsi_cli.report
assert not {{"torch", "transformers", "llama_cpp"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
