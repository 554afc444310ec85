"""The loss as a picture: every step's, and that on the held-out questions.

Knows matplotlib and nothing of training. Drawn once, at the end: the log holds the same numbers at
any time.

    draw(log, readings, best=120, path=Path("runs/first/adapter/loss.png"))
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmsi_cli.atomic import write_atomic
from lmsi_cli.training.validation import Reading

if TYPE_CHECKING:
    from lmsi_cli.training.state import LogLine

NAME = "loss.png"
# Of all steps: a step's loss depends more on its examples than on the adapter.
SMOOTH = 20


def draw(
    log: Sequence[LogLine],
    readings: Sequence[Reading],
    best: int | None,
    path: Path,
    unit: str = "nats per completion token",
) -> None:
    """Draw the curve.

    Args:
        log: All steps.
        readings: All validations; none leaves that line out.
        best: The step whose adapter was taken.
        path: A PNG file, replaced.
        unit: Of the loss; readings in another one are best left out.

    Raises:
        LmsiError: It cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel=f"loss, {unit}")
    steps, losses = [line.step for line in log], [line.loss for line in log]
    axes.plot(steps, losses, color="0.8", linewidth=0.8, label="each step")
    axes.plot(steps, smooth(losses), color="C0", label="training")
    if readings:
        axes.plot([r.step for r in readings], [r.loss for r in readings], "o-", color="C1",
                  label="held-out questions")  # fmt: skip
    if best is not None:
        axes.axvline(best, color="C2", linestyle=":", label=f"taken: step {best}")
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    write_atomic(path, buffer.getvalue())


def smooth(values: Sequence[float]) -> list[float]:
    """The running mean over a twentieth of all values, each with those before it."""
    width = max(1, len(values) // SMOOTH)
    return [
        sum(values[max(0, i + 1 - width) : i + 1]) / min(width, i + 1) for i in range(len(values))
    ]
