"""How many steps fit into the time that a person has.

The learning rate must come down before the end, so the steps are chosen early, from the pace of
the first few, and the whole schedule runs over them. Knows nothing of models. With steps of 100
tokens each at 50 tokens/s,

    fitting([100] * 50, pace=0.02, seconds=60) == 30
"""

from __future__ import annotations

from collections.abc import Sequence

# Steps whose pace is taken, after a first one that also pays for what is built on first use.
TRIAL = 5
# A laptop slows down as it warms; what is left over is better than what is cut off.
MARGIN = 0.95


def fitting(tokens: Sequence[int], pace: float, seconds: float) -> int:
    """How many of the next steps fit.

    Args:
        tokens: Of each of them, before packing.
        pace: Seconds per token.
        seconds: That are left.
    """
    left = seconds * MARGIN
    for number, count in enumerate(tokens):
        left -= count * pace
        if left < 0:
            return number
    return len(tokens)
