"""Imports point down: a module may import only layers strictly below its own."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

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


def named(path):
    """A file's dotted name below lmsi_cli."""
    return tuple(p for p in path.relative_to(PACKAGE).with_suffix("").parts if p != "__init__")


MODULES = {named(p): p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py"}


def imports_of(name):
    """The modules that a module imports anywhere, also late or for the type checker alone."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import in {name}"
            found |= {f"{node.module}.{a.name}" for a in node.names}
    below = (tuple(own.split(".")[1:]) for own in found if own.startswith("lmsi_cli."))
    return {next((t for t in (own, own[:-1]) if t in MODULES), name) for own in below} - {name}


IMPORTS = {name: imports_of(name) for name in MODULES}


def test_imports_point_down():
    pairs = [(name, other) for name, found in IMPORTS.items() for other in found]
    apart = [(name, other) for name, other in pairs if name[0] != other[0]]
    assert apart
    assert not [(a, b) for a, b in apart if LEVEL[a[0]] <= LEVEL[b[0]]]


def test_no_imports_go_in_a_circle():
    assert len([*TopologicalSorter(IMPORTS).static_order()]) == len(MODULES)  # else CycleError
