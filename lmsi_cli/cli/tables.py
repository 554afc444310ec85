"""What single commands show of their results, as tables; the same records go out as JSON.

Knows what the stages return, and ``Sheet``; computes nothing. What several commands show, and the
report, is in ``report/``. Of `lmsi sample`:

    sample_sheet(SampleSummary(questions=400, paths=6400, ...))
    -> Sheet(title="sample", rows=(("questions", "400"), ("paths", "6400 (6400 new)"), ...))
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from lmsi_cli.report.digest import Chart, Sheet, bars
from lmsi_cli.report.formats import duration, figures_line, percent, printable, size
from lmsi_cli.report.questions import path_line, vote_line
from lmsi_cli.report.sections import INCOMPARABLE

if TYPE_CHECKING:  # nothing of a stage is imported only to show what it returned
    from lmsi_cli.answers import Step
    from lmsi_cli.parquet import Exported
    from lmsi_cli.prompts import Task
    from lmsi_cli.records import Status
    from lmsi_cli.stages.doctor import Check
    from lmsi_cli.stages.dry_run import Estimate, Plan, Preview
    from lmsi_cli.stages.exemplars import ExemplarsSummary
    from lmsi_cli.stages.export import Export
    from lmsi_cli.stages.sample import SampleSummary
    from lmsi_cli.stages.show import Shown
    from lmsi_cli.stages.trial import Trial
    from lmsi_cli.stages.watch import Scene

OPEN, CLOSE = ">>", "<<"  # around the words that an answer was read from
NO_VALUE = {  # what it means that a rule fired
    "contradiction": "two different ones are stated side by side",
    "refusal": "the reply refuses to give one",
    "no-answer": "the reply says that there is none",
}
NO_VALUE_ELSE = "{} found its place, and no value stands in it"
SEEN = 60  # characters of a place that are shown
STALE = 30.0  # seconds without a report after which its age is told


def sample_sheet(s: SampleSummary) -> Sheet:
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
    return Sheet(title="sample", rows=tuple(rows))


def preview_parts(p: Preview) -> list[Sheet | Text]:
    """What a run would ask: the form, the token counts, then the first prompt as tokenised."""
    form = "conversation" if p.chat else "plain text"
    rows = [("form", f"{form}: {p.why}")]
    if p.folds_system:
        rows.append(("system message", "opens the first turn: the template has no such role"))
    if p.begun:
        rows.append(("the reply begins inside", repr(p.begun)))
    rows.append(("questions", f"{p.questions}"))
    if p.templates > 1:
        rows.append(("templates in turn", f"{p.templates}; the first one's prompts are counted"))
    if p.second:
        rows.append(("then asked", repr(p.second)))
    rows += [
        ("prompt tokens", f"{p.shortest} to {p.longest}, median {p.median:g}"),
        ("  shared by all prompts", f"{p.shared_prefix}"),
        ("  control tokens in the first", f"{sum(piece.mark for piece in p.prompt)}"),
    ]
    title = Text("the first prompt; control tokens stand in reverse\n", style="bold")
    prompt = Text.assemble(*((printable(x.text), "reverse" if x.mark else "") for x in p.prompt))
    return [Sheet(title="prompts", rows=tuple(rows)), title, prompt]


def cost_sheet(e: Estimate) -> Sheet:
    """What a run would take, from a small trial."""
    bound = "at most " if e.at_most else "about "
    kind = "one for all (unified)" if e.unified else "one for each (split)"
    memory = f"{size(e.model_bytes)} for the model and {size(e.cache_bytes)} beside it"
    rows = (
        ("paths side by side", f"{e.width}"),
        ("KV cache", f"{kind}, {e.cells:,} cells"),
        ("memory", memory),
        ("tokens a path", f"{bound}{e.tokens_per_path:.0f}, from {e.trial_paths} trial paths"),
        ("speed", f"{e.tokens_s:,.0f} tokens/s"),
        ("time", f"{bound}{duration(e.seconds)}"),
    )
    return Sheet(title="cost", rows=rows)


def plan_sheet(p: Plan) -> Sheet:
    """A plan as names and values."""
    bound = "at most " if p.at_most else "about "
    groups = f" in {p.groups} groups, which count as one each" if p.groups else ""
    visible = (
        f"{100 * p.smallest_visible:.1f} points, at 80% power if a quarter of the questions changes"
    )
    rows = (
        ("questions", f"{p.questions}{groups}"),
        ("smallest difference it can show", visible),
        ("models", f"{p.models}"),
        ("answers", f"{p.answers:,}"),
        ("tokens", f"{bound}{p.tokens:,.0f}"),
        ("time", f"{bound}{duration(p.seconds)}"),
    )
    return Sheet(title=f"{p.data}: plan", rows=rows)


def trial_sheet(trial: Trial) -> Sheet:
    """All candidates, the chosen one marked."""
    rows = [
        (
            t.name + (" *" if number == trial.best else ""),
            f"{t.prompt}, {t.few_shot}" if t.prompt.endswith("few") else t.prompt,
            f"{t.agreement:.2f}",
            percent(t.parsed),
            percent(t.cut_off),
            f"{t.tokens:.0f}",
            f"{t.paths}",
        )
        for number, t in enumerate(trial.tried)
    ]
    columns = ("wording", "prompt", "agreement", "parsed", "cut off", "tokens", "paths")
    title = f"wordings, tried on {trial.questions} questions"
    return Sheet(title=title, columns=columns, rows=tuple(rows))


def export_sheet(e: Export) -> Sheet:
    """Where it is, the files with their sizes, the checks, and what is to be known."""
    rows = [("folder", e.folder)]
    rows += [(name, size(count)) for name, count in e.files.items()]
    rows += [(name, f"{apart:.2%}") for name, apart in e.checks.items()]
    rows += [("note", remark) for remark in e.remarks]
    return Sheet(title="export", rows=tuple(rows))


def parquet_sheet(e: Exported) -> Sheet:
    """Where the files are, and how many rows each has."""
    rows = [("folder", e.address), *((name, f"{n:,} rows") for name, n in e.rows.items())]
    return Sheet(title="export", rows=tuple(rows))


def exemplars_sheet(made: ExemplarsSummary, drawn: SampleSummary) -> Sheet:
    """What became of the seeds, and which file holds the exemplars."""
    sound = ", ".join(f"{n} {name}" for name, n in made.classes.items())
    left = f"{made.undecided} undecided, {made.below} below the share, {made.unfit} unfit"
    rows = (
        ("seeds", f"{made.seeds} ({left}, {made.spare} not needed)"),
        ("paths", f"{drawn.paths:,} ({drawn.new_paths:,} new)"),
        ("templates", f"{made.templates} of {made.shots} exemplars"),
        ("rationales", f"{sound}; mean share of their winners {made.share:.0%}"),
        ("written", made.file),
        ("to use it", f"--task {made.file} --prompt cot-few"),
    )
    return Sheet(title="exemplars", rows=rows)


def tasks_sheet(tasks: Sequence[Task]) -> Sheet:
    """A line per task; chance is what guessing would get."""
    rows = [
        (
            t.name,
            t.kind,
            f"{len(t.exemplars)}",
            "" if t.chance is None else f"{t.chance:.0%}",
            t.description,
        )
        for t in tasks
    ]
    columns = ("task", "kind", "examples", "chance", "")
    return Sheet(title="", columns=columns, rows=tuple(rows))


def doctor_sheet(checks: Sequence[Check]) -> Sheet:
    """One check a line; problems and advice below the line they belong to."""
    rows, tones = [], []
    for c in checks:
        tone = "bad" if c.fatal else "care" if c.problem else "good"
        mark = {"bad": "x", "care": "!", "good": "ok"}[tone]
        told = [f"{name}: {text}" for name, text in (("problem", c.problem), ("advice", c.advice))
                if text]  # fmt: skip
        rows += [(mark, c.name, c.value), *(("", "", text) for text in told)]
        tones += [tone, *[""] * len(told)]
    return Sheet(title="lmsi doctor", rows=tuple(rows), tones=tuple(tones))


def explained(text: str, steps: Sequence[Step]) -> dict[str, Any]:
    """The rules of one text as plain data: the answer, and each rule's place, words and value."""
    fired = next((s for s in steps if s.fired), None)
    rules = [
        {
            "rule": s.rule,
            "place": list(s.place) if s.place else None,
            "found": s.found._asdict() if s.found else None,
            "fired": s.fired,
        }
        for s in steps
    ]
    answer = fired.found.value if fired and fired.found else None
    return {"answer": answer, "text": text, "rules": rules}


