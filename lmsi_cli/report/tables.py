"""Results as tables for the terminal; the same records go out as JSON.

Knows Rich's tables and the stages' summary records; computes nothing that is not in them.

                          base        adapter      change, paired       p
    CoT greedy   54.3 [49, 60]  62.7 [57, 68]  +8.3 [+3.0, +13.7]   0.003
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lmsi_cli.records import Interval, Paired
from lmsi_cli.report.printable import printable
from lmsi_cli.voting import VoteSummary

if TYPE_CHECKING:  # tables are drawn from what the stages return; nothing is imported at run time
    from lmsi_cli.stages.doctor import Check
    from lmsi_cli.stages.estimate import Estimate
    from lmsi_cli.stages.preview import Preview
    from lmsi_cli.stages.sample import SampleSummary
    from lmsi_cli.stages.train import TrainResult
    from lmsi_cli.training.trainer import TrainSummary

BLOCKS = " ▏▎▍▌▋▊▉█"
CLEAR = 0.05  # p below which a change is coloured
SMALLEST_P = 0.001  # shown as it is; anything smaller as "less than"
INCOMPARABLE = "their shares are not comparable with full ones"
ENDING = 40  # characters of a path that are shown of it; its answer stands at the end
KINDS = {
    "sound": "every step holds",
    "unchecked": "no step could be checked",
    "corrected": "a slip that was corrected",
    "lucky": "a false step, and yet the winning answer",
    "systematic": "the same other answer again and again",
    "near-miss": "one slip away from the winning answer",
    "rival": "every step holds, but another answer",
    "other": "another answer, and none of these",
    "undecided": "the question has no winner",
    "unparsed": "no answer could be read",
    "truncated": "cut off",
}
WIDTH = 24  # of the longest histogram bar, in characters


def percent(x: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * x:.1f}%"


def with_interval(i: Interval) -> str:
    """A figure with its 95% interval, in percent."""
    return f"{100 * i.value:.1f} [{100 * i.low:.0f}, {100 * i.high:.0f}]"


def change(c: Paired, p: float) -> Text:
    """A paired difference in points with its interval; coloured only where p is small."""
    text = f"{100 * c.difference:+.1f} [{100 * c.low:+.1f}, {100 * c.high:+.1f}]"
    clear = p < CLEAR
    return Text(text, style=("green" if c.difference > 0 else "red") if clear else "")


def p_text(p: float) -> str:
    """A p value as one writes it; beyond three zeros its digits say nothing."""
    return f"{p:.3f}" if p >= SMALLEST_P else f"<{SMALLEST_P}"


def preview_parts(p: Preview) -> list[Table | Text]:
    """What a run would ask: the form, the token counts, then the first prompt as tokenised."""
    table = _plain("prompts")
    form = "conversation" if p.chat else "plain text"
    table.add_row("form", f"{form}: {p.why}")
    if p.folds_system:
        table.add_row("system message", "opens the first turn: the template has no such role")
    if p.begun:
        table.add_row("the reply begins inside", escape(repr(p.begun)))
    table.add_row("questions", f"{p.questions}")
    if p.templates > 1:
        table.add_row("templates in turn", f"{p.templates}; the first one's prompts are counted")
    if p.second:
        table.add_row("then asked", escape(repr(p.second)))
    table.add_row("prompt tokens", f"{p.shortest} to {p.longest}, median {p.median:g}")
    table.add_row("  shared by all prompts", f"{p.shared_prefix}")
    marks = [piece.text for piece in p.prompt if piece.mark]
    table.add_row("  control tokens in the first", f"{len(marks)}")
    title = Text("\nthe first prompt; control tokens stand in reverse\n", style="bold")
    prompt = Text.assemble(*((x.text, "reverse" if x.mark else "") for x in p.prompt))
    return [table, title, prompt]


def cost_table(e: Estimate) -> Table:
    """What a run would take, from a small trial."""
    bound = "at most " if e.at_most else "about "
    kind = "one for all (unified)" if e.unified else "one for each (split)"
    return facts(
        "\ncost",
        [
            ("paths side by side", f"{e.width}"),
            ("KV cache", f"{kind}, {e.cells:,} cells"),
            ("memory", f"{_mib(e.model_bytes)} for the model and {_mib(e.cache_bytes)} beside it"),
            ("tokens a path", f"{bound}{e.tokens_per_path:.0f}, from {e.trial_paths} trial paths"),
            ("speed", f"{e.tokens_s:,.0f} tokens/s"),
            ("time", f"{bound}{duration(e.seconds)}"),
        ],
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"


def vote_table(s: VoteSummary) -> Table:
    """What was voted on and what was kept."""
    table = _plain("vote")
    for name, value in (
        ("questions", f"{s.questions}"),
        ("paths", f"{s.paths}"),
        ("paths that voted", f"{s.parsed} ({percent(s.parsed / max(1, s.paths))})"),
        ("truncated", f"{s.truncated}"),
        ("refuted by their own arithmetic", f"{s.refuted}"),
        ("ties", f"{s.ties}"),
        ("mean share of the winner", f"{s.mean_share:.2f}"),
        (
            "kept questions",
            f"{s.kept_questions} ({percent(s.kept_questions / max(1, s.questions))})",
        ),
        ("kept paths", f"{s.kept_paths} ({percent(s.kept_paths / max(1, s.paths))})"),
        ("preference pairs", f"{s.pairs}"),
    ):
        table.add_row(name, value)
    if s.stopped:
        table.add_row("stopped early", f"{s.stopped} questions; {INCOMPARABLE}")
    return table


def removed_table(s: VoteSummary) -> Table:
    """What each filter that removed anything removed, with the end of one such path."""
    table = columns("removed, with one path of each", ["", "paths", "for example"])
    table.columns[2].justify = "left"
    for name, sample in s.samples.items():
        end = " ".join(sample.text.split())[-ENDING:]
        shown = f"{sample.question_id} path {sample.path}: \u2026{end}"
        table.add_row(name, f"{s.removed[name]}", escape(shown))
    return table


def class_table(s: VoteSummary) -> Table:
    """What kinds of paths there are, the vote's winner standing for the truth."""
    table = columns("kinds of paths, by the winner of the vote", ["", "paths", "", "trained on"])
    for name, count in s.classes.items():
        kept = f"{s.kept_classes[name]}"
        table.add_row(f"{name}: {KINDS[name]}", f"{count}", percent(count / max(1, s.paths)), kept)
    return table


