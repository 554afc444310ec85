r"""One LaTeX expression to its one spelling, through math-verify: the work of a child process.

Knows notation and sympy, nothing of answers. It runs apart from lmsi (``apart.py``) because
sympy can think for hours about a line of text, and much of that inside C, where only the death of
the process ends it. A line in is a JSON string, a line out its spelling, or null:

    "\\frac{2}{1+\\sqrt{3}}"  ->  "-1 + \\sqrt{3}"

Only math-verify's LaTeX grammar reads the text: its other reader hands text to ``eval``.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

from lmsi_cli.answers.numerals import spell
from lmsi_cli.apart import serve

MEMORY = 4 << 30  # bytes of address space; the child of an honest expression needs a tenth


def spelled(latex: str) -> str | None:
    """Parse an expression and write it in one form; None if the grammar does not know it."""
    from math_verify import LatexExtractionConfig, parse

    config = (LatexExtractionConfig(),)
    found = parse(f"${latex}$", config, fallback_mode="no_fallback", parsing_timeout=None)
    return _form(found[0]) if found and not isinstance(found[0], str) else None


def _form(expression: Any) -> str | None:  # noqa: ANN401 - sympy's own types
    """Write products as sums, quotients in lowest terms, no root below a fraction's line.

    In LaTeX again: the winner of a vote goes into training sentences, and is read back.
    """
    import sympy

    if isinstance(expression, sympy.Interval):
        return None  # (2, 1) is a point as often, and as an interval it is empty
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
    spelled("x^2")  # the grammar's tables are made once
    serve(spelled, float(sys.argv[1]), MEMORY)
