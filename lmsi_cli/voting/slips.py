"""What a rationale's arithmetic does to its answer: slips, corrections, and slips put right.

Knows equations and numbers; nothing of votes, records or texts. A slip is an equation that is
false, as exact arithmetic sees it:

    steps = read_equations("3 + 4 = 8. 8 * 5 = 40.")    # one slip: 3 + 4 is 7
    put_right(steps, Fraction(40))                      # 35: the answer without it
"""

from __future__ import annotations

from collections.abc import Sequence

from lmsi_cli.equations import Equation, Number, value_of

Values = dict[Number, Number]  # a wrong number, and what it should have been


def slips(steps: Sequence[Equation]) -> list[Equation]:
    """List the equations that are false."""
    return [e for e in steps if not e.holds]


def is_corrected(steps: Sequence[Equation]) -> bool:
    """Say whether every slip is made good: the same expression comes again, with its true value.

    "3 * 14 = 44. Wait, 3 * 14 = 42." is corrected; a number that is silently replaced by another
    is not, since nothing in the text says so.
    """
    wrong = [i for i, e in enumerate(steps) if not e.holds]
    return bool(wrong) and all(_comes_again(steps[i], steps[i + 1 :]) for i in wrong)


def put_right(steps: Sequence[Equation], answer: Number) -> Number | None:
    """Undo the only slip of a rationale and carry the true value through to its answer.

    The slip's stated value (its last side) becomes the value of its first side. Wherever a later
    equation uses a number of the wrong value, it is computed anew, and what it stated is replaced
    in turn. A slip may also lie in the answer sentence alone: if every equation holds and the
    answer is not what the last one comes to, that is what it should have been.

    A number of the question that happens to equal the wrong value is replaced as well: then the
    result is wrong, and agrees with the winner only by chance.

    Returns:
        What the answer comes to, or ``None`` without equations, with several slips, or if the
        slip does not lead to the answer.
    """
    wrong = slips(steps)
    if not wrong:
        return steps[-1].values[-1] if steps else None
    if len(wrong) > 1:
        return None
    right: Values = {}
    for step in steps[steps.index(wrong[0]) :]:
        _carry(step, right)
    return right.get(answer)


def _comes_again(slip: Equation, later: Sequence[Equation]) -> bool:
    return any(e.holds and e.sides[0] == slip.sides[0] for e in later)


def _carry(step: Equation, right: Values) -> None:
    """Note what a step should have stated, given what is known to be wrong before it."""
    stated, true = step.values[-1], _anew(step, right)
    if true is not None and true != stated:
        right[stated] = true


def _anew(step: Equation, right: Values) -> Number | None:
    """Compute a step's first side with its wrong numbers replaced; ``None`` if that fails."""
    if not right:
        return step.values[0]
    side = tuple([_replaced(token, right) for token in step.sides[0]])
    if side == step.sides[0]:
        return step.values[0]
    try:
        return value_of(side)
    except ValueError:  # divided by a true value of zero
        return None


def _replaced(token: str, right: Values) -> str:
    if not token[-1].isdecimal() and token[-1] != "%":
        return token  # an operator
    return str(right.get(int(token) if token.isdecimal() else value_of((token,)), token))
