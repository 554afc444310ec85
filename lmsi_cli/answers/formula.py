r"""Bring a LaTeX expression to its canonical spelling with math-verify, in a child process.

Knows notation and sympy, nothing of answers. It runs apart from lmsi (``apart.py``) because
sympy can work on one line of text for hours, much of that inside C, where only killing the process
stops it. Each line in is a JSON string; each line out is its spelling, or null:

    "\\frac{2}{1+\\sqrt{3}}"  ->  "-1 + \\sqrt{3}"

Only math-verify's LaTeX grammar reads the text: its other reader hands text to ``eval``.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

from lmsi_cli.answers.numerals import spell
from lmsi_cli.apart import serve

MEMORY = 4 << 30  # bytes of address space; an ordinary expression needs a tenth


def spelled(latex: str) -> str | None:
    """Parse an expression and write it canonically; None if the grammar does not know it."""
    from math_verify import LatexExtractionConfig, parse

    config = (LatexExtractionConfig(),)
    found = parse(f"${latex}$", config, fallback_mode="no_fallback", parsing_timeout=None)
    return _form(found[0]) if found and not isinstance(found[0], str) else None


def _form(expression: Any) -> str | None:  # noqa: ANN401 - sympy's own types
    """Expand products, reduce quotients to lowest terms, and clear roots from denominators.

    The result is LaTeX again: the winner of a vote goes into training sentences, and is read back.
    """
    import sympy

    if isinstance(expression, sympy.Interval):
        return None  # (2, 1) may as well be a point, and as an interval it is empty
    if isinstance(expression, sympy.FiniteSet):
        return r"\{" + ", ".join(sorted(str(_form(e)) for e in expression.args)) + r"\}"
    if not isinstance(expression, sympy.Expr):
        return str(sympy.latex(expression))
    lowest = sympy.cancel(sympy.nsimplify(expression, rational=True))  # 0.5 x is x / 2
    plain = sympy.expand(sympy.radsimp(sympy.sqrtdenest(lowest)))
    if plain.is_Rational:
        return spell(Fraction(int(plain.p), int(plain.q)))
    return str(sympy.latex(plain))


if __name__ == "__main__":
    spelled("x^2")  # builds the grammar's tables, once
    serve(spelled, float(sys.argv[1]), MEMORY)
