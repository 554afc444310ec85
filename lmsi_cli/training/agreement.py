"""Whether an exported model computes what base and adapter compute together.

Knows distances of logits, as ``verify.gap`` measures them; neither files nor back ends.

    {"the adapter moves the logits by": 0.124, "apart: PEFT from llama.cpp, without": 0.008, ...}
"""

from __future__ import annotations

from collections.abc import Iterator

from lmsi_cli.errors import LmsiError
from lmsi_cli.training.verify import EFFECT, SAME


def agree(what: str, apart: float, moved: float, noise: float) -> None:
    """Judge as ``verify`` does: 2%, or three times what rounding does, and a third of the move.

    Args:
        what: The exported model, in words.
        apart: Its distance from the base with the adapter on.
        moved: What the adapter does to the base.
        noise: The same distance without the adapter on either side.

    Raises:
        LmsiError: They compute different models.
    """
    if not (apart <= max(SAME, 3 * noise) and apart <= EFFECT * moved + 2 * noise):
        raise LmsiError(
            f"{what} is {apart:.2%} apart from the base with its adapter (rounding: {noise:.2%}, "
            f"the adapter: {moved:.2%}); nothing was exported",
            hint="this is a fault of lmsi or llama.cpp; please report it",
        )


def told(moved: float, apart: float, noise: float, what: str) -> dict[str, float]:
    """Name the distances for the card."""
    return {
        "the adapter moves the logits by": moved,
        f"apart: {what}, with the adapter": apart,
        f"apart: {what}, without": noise,
    }


def lost(kind: str, rounded: float, moved: float) -> Iterator[str]:
    """Warn if rounding to a type does half of what the adapter does, or more."""
    if not rounded <= moved / 2:
        yield (
            f"Rounding to {kind} moves the logits by {rounded:.1%}, the adapter by {moved:.1%}: "
            "much of what was learnt may be lost. A finer type, or the base with the adapter "
            "beside it, keeps it."
        )


def widened(own: str | None, kind: str) -> Iterator[str]:
    """Say why the merged weights are of a wider type than the base's own."""
    yield (
        f"The base's own type{f' {own}' if own else ''} would round much of the adapter away; "
        f"{kind} keeps it, in a larger file."
    )
