"""`make docs`: no dead link, every command, and a site that works from disk without a network."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from lmsi_cli.cli.main import app

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("material") is None, reason="needs pip install '.[docs]'"
)


def test_the_site_is_whole_and_asks_nobody(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(build, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    commands = (tmp_path / "commands.html").read_text()
    for name, command in typer.main.get_command(app).commands.items():
        assert f"<code>lmsi {name}</code>" in commands
        assert all(p.opts[-1] in commands for p in command.params if p.param_type_name == "option")
    for page in tmp_path.glob("[!4]*.html"):  # a server alone shows 404.html
        text = page.read_text()
        assert not re.findall(r"<(?:script|img|iframe)[^>]* src=\"?https?:", text), page.name
        assert not re.findall(r"<link[^>]* href=\"?https?:", text), page.name
        for target in re.findall(r"<a[^>]* href=\"([^\"#:]+)[\"#]", text):
            assert (tmp_path / target).is_file(), (page.name, target)
