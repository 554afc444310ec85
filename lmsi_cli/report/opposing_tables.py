"""Two evaluations beside each other, for the terminal: differences first, then figures and flips.

Knows Rich and the record; computes nothing that is not in it.

                          A             B     B minus A, paired       p
    CoT greedy   54.3 [49, 60]  62.7 [57, 68]  +8.3 [+3.0, +13.7]   0.003
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from lmsi_cli.report.opposing import UNKNOWN, Flip, Opposed
from lmsi_cli.report.printable import cell
from lmsi_cli.report.results import Answer
from lmsi_cli.report.tables import change, columns, p_text, with_interval

FLIPS = 20  # ids that are named without --show flips
Part = Table | Text | str


def opposed_tables(o: Opposed, flips: bool) -> list[Part]:
    """Everything but the texts; those, too, if asked for."""
    parts: list[Part] = [cell(f"A  {o.a}"), cell(f"B  {o.b}"), ""]
    parts += [*_differences(o), "", _figures(o), ""]
    if o.unpaired:
        parts.append(cell(f"only in one of them: {', '.join(dict.fromkeys(o.unpaired))}"))
    return [*parts, cell(_counted(o)), *(_shown(o) if flips else _named(o))]


def _differences(o: Opposed) -> list[Part]:
    if not o.differences:
        return ["no setting differs"]
    table = columns("what differs", ["", "A", "B"])
    for d in o.differences:
        table.add_row(cell(d.name), cell(d.a), cell(d.b))
    tokenizers = [d for d in o.differences if d.name == "tokenizer" and UNKNOWN not in (d.a, d.b)]
    note = "the tokenizers differ, so counts of tokens do not compare"
    return [table, *([note] if tokenizers else [])]


def _figures(o: Opposed) -> Table:
    left = f", {o.left_out} left out" if o.left_out else ""
    title = f"{o.n} questions{left}, % right [95% interval]"
    names = ["", "A", "B", "B minus A, paired", "p, Holm", "tokens"]
    table = columns(title, names)
    for x in o.lines:
        table.add_row(
            x.line,
            with_interval(x.a),
            with_interval(x.b),
            change(x.change, x.p_holm),
            p_text(x.p_holm),
            " > ".join(f"{t:.0f}" if t else "?" for t in x.tokens),
        )
    return table


def _counted(o: Opposed) -> str:
    up = sum(f.b > f.a for f in o.flips)
    return f"{o.line}, of {o.n} questions: better in B {up}, worse {len(o.flips) - up}"


def _named(o: Opposed) -> list[Part]:
    parts: list[Part] = []
    for word, own in _directions(o):
        ids = [f.question.id for f in own]
        more = f" and {len(ids) - FLIPS} more" if len(ids) > FLIPS else ""
        if ids:
            parts.append(cell(f"  {word}: {', '.join(ids[:FLIPS])}{more}"))
    return [*parts, "--show flips shows their texts"] if parts else []


def _directions(o: Opposed) -> list[tuple[str, list[Flip]]]:
    return [
        ("better", [f for f in o.flips if f.b > f.a]),
        ("worse", [f for f in o.flips if f.b < f.a]),
    ]


def _shown(o: Opposed) -> list[Part]:
    parts: list[Part] = []
    for word, own in _directions(o):
        for f in own:
            head = f"\n{word} in B: {f.question.id}, right is {f.question.gold}"
            parts += [Text.assemble((cell(head).plain, "bold")), cell(f.question.question)]
            parts += [_side("A", f.a, f.texts_a), _side("B", f.b, f.texts_b)]
    return parts


def _side(name: str, score: float, texts: Sequence[Answer]) -> Text:
    """One side's answer: its text, or of several the ballots and the first text of the winner."""
    mark = "right" if score == 1 else "wrong" if score == 0 else f"{score:.2f} right"
    if not texts:
        return cell(f"{name} {mark}; the texts are no longer there")
    ballots = Counter(t.predicted_answer or "none" for t in texts)
    most = ballots.most_common(1)[0][0]
    shown = next(t for t in texts if (t.predicted_answer or "none") == most)
    counts = ", ".join(f"{a} {n} times" for a, n in ballots.most_common())
    told = counts if len(texts) > 1 else most
    return cell(f"{name} {mark}, {told}:\n  {shown.text.strip()}")
