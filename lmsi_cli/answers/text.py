r"""Free text: the reply itself is the answer.

Knows nothing but blanks. Two texts agree only word for word, so a vote over them says little:

    canonical: "  To be,\n or not. " -> "To be, or not."
"""

from __future__ import annotations

from lmsi_cli.answers.places import Asked, Kind, Rule, Span, anywhere
from lmsi_cli.answers.rules import MARKER, REFUSAL


def _find(text: str, place: Span, _asked: Asked) -> Span | None:
    """Take the whole place without its outer blanks."""
    inner = text[place.start : place.end]
    start = place.end - len(inner.lstrip())
    end = place.start + len(inner.rstrip())
    return Span(start, end) if start < end else None


def _canonical(text: str, _asked: Asked) -> str | None:
    """Collapse blanks; None if nothing else is there."""
    return " ".join(text.split()) or None


KIND = Kind(
    (MARKER, REFUSAL, Rule("whole", anywhere, states=False)), _find, _canonical, reach=10**9
)
