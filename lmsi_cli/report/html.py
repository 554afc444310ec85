"""A report as one HTML file that needs no network: text, charts, and every question on demand.

All text from models and files goes through jinja2's autoescaping, or into compressed JSON that the
page's script puts in as text. A content security policy allows that one script and style sheet, by
their hashes, and nothing else: were a text ever taken for markup, it could still not run. Knows
``Digest`` and ``Catalogue``, nothing of run folders. The blobs of a page:

    {"set0": "H4sIAA...", "set0-0": "H4sIAA...", "set0-1": "H4sIAA...", "set1": "H4sIAA..."}
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.records import Record
from lmsi_cli.report.digest import Chart, Digest, Section
from lmsi_cli.report.plain import chart_sheet
from lmsi_cli.report.printable import printable
from lmsi_cli.report.svg import draw

SHORT = 12  # rows of a table that is open at first
CHUNK = 20  # questions whose paths are unpacked together


class PathView(Record, frozen=True, kw_only=True):
    """A path as it is shown; ``text[start:end]`` is its answer, if that was found."""

    told: str
    text: str
    start: int | None = None
    end: int | None = None
    kept: bool = False


class QuestionView(Record, frozen=True, kw_only=True):
    """A question as it is shown; ``kinds`` and ``classes`` are what it can be found by.

    ``ballots`` are answers and their counts; ``share`` is 0 to 1.
    """

    id: str
    question: str
    told: str
    kinds: tuple[str, ...]
    paths: tuple[PathView, ...]
    family: str | None = None
    winner: str | None = None
    share: float = 0.0
    ballots: tuple[tuple[str, int], ...] = ()
    classes: dict[str, int] = msgspec.field(default_factory=dict)


class QuestionSet(NamedTuple):
    """Questions to be browsed; ``kind`` is ``run`` or ``exam``."""

    name: str
    kind: str
    questions: Sequence[QuestionView]


class Packed(NamedTuple):
    """What the template needs of the questions."""

    told: str
    sets: list[str]
    blobs: dict[str, str]


def page(digest: Digest, sets: Sequence[QuestionSet], told: str, version: str) -> str:
    """The whole file.

    Args:
        digest: All but the questions.
        sets: Questions to browse; sets without any are left out.
        told: A sentence on what can be browsed.
        version: Of lmsi.
    """
    import jinja2
    from markupsafe import Markup

    files = resources.files(__package__) / "page"
    css, js = _own(files / "page.css"), _own(files / "page.js")
    env = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    env.filters["printable"] = printable
    env.finalize = lambda value: printable(value) if type(value) is str else value
    part = env.from_string((files / "section.html.j2").read_text(encoding="utf-8"))

    def picture(chart: Chart, key: str) -> Markup:
        return Markup(draw(chart, key))

    def section(s: Section) -> Markup:
        return Markup(part.render(s=s, draw=picture, figures=chart_sheet, short=SHORT))

    return env.from_string((files / "page.html.j2").read_text(encoding="utf-8")).render(
        digest=digest,
        section=section,
        questions=_packed([s for s in sets if s.questions], told),
        version=version,
        css=Markup(css),
        js=Markup(js),
        css_hash=_hash(css),
        js_hash=_hash(js),
    )


def _own(file: Any) -> str:  # noqa: ANN401 - importlib's Traversable
    return str(file.read_text(encoding="utf-8"))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _packed(sets: Sequence[QuestionSet], told: str) -> Packed | None:
    if not sets:
        return None
    blobs: dict[str, str] = {}
    for number, one in enumerate(sets):
        rows = [_row(n, q) for n, q in enumerate(one.questions)]
        blobs[f"set{number}"] = _pack({"kind": one.kind, "chunk": CHUNK, "rows": rows})
        for first in range(0, len(one.questions), CHUNK):
            paths = [q.paths for q in one.questions[first : first + CHUNK]]
            blobs[f"set{number}-{first // CHUNK}"] = _pack(paths)
    return Packed(told, [s.name for s in sets], blobs)


def _row(number: int, question: QuestionView) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(question)
    del row["paths"]
    return {**row, "n": number}


def _pack(value: Any) -> str:  # noqa: ANN401 - anything that is JSON
    # mtime=0: the same run gives the same file
    return base64.b64encode(gzip.compress(msgspec.json.encode(value), 9, mtime=0)).decode()