def explanation(text: str, steps: Sequence[Step]) -> list[Sheet | str]:
    """A line per rule, and the answer with the words it was read from."""
    rows = []
    for s in steps:
        seen = "no such place"
        if s.place:
            place = text[s.place.start : s.place.end]
            seen = textwrap.shorten(place, SEEN, placeholder=" ...") or "nothing"
        raw, value = (s.found.raw, s.found.value) if s.found else ("nothing" if s.place else "", "")
        rows.append((s.rule, seen, raw, value, "fired" if s.fired else ""))
    columns = ("rule", "looked at", "found", "value", "")
    fired = next((s for s in steps if s.fired), None)
    return [Sheet(title="", columns=columns, rows=tuple(rows)), _answer(text, fired)]


def _answer(text: str, fired: Step | None) -> str:
    if fired is None:
        return "no answer: no rule found its place"
    if fired.found is None:
        return f"no answer: {NO_VALUE.get(fired.rule, NO_VALUE_ELSE.format(fired.rule))}"
    return f"answer {fired.found.value}: {marked(text, fired.found.start, fired.found.end)}"


def marked(text: str, start: int | None, end: int | None) -> str:
    """A text with the answer's words between marks, which show in a file, too."""
    if start is None or end is None:
        return text
    return f"{text[:start]}{OPEN}{text[start:end]}{CLOSE}{text[end:]}"


