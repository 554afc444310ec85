"""A report as one HTML file that needs no network: text, charts, and every question on demand.

All text from models and files goes through jinja2's autoescaping, or into compressed JSON that the
page's script puts in as text. A content security policy allows that one script and style sheet, by
their hashes, and nothing else: were a text ever taken for markup, it could still not run. Knows
``Digest`` and the questions to browse, nothing of run folders. The blobs of a page:

    {"set0": "H4sIAA...", "set0-0": "H4sIAA...", "set0-1": "H4sIAA...", "set1": "H4sIAA..."}
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from rich.text import Text

from lmsi_cli.reporting.charts import span, svg, swatch
from lmsi_cli.reporting.digest import Digest
from lmsi_cli.reporting.formats import printable
from lmsi_cli.reporting.questions import QuestionSet
from lmsi_cli.reporting.text import Part, chart_sheet, flat

if TYPE_CHECKING:
    import jinja2

SHORT = 12  # rows of a table that is open at first
CHUNK = 20  # questions whose paths are unpacked together


def page(digest: Digest, sets: Sequence[QuestionSet], sentence: str, version: str) -> str:
    """The whole file.

    Args:
        digest: All but the questions.
        sets: Questions to browse; sets without any are left out.
        sentence: A sentence on what can be browsed.
        version: Of lmsi.
    """
    from markupsafe import Markup

    env = _environment()
    browsed = [s for s in sets if s.questions]
    css, js = (_own(env, name) for name in ("page.css", "page.js"))
    return env.get_template("page.html.j2").render(
        digest=digest,
        sentence=sentence,
        sets=[s.name for s in browsed],
        blobs=dict(_blobs(browsed)),
        version=version,
        svg=svg,
        span=span,
        swatch=swatch,
        figures=chart_sheet,
        short=SHORT,
        css=Markup(css),
        js=Markup(js),
        css_hash=_hash(css),
        js_hash=_hash(js),
    )


def fragment(*parts: Part) -> str:
    """What a command shows as HTML, for a notebook: sentences and tables without a style."""
    shown = [str(part) if isinstance(part, Text) else part for part in flat(parts)]
    return _environment().get_template("fragment.html.j2").render(parts=shown)


def _environment() -> jinja2.Environment:
    import jinja2

    env = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        loader=jinja2.PackageLoader(__package__, "page"),
    )
    env.finalize = lambda value: printable(value) if type(value) is str else value
    return env


def _own(env: jinja2.Environment, name: str) -> str:
    assert env.loader is not None
    return str(env.loader.get_source(env, name)[0])


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _blobs(sets: Sequence[QuestionSet]) -> Iterator[tuple[str, str]]:
    """All questions of a set in one blob, their paths in others, by what the script calls them."""
    for number, one in enumerate(sets):
        rows = []
        for n, question in enumerate(one.questions):
            row: dict[str, Any] = msgspec.to_builtins(question)
            del row["paths"]
            rows.append({**row, "n": n})
        yield f"set{number}", _pack({"kind": one.kind, "chunk": CHUNK, "rows": rows})
        for first in range(0, len(one.questions), CHUNK):
            paths = [q.paths for q in one.questions[first : first + CHUNK]]
            yield f"set{number}-{first // CHUNK}", _pack(paths)


def _pack(value: Any) -> str:  # noqa: ANN401 - anything that is JSON
    # mtime=0: the same run gives the same file
    return base64.b64encode(gzip.compress(msgspec.json.encode(value), 9, mtime=0)).decode()