def histogram(s: VoteSummary) -> Table:
    """How many questions reached which share of agreement."""
    table = _plain("agreement (share of the winner)")
    top = max(max(s.histogram), 1)
    step = 1 / len(s.histogram)
    for i, count in enumerate(s.histogram):
        table.add_row(f"{i * step:.1f} to {(i + 1) * step:.1f}", bar(count / top), f"{count}")
    return table


def bar(share: float) -> str:
    """A bar of block characters, a share of ``WIDTH`` wide."""
    eighths = round(share * WIDTH * 8)
    return BLOCKS[8] * (eighths // 8) + BLOCKS[eighths % 8].strip()


def columns(title: str, names: list[str]) -> Table:
    """An empty table with a title; columns with a name are figures."""
    table = Table(
        title=escape(printable(title)),
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for name in names:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    return table


def _plain(title: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        box=None,
        show_header=False,
        pad_edge=False,
        min_width=len(title),
    )  # a title is folded to its table's width
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def facts(title: str, rows: list[tuple[str, str]]) -> Table:
    """Names and values, one a line; the values are shown as they are."""
    table = _plain(title)
    for name, value in rows:
        table.add_row(name, escape(value))
    return table


def sample_table(s: SampleSummary) -> Table:
    """What one call of the sampler did."""
    pace = max(s.seconds, 1e-9)
    rows = [
        ("questions", f"{s.questions}"),
        ("paths", f"{s.paths} ({s.new_paths} new)"),
        ("parsed", f"{s.parsed} ({percent(s.parsed / max(1, s.paths))})"),
        ("cut off", f"{s.cut_off} ({percent(s.cut_off / max(1, s.new_paths))} of the new)"),
        ("speed", f"{s.new_paths / pace:.1f} paths/s, {s.tokens / pace:,.0f} tokens/s"),
        ("time", f"{s.seconds:.0f} s"),
    ]
    if s.stopped:
        lost = percent(s.cancelled_tokens / max(1, s.tokens))
        rows += [
            ("stopped early", f"{s.stopped} questions; {INCOMPARABLE}"),
            ("paths never drawn", f"{s.never_drawn}"),
            ("paths cancelled", f"{s.cancelled}, {s.cancelled_tokens} tokens ({lost} of all)"),
        ]
    if s.skipped:
        rows.append(("skipped, too long", f"{len(s.skipped)}"))
    return facts("sample", rows)


def kept_line(s: VoteSummary) -> str:
    """The vote in one line, for the progress view."""
    return (
        f"vote: {s.kept_paths} paths of {s.kept_questions} of {s.questions} questions kept, "
        f"mean share {s.mean_share:.2f}, {percent(s.parsed / max(1, s.paths))} of the paths voted"
        + (f", {s.stopped} stopped early" if s.stopped else "")
    )


def train_table(r: TrainResult) -> Table:
    """What was trained, and the proof."""
    t, p = r.summary, r.proof
    return facts(
        "train",
        [
            ("examples", f"{t.examples} ({t.dropped_too_long} too long, left out)"),
            ("steps", f"{t.steps}"),
            ("loss", f"{t.first_loss:.3f} to {t.final_loss:.3f}"),
            *_preferred(t),
            *_validated(t),
            ("speed", f"{t.tokens_per_second:,.0f} tokens/s in {t.dtype}, {t.seconds:.0f} s"),
            ("peak memory", f"{t.peak_rss_mib} MiB" + _on_device(t)),
            ("adapter acts", f"moves the logits by {percent(p.moved)} on {p.prompts} prompts"),
            (
                "llama.cpp agrees",
                f"{percent(p.adapted_gap)} apart with the adapter, "
                f"{percent(p.base_gap)} without; tolerance {percent(p.tolerance)}",
            ),
        ],
    )


def _on_device(t: TrainSummary) -> str:
    """What the GPU held, and how many processes trained, where there was more than the CPU."""
    held = "" if t.device == "cpu" else f", {t.peak_device_mib} MiB on {t.device}"
    return held + (f", in each of {t.processes} processes" if t.processes > 1 else "")


def _preferred(t: TrainSummary) -> list[tuple[str, str]]:
    """How far training on pairs has drawn their sides apart."""
    if t.reward_margin is None or t.reward_accuracy is None:
        return []
    told = f"{t.reward_margin:.2f}; the chosen path ahead in {percent(t.reward_accuracy)} of pairs"
    return [("reward margin", told)]


def _validated(t: TrainSummary) -> list[tuple[str, str]]:
    """What held-out questions say of the adapter, and why training ended early, if it did."""
    rows = [("stopped", t.stopped)] if t.stopped else []
    if v := t.validation:
        rows += [
            (
                "held-out loss",
                f"{v.base_loss:.3f} before, {v.best_loss:.3f} after step {v.best_step}, taken; "
                f"{v.last_loss:.3f} at the end ({v.questions} questions)",
            ),
            ("from the base", f"{v.divergence:.3f} nats a token"),
        ]
    return rows


def doctor_table(checks: Sequence[Check]) -> Table:
    """One check a line; problems and advice below the line they belong to."""
    table = _plain("lmsi doctor")
    for c in checks:
        mark = "[red]x[/]" if c.fatal else "[yellow]![/]" if c.problem else "[green]ok[/]"
        table.add_row(mark, c.name, escape(c.value))
        for text in (c.problem, c.advice):
            if text:
                table.add_row(
                    "", "", escape(f"{'problem' if text == c.problem else 'advice'}: {text}")
                )
    return table