def shown_parts(s: Shown) -> list[Sheet | Chart | str]:
    """A question, its paths, its ballots and its vote."""
    parts: list[Sheet | Chart | str] = [f"{s.question.id}  ({s.questions} questions in the run)"]
    parts.append(f"{s.question.question}\n")
    for p in s.paths:
        text = marked(p.path.text.rstrip() + "\n", p.start, p.end)
        parts.append(f"{path_line(p.path, s.vote)}\n{text}")
    if s.vote is None:
        return [*parts, "no vote yet: `lmsi vote` counts the ballots"]
    ballots = bars("", s.vote.ballots, ("ballot", "paths"))
    return [*parts, *([ballots] if s.vote.ballots else []), vote_line(s.vote)]


def scene_parts(scene: Scene, now: float) -> list[Sheet | str]:
    """The stages of a run folder, and what the last command does or how it ended.

    Args:
        scene: What was seen.
        now: Seconds since 1970.
    """
    rows = tuple((stage.name, stage.there or "-") for stage in scene.stages)
    said = [] if scene.status is None else _said(scene.status, scene.working, now)
    return [Sheet(title=scene.folder, rows=rows), *said]


def _said(status: Status, working: bool, now: float) -> list[str]:
    head = f"lmsi {status.command}"
    if status.ended is not None:
        return [*status.said, f"{head}: {status.ended}"]
    if not working:
        return [*status.said, f"{head}: killed; the same command goes on"]
    return [head, *status.said, _moment(status, now)]


def _moment(status: Status, now: float) -> str:
    total = f"/{status.total}  {status.done / status.total:.1%}" if status.total else ""
    rest = figures_line(status.figures, status.memory, status.left)
    age = now - status.updated
    old = f"  (reported {age:.0f} s ago)" if age > STALE else ""
    return f"{status.phase}  {status.done}{total}  {rest}{old}"
