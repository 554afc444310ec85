"""Imports point down: a module may import only layers strictly below its own."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lmsi_cli"

# Lowest first. A name is a module or a sub-package of lmsi_cli; modules of one sub-package may
# import each other, but never in a circle.
LAYERS = [
    {"errors"},
    {"records", "apart"},
    {"config", "formats"},
    {"settings"},
    {"answers", "atomic", "equations", "splits", "stopping", "thinking"},
    {"aside", "hub", "jsonl"},
    {"run_folder"},
    {"prompts", "voting", "stats", "catalog", "contamination", "resume"},
    {"verdict", "generation", "parquet"},
    {"rounds"},
    {"engine", "training", "tasks", "reporting"},
    {"cluster"},
    {"stages"},
    {"cli"},
    {"__main__", "api"},
]
LEVEL = {name: i for i, layer in enumerate(LAYERS) for name in layer}
MODULES = [p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py"]


def runtime_nodes(tree):
    """Every node but those of ``if TYPE_CHECKING`` blocks, which are never executed."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from runtime_nodes(node)


def imported(path, nodes=runtime_nodes):
    """Dotted names below lmsi_cli that a file imports, in whatever spelling."""
    own = ("lmsi_cli", *path.relative_to(PACKAGE).with_suffix("").parts)
    for node in nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*own[: -node.level], *filter(None, [node.module])])
            names = [f"{base}.{a.name}" for a in node.names]
        else:
            continue
        for name in names:
            if name.startswith("lmsi_cli."):
                yield tuple(name.split(".")[1:])


def complaint(path, target):
    own = path.relative_to(PACKAGE).with_suffix("").parts
    mine, theirs = own[0], target[0]
    if theirs not in LEVEL:
        return f"{theirs} is in no layer"
    if mine == theirs:
        return None
    return None if LEVEL[theirs] < LEVEL[mine] else f"{mine} may not import {theirs}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    bad = {".".join(t): why for t in imported(path) if (why := complaint(path, t))}
    assert not bad


def module(path):
    """A file's dotted name below lmsi_cli."""
    return tuple(p for p in path.relative_to(PACKAGE).with_suffix("").parts if p != "__init__")


def imports_of(path, names):
    """The modules among ``names`` that a file imports anywhere; a name may be one of their own."""
    targets = (next((n for n in (t, t[:-1]) if n in names), None) for t in imported(path, ast.walk))
    return set(targets) - {None, module(path)}


def test_no_imports_go_in_a_circle():
    """Not even lazy ones, nor those for the type checker alone."""
    names = {module(p) for p in MODULES}
    graph = {module(p): imports_of(p, names) for p in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(names)  # else CycleError


def test_an_upward_import_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    bad = tmp_path / "errors.py"
    for source in (
        "from lmsi_cli.cli import main",
        "import lmsi_cli.cli",
        "from lmsi_cli import cli",
        "from . import cli",
        "from .cli import main",
    ):
        bad.write_text(source)
        assert [complaint(bad, t) for t in imported(bad)] == ["errors may not import cli"]
