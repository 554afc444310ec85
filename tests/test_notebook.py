"""The notebook of the docs, run as a person runs it: in a kernel, cell after cell."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.model]  # nbclient takes seconds to import


def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # threads that spin starve on shared cores
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    wrong = nbformat.v4.new_code_cell('lmsi_cli.vote("runs/notebook", min_share=2)')
    wrong.metadata["tags"] = ["raises-exception"]
    notebook.cells.append(wrong)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=place).execute()
    outputs = [cell.get("outputs", []) for cell in notebook.cells]
    shown = [o.data for cell in outputs for o in cell if o.output_type == "execute_result"]
    tables = "".join(data.get("text/html", "") for data in shown)
    for title in ("sample", "vote", "train", "form and cost of an answer"):
        assert f"<caption>{title}</caption>" in tables
    assert (tmp_path / "runs" / "notebook" / "adapter" / "adapter.gguf").exists()
    [error] = outputs[-1]
    assert "min_share: expected a number, at least 0 and at most 1" in error.traceback[0]
    assert not [line for line in error.traceback if "Traceback" in line]
