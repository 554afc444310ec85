"""Put the experiments' tables between the marks of docs/paper.md, and draw its plots.

    python -m benchmarks.paper.write

A mark is a pair of comments, ``<!-- table NAME -->`` and ``<!-- end NAME -->``; what stands between
them is replaced, everything else is left as a person wrote it. Knows experiments by name alone.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import msgspec

from benchmarks.paper.__main__ import RESULTS
from benchmarks.paper.plots import draw
from benchmarks.paper.records import Result
from benchmarks.paper.sections import SECTIONS, combined

DOC = Path(__file__).parents[2] / "docs" / "paper.md"
MARK = r"<!-- table {0} -->\n.*?<!-- end {0} -->"


def main() -> None:
    """Fill in all tables whose results are there, and draw the plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--doc", type=Path, default=DOC)
    given = parser.parse_args()
    results = load(given.results)
    text = given.doc.read_text()
    for name in re.findall(r"<!-- table ([\w-]+) -->", text):
        text = filled(text, name, results)
    given.doc.write_text(text)
    draw(results, given.doc.parent / "paper")


def load(folder: Path) -> dict[str, list[Result]]:
    """All results, by experiment."""
    files = sorted(folder.glob("*.json"))
    return {f.stem: msgspec.json.decode(f.read_bytes(), type=list[Result]) for f in files}


def filled(text: str, name: str, results: dict[str, list[Result]]) -> str:
    """Replace one table; one without results says so."""
    wanted = combined(name, results)
    made = SECTIONS[name](wanted) if wanted else "Not run yet."
    put = f"<!-- table {name} -->\n{made}\n<!-- end {name} -->"
    return re.sub(MARK.format(re.escape(name)), lambda _: put, text, flags=re.DOTALL)


if __name__ == "__main__":
    main()
