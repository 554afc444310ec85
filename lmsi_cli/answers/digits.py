r"""Digits of other scripts and widths, as the ASCII digits that they are.

Knows characters, one for one, so that positions in a text stay what they are:

    ascii_digits("\uff14\uff12 pens, \u0663 each") -> "42 pens, 3 each"
"""

from __future__ import annotations

import re
import unicodedata

_WIDE = range(0xFF01, 0xFF5F)  # full-width forms of ASCII
_DIGITS = (
    range(0x0660, 0x066A),  # Arabic
    range(0x06F0, 0x06FA),  # Persian, Urdu
    range(0x0966, 0x0970),  # Devanagari
    range(0x09E6, 0x09F0),  # Bengali
    range(0x1D7CE, 0x1D800),  # mathematical: bold, double-struck, sans-serif, monospace
)
_ASCII = {code: chr(code - 0xFEE0) for code in _WIDE} | {
    code: str(unicodedata.decimal(chr(code))) for block in _DIGITS for code in block
}
_ANY = re.compile(f"[{''.join(f'{chr(b[0])}-{chr(b[-1])}' for b in (_WIDE, *_DIGITS))}]")


def ascii_digits(text: str) -> str:
    """Replace each of these digits, and each full-width sign, by its ASCII form."""
    return text if text.isascii() or not _ANY.search(text) else text.translate(_ASCII)
