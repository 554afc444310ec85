"""The docs: a site without a dead link that works from disk, and a notebook that runs."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from lmsi_cli.cli.main import app

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(find_spec("material") is None, reason="needs pip install '.[docs]'")
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


@pytest.mark.slow  # nbclient takes seconds to import
@pytest.mark.model
def test_the_notebook_runs_in_a_kernel_cell_after_cell(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # threads that spin starve on shared cores
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=place).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    shown = [o.data for o in outputs if o.output_type == "execute_result"]
    tables = "".join(data.get("text/html", "") for data in shown)
    for title in ("sample", "vote", "train", "form and cost of an answer"):
        assert f"<caption>{title}</caption>" in tables
    assert (tmp_path / "runs" / "notebook" / "adapter" / "adapter.gguf").exists()
