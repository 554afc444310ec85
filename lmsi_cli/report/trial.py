"""A trial of wordings, as a line and as a table.

Knows the figures, not how they were come by. The line:

    asked as `boxed` (cot-zero): agreement 0.46, 96% parsed, 4% cut off, 268 tokens a path;
    next best `finish` with 0.41
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from lmsi_cli.report.tables import columns, percent

if TYPE_CHECKING:
    from lmsi_cli.stages.trial import Trial, Tried


def trial_line(trial: Trial) -> str:
    """What was chosen, with its figures, and what came next."""
    best = trial.tried[trial.best]
    others = [t for t in trial.tried if t is not best]
    then = max(others, key=lambda t: t.agreement, default=None)
    after = f"; next best `{then.name}` with {then.agreement:.2f}" if then else ""
    return (
        f"asked as `{best.name}` ({best.prompt}): agreement {best.agreement:.2f}, "
        f"{percent(best.parsed)} parsed, {percent(best.cut_off)} cut off, "
        f"{best.tokens:.0f} tokens a path{after}"
    )


def trial_table(trial: Trial) -> Table:
    """All candidates, the chosen one marked."""
    names = ["wording", "prompt", "agreement", "parsed", "cut off", "tokens", "paths"]
    table = columns(f"wordings, tried on {trial.questions} questions", names)
    for number, t in enumerate(trial.tried):
        mark = " *" if number == trial.best else ""
        table.add_row(f"{t.name}{mark}", _form(t), f"{t.agreement:.2f}", percent(t.parsed),
                      percent(t.cut_off), f"{t.tokens:.0f}", f"{t.paths}")  # fmt: skip
    return table


def _form(t: Tried) -> str:
    return f"{t.prompt}, {t.few_shot}" if t.prompt.endswith("few") else t.prompt
