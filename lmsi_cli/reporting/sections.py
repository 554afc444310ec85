"""The sections of a report other than evaluations: rounds, verdict, vote, training, settings.

Pure functions from a run's records to ``Section``. Knows words and figures; reads no file. One of
them:

    vote_section(VoteSummary(questions=400, kept_paths=1212, ...))
    -> Section("vote", "The vote", sheets=[Sheet("vote", ...), ...], ...)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from lmsi_cli.formats import NONE, percent, with_interval
from lmsi_cli.records import Interval
from lmsi_cli.reporting.comparison import holm_corrected, pairs_between
from lmsi_cli.reporting.digest import Section, Series, Sheet, bars
from lmsi_cli.reporting.evaluation import changes_sheet
from lmsi_cli.reporting.results import Evaluation, Pair
from lmsi_cli.rounds import By, Rounds
from lmsi_cli.verdict.rules import CARE, STOP, TRAIN, Verdict
from lmsi_cli.verdict.signals import WORDS
from lmsi_cli.voting.selection import BINS, VoteSummary

POINTS = 240  # of a loss curve; more are averaged, so that a long run's page stays small
INCOMPARABLE = "their shares are not comparable with full ones"
SAYS = {TRAIN: "for it", CARE: "with care", STOP: "against it", None: "note"}
HOW: dict[By, str] = {
    "probe": "by the probe",
    "agreement": "without labels",
    "nothing": "for want of a comparison",
}
CAUTION = (
    "Agreement rises under training whether answers get better or not, so a higher share is no "
    "evidence of a gain. Which round is kept was decided without the test sets."
)
SIGNED = ("above chance", "steps lift")  # signals that are differences


def verdict_section(v: Verdict) -> Section:
    """The verdict, with its reasons and the figures behind it."""
    e = v.evidence
    looked = f", from {e.looked_at} of {e.questions}" if e.looked_at < e.questions else ""
    signals = [(WORDS.get(n, n), _signal(n, i)) for n, i in e.signals.items()]
    sheets = [Sheet(f"signals, % [95% interval]{looked}", rows=signals)]
    if (p := e.probe) is not None:
        rows = [
            ("questions", f"{p.questions}, of which {p.kept_questions} are kept"),
            ("one path", with_interval(p.one_path)),
            ("the vote (the ceiling, maj@m)", with_interval(p.vote)),
            ("any path (the oracle, pass@m)", with_interval(p.any_path)),
        ]
        if p.kept_questions:
            gap = _signal("steps lift", p.gap)
            rows.append(("kept paths", with_interval(p.kept)))
            rows.append(("kept paths minus all paths of their questions", gap))
        sheets.append(Sheet("probe, % right [95% interval]", rows=rows))
    reasons = [f"{SAYS[r.says]}: {r.text}" for r in v.reasons]
    return Section("verdict", f"The verdict: {v.verdict}", reasons, sheets)


def verdict_line(v: Verdict) -> str:
    """The verdict in one line, for the progress view."""
    return f"verdict: {v.verdict}" + (f"; {v.reasons[0].text}" if v.reasons else "")


def _signal(name: str, i: Interval) -> str:
    """A signal with the number of its questions; a difference has a sign."""
    return f"{with_interval(i, '+' if name in SIGNED else '')} n={i.n}"


def vote_section(s: VoteSummary) -> Section:
    """What was voted on, what was kept, and what was left out."""
    paths, questions = max(1, s.paths), max(1, s.questions)
    rows = [
        ("questions", f"{s.questions}"),
        ("paths", f"{s.paths}"),
        ("paths that voted", f"{s.parsed} ({percent(s.parsed / paths)})"),
        ("cut off", f"{s.truncated}"),
        ("with a false equation", f"{s.refuted}"),
        ("ties", f"{s.ties}"),
        ("mean share of the winner", f"{s.mean_share:.2f}"),
        ("kept questions", f"{s.kept_questions} ({percent(s.kept_questions / questions)})"),
        ("kept paths", f"{s.kept_paths} ({percent(s.kept_paths / paths)})"),
        ("preference pairs", f"{s.pairs}"),
    ]
    if s.stopped:
        rows.append(("stopped early", f"{s.stopped} questions; {INCOMPARABLE}"))
    removed = [(name, f"{n}") for name, n in s.removed.items() if n]
    shares = {f"{i / BINS:.1f}": n for i, n in enumerate(s.histogram)}
    sheets = [
        Sheet("vote", rows=rows),
        *([Sheet("removed", ("", "paths"), removed)] if removed else []),
        bars("agreement (share of the winner)", shares, ("share of the winner, from", "questions")),
    ]
    return Section("vote", "The vote", [f"warning: {text}" for text in s.warnings], sheets)


def kept_line(s: VoteSummary) -> str:
    """The vote in one line, for the progress view and the first screen."""
    return (
        f"vote: {s.kept_paths} paths of {s.kept_questions} of {s.questions} questions kept, "
        f"mean share {s.mean_share:.2f}, {percent(s.parsed / max(1, s.paths))} of the paths voted"
        + (f", {s.stopped} stopped early" if s.stopped else "")
    )


def training_section(
    result: Mapping[str, Any] | None,
    losses: Sequence[tuple[float, float]],
    held_out: Sequence[tuple[float, float]],
) -> Section:
    """What was trained, and that it works.

    ``result`` is the adapter's own: ``summary`` and ``proof``; None while it trains. ``losses`` are
    step and loss of each step, ``held_out`` of each validation on the held-out questions.
    """
    size = max(1, -(-len(losses) // POINTS))
    groups = [losses[i : i + size] for i in range(0, len(losses), size)]
    means = [(fmean(s for s, _ in g), fmean(loss for _, loss in g)) for g in groups]
    curves = {"training": means, "held-out questions": held_out}
    series = tuple(
        Series(name=name, x=tuple(x for x, _ in points), y=tuple(y for _, y in points))
        for name, points in curves.items()
        if points
    )
    return Section(
        "training",
        "Training",
        lines=[] if result else [f"Not finished: {len(losses):,} steps so far."],
        sheets=[training_sheet(result)] if result else [],
        losses=series,
    )


def training_sheet(result: Mapping[str, Any]) -> Sheet:
    """What was trained, and the proof that it works; ``result`` as in ``training_section``."""
    t, p = result["summary"], result["proof"]
    on_device = "" if t["device"] == "cpu" else f", {t['peak_device_mib']} MiB on {t['device']}"
    if t.get("processes", 1) > 1:
        on_device += f", in each of {t['processes']} processes"
    rows = [
        ("examples", f"{t['examples']} ({t['dropped_too_long']} too long, left out)"),
        ("steps", f"{t['steps']}"),
        ("loss", f"{t['first_loss']:.3f} to {t['final_loss']:.3f}"),
    ]
    margin, accuracy = t.get("reward_margin"), t.get("reward_accuracy")
    if margin is not None and accuracy is not None:  # only training on pairs has these
        ahead = f"the chosen path ahead in {percent(accuracy)} of pairs"
        rows.append(("reward margin", f"{margin:.2f}; {ahead}"))
    if t.get("stopped"):
        rows.append(("stopped", t["stopped"]))
    if v := t.get("validation"):
        losses = (
            f"{v['base_loss']:.3f} before, {v['best_loss']:.3f} after step {v['best_step']}, "
            f"taken; {v['last_loss']:.3f} at the end ({v['questions']} questions)"
        )
        rows.append(("held-out loss", losses))
    apart = (
        f"{percent(p['adapted_gap'])} apart with the adapter, {percent(p['base_gap'])} without; "
        f"tolerance {percent(p['tolerance'])}"
    )
    rows += [
        ("speed", f"{t['tokens_per_second']:,.0f} tokens/s in {t['dtype']}, {t['seconds']:.0f} s"),
        ("peak memory", f"{t['peak_rss_mib']} MiB{on_device}"),
        ("adapter acts", f"moves the logits by {percent(p['moved'])} on {p['prompts']} prompts"),
        ("llama.cpp agrees", apart),
    ]
    return Sheet("train", rows=rows)


def settings_section(settings: Mapping[str, Mapping[str, Any]]) -> Section:
    """run.toml, section by section."""
    columns = ("setting", "value")
    sheets = [
        Sheet(f"[{name}]", columns, [(key, _setting(value)) for key, value in table.items()])
        for name, table in settings.items()
    ]
    return Section("settings", "Settings and versions", sheets=sheets)


def _setting(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def round_changes(e: Evaluation) -> list[Pair]:
    """Every round against the one before, the first against the base, corrected (Holm).

    The models of ``e`` are the base and the rounds' adapters, in order. Of several temperatures,
    the first one counts.
    """
    lines = [f.name for v in e.mains for f in v.figures]
    found = [
        p
        for before, after in pairwise(e.mains)
        for p in pairs_between(e, before.model, after.model)
        if p.temperature in (None, e.mains[0].temperature)
    ]
    return holm_corrected(sorted(found, key=lambda p: lines.index(p.line)))


def rounds_section(rounds: Rounds, measured: Sequence[Evaluation]) -> Section:
    """The rounds as a section of the report; accuracies are in the section of each data set.

    ``measured`` has an evaluation for each data set that base and rounds were measured on.
    """
    sheets = [_courses(rounds), _checkups(rounds)]
    for e in measured:
        title = f"{e.data}: changes against the round before, paired by question"
        sheets.append(changes_sheet(title, round_changes(e)))
    return Section("rounds", "Rounds", list(_round_lines(rounds)), [s for s in sheets if s.rows])


def _round_lines(rounds: Rounds) -> Iterator[str]:
    best, made = rounds.best, f"{len(rounds.rounds)} of {rounds.asked} rounds were made"
    if best is not None:
        yield (
            f"{made}. Round {best.number} is kept, chosen {HOW[best.by]}: {best.why}. "
            "Vote, training and questions below are those of round 1; each later round has a "
            "report of its own."
        )
    if rounds.ended:
        yield f"Ended early, {rounds.ended}."
    yield CAUTION
    for r in rounds.rounds:
        for gate in r.gates:
            if gate.name != "verdict" and not (gate.ends and rounds.ended.endswith(gate.text)):
                yield f"Round {r.number}: {gate.text}."


def _courses(rounds: Rounds) -> Sheet:
    best, rows = rounds.best, []
    for r in rounds.rounds:
        trained = ("not trained", "")
        if r.first_loss is not None and r.final_loss is not None:
            trained = (_who(r.started_from), f"{r.first_loss:.3f} to {r.final_loss:.3f}")
        rows.append(
            (
                f"{r.number} *" if best and best.number == r.number else f"{r.number}",
                r.folder,
                f"{r.temperature:g}",
                _who(r.drawn_by),
                r.verdict,
                f"{r.kept_paths:,} of {r.kept_questions:,} questions",
                f"{r.mean_share:.2f}",
                *trained,
            )
        )
    columns = ("round", "folder", "T", "drawn by", "verdict", "kept paths", "share", "trained from",
               "loss")  # fmt: skip
    return Sheet("What each round did; * is kept", columns, rows)


def _who(number: int) -> str:
    return f"round {number}" if number else "base"


def _checkups(rounds: Rounds) -> Sheet:
    """What the gates and the choice of a round are based on, one model a row."""
    rows = []
    for f in (rounds.base, *(r.figures for r in rounds.rounds)):
        if f is not None:
            means = [percent(fmean(p)) if p else "" for p in (f.scores, f.parsed)]
            rows.append((f.model, *means, percent(f.commonest)))
    columns = ("", "right" if rounds.by == "probe" else "as the first vote", "read", "commonest")
    title = f"Check-ups: the same {rounds.questions} questions to every round, no test set"
    return Sheet(title, columns, rows)
