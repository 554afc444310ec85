"""Commands that only show things: `show`, `watch`, `explain`, `tasks`, `models`, `doctor`."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group as Lines
from rich.live import Live
from rich.text import Text

from lmsi_cli.answers import TRIGGER, Asked, Step, listed
from lmsi_cli.answers import explain as steps_of
from lmsi_cli.catalog import at_hand, cards, find_model
from lmsi_cli.cli.console import out
from lmsi_cli.cli.options import Command, Group, complete_models
from lmsi_cli.cli.session import Json, RunFolder, watched
from lmsi_cli.cli.session import show as print_result
from lmsi_cli.formats import NONE, figures_line, printable
from lmsi_cli.prompts import clean
from lmsi_cli.records import Path, Vote
from lmsi_cli.reporting.digest import Part, Sheet, bars, rendered
from lmsi_cli.run_folder import RunDir
from lmsi_cli.splits import read_metadata
from lmsi_cli.tasks.loader import find_task, load_task, summaries, task_names
from lmsi_cli.thinking import answer_part
from lmsi_cli.voting.ballots import is_refuted

if TYPE_CHECKING:  # for the sake of --help, which imports nothing heavy
    from lmsi_cli.stages.inspect import Listed, Scene, Shown

tasks_app = typer.Typer(cls=Group, invoke_without_command=True)
models_app = typer.Typer(cls=Group, invoke_without_command=True)

QuestionId = Annotated[
    str, typer.Option(help="A question's id; if left out, all questions are listed.")
]
TextArgument = Annotated[str, typer.Argument(help="What a model wrote; - reads stdin.")]
Kind = Annotated[str, typer.Option(help="number, choice, yesno, date, span, latex or text.")]
Asking = Annotated[
    str,
    typer.Option(help="The question, with its options a line each, (A) ...; its numbers count."),
]
TaskName = Annotated[
    str,
    typer.Argument(
        help="A name from the list, or the path of a .toml file.", autocompletion=task_names
    ),
]
ModelName = Annotated[
    str,
    typer.Argument(
        help="A GGUF file, or a name as `lmsi sample -m` takes it.", autocompletion=complete_models
    ),
]
Once = Annotated[bool, typer.Option("--once", help="Look once; do not wait for the end.")]
OPEN, CLOSE = ">>", "<<"  # around the words that an answer was read from
SEEN = 60  # characters shown of the place that a rule looked at
STALE = 30.0  # seconds after which the age of the last report is shown
OFTEN = 2.0  # seconds between looks in a terminal, as often as a command reports
QUIET = 30.0  # seconds between looks outside a terminal: each is printed below the last
WINNER, WORDS = 20, 48  # characters in the list: of an answer, of a question


def show(run: RunFolder, question: QuestionId = "", json: Json = False) -> None:
    """List a run's questions with their votes, or show one of them.

    --question shows one question's paths with their answers marked, the ballots and the vote.

    Example: lmsi show runs/first --question q7
    """
    from lmsi_cli.stages.asking import task_of
    from lmsi_cli.stages.inspect import list_questions, show_question

    folder = RunDir(run)
    task = task_of(folder)
    if question:
        found = show_question(folder, task, question)
        print_result(found, json, *shown_parts(found))
    else:
        every = list_questions(folder)
        print_result(every, json, list_sheet(every))


def list_sheet(every: Sequence[Listed]) -> Sheet:
    """A line for each question; long questions and answers are cut."""
    rows = tuple(
        (
            q.id,
            NONE if q.share is None else f"{q.share:.0%}",
            NONE if q.predicted_answer is None else _short(q.predicted_answer, WINNER),
            NONE if q.kept is None else f"{q.kept}",
            _short(q.question, WORDS),
        )
        for q in every
    )
    return Sheet(title="", columns=("question", "share", "winner", "kept", ""), rows=rows)


def _short(text: str, width: int) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= width else f"{line[: width - 3]}..."


def shown_parts(s: Shown) -> list[Part]:
    """A question, its paths, its ballots and its vote."""
    asked = [f"{s.question.id}  ({s.questions} questions in the run)", f"{s.question.question}\n"]
    paths: list[Part] = []
    for p in s.paths:
        style = "bold green" if s.vote and p.path.path in s.vote.kept else "bold"
        paths.append(Text(printable(path_line(p.path, s.vote)), style))
        paths.append(marked(p.path.text.rstrip() + "\n", p.start, p.end))
    votes: list[Part] = ["no vote yet: `lmsi vote` counts the ballots"]
    if s.vote is not None:
        ballots = bars("", s.vote.ballots, ("ballot", "paths"))
        votes = [*([ballots] if s.vote.ballots else []), vote_line(s.vote)]
    return [*asked, *paths, *votes]


def vote_line(vote: Vote) -> str:
    """Who won, how clearly, and among how many."""
    paths = f"{vote.num_paths} path{'s' * (vote.num_paths != 1)}"
    counted = (
        f"ballots: {vote.total_votes} of {paths} ({vote.no_answer} without an answer, "
        f"{vote.truncated} cut off, {vote.refuted} with a false equation)"
    )
    if vote.predicted_answer is None:
        return f"no winner{', a tie' * vote.tie}; {counted}"
    figures = f"share {vote.share:.0%}, margin {vote.margin:.0%}, {len(vote.kept)} paths kept"
    return f"winner {vote.predicted_answer}: {figures}; {counted}"


def path_line(path: Path, vote: Vote | None) -> str:
    """A path's answer, the rule that read it, its length, and what became of it."""
    answer = path.predicted_answer
    facts = ["no answer" if answer is None else f"{answer} by {path.extract_rule}"]
    facts.append(f"{path.num_generated_tokens} tokens")
    facts += ["cut off"] if path.stop_reason == "length" else []
    facts += ["a false equation"] if is_refuted(path) else []
    facts += ["kept"] if vote and path.path in vote.kept else []
    return f"path {path.path}   {', '.join(facts)}"


def watch(run: RunFolder, once: Once = False, json: Json = False) -> None:
    """Show a running or finished run; only reads, so it disturbs nothing.

    Watching ends when the command in the folder ends; Ctrl-C ends only the watching.

    Example: lmsi watch runs/first
    """
    from lmsi_cli.stages.inspect import scene

    folder, console = RunDir(run), out()
    seen = scene(folder)
    if seen.working and not (once or json):
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while seen.working:
                view = Lines(*rendered(*scene_parts(seen, time.time())))
                if console.is_terminal:
                    live.update(view, refresh=True)
                else:
                    console.print(view)
                time.sleep(OFTEN if console.is_terminal else QUIET)
                seen = scene(folder)
    print_result(seen, json, *scene_parts(seen, time.time()))


def scene_parts(scene: Scene, now: float) -> list[Sheet | str]:
    """The stages of a run folder, and what the last command does or how it ended.

    ``now`` is in seconds since 1970.
    """
    rows = tuple((name, there or NONE) for name, there in scene.stages.items())
    sheet, status = Sheet(title=scene.folder, rows=rows), scene.status
    if status is None:
        return [sheet]
    head = f"lmsi {status.command}"
    if status.ended is not None:
        return [sheet, *status.said, f"{head}: {status.ended}"]
    if not scene.working:
        return [sheet, *status.said, f"{head}: killed; the same command goes on"]
    total = f"/{status.total}  {status.done / status.total:.1%}" if status.total else ""
    rest = figures_line(status.figures, status.memory, status.left)
    age = now - status.updated
    old = f"  (reported {age:.0f} s ago)" if age > STALE else ""
    moment = f"{status.phase}  {status.done}{total}  {rest}{old}"
    return [sheet, head, *status.said, moment]


def explain(
    text: TextArgument, kind: Kind = "number", question: Asking = "", json: Json = False
) -> None:
    """Show every rule that looks for an answer, where it looks, and which one decides.

    Example: lmsi explain "She has 6 * 7 = 42. The answer is 42." --kind number
    """
    data = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
    said = answer_part(data.decode("utf-8", "replace"))
    asked = clean(question)
    steps = steps_of(said, kind, TRIGGER, Asked(listed(asked), question=asked))
    answer = next((s.found.value for s in steps if s.fired and s.found), None)
    rules = [
        {"rule": s.rule, "place": s.place, "found": s.found and s.found._asdict(), "fired": s.fired}
        for s in steps
    ]
    found = {"answer": answer, "text": said, "rules": rules}
    print_result(found, json, *explanation(said, steps))


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
    answer = "no answer: no rule found its place"
    if fired and fired.found:
        words = marked(text, fired.found.start, fired.found.end)
        answer = f"answer {fired.found.value}: {words}"
    elif fired:
        answer = f"no answer, by the rule {fired.rule}: no single value stands in its place"
    return [Sheet(title="", columns=columns, rows=tuple(rows)), answer]


def marked(text: str, start: int | None, end: int | None) -> str:
    """A text with plain-text marks around the answer's words, so that they show in a file, too."""
    if start is None or end is None:
        return text
    return f"{text[:start]}{OPEN}{text[start:end]}{CLOSE}{text[end:]}"


@tasks_app.callback()
def tasks(context: typer.Context, json: Json = False) -> None:
    """Show the tasks that come with lmsi, or check one of your own.

    Example: lmsi tasks
    """
    context.meta["json"] = json
    if context.invoked_subcommand is None:
        found, rows = summaries(), []
        for t in found:
            chance = "" if t.chance is None else f"{t.chance:.0%}"  # what guessing would get
            rows.append((t.name, t.kind, f"{len(t.exemplars)}", chance, t.description))
        columns = ("task", "kind", "examples", "chance", "")
        print_result(found, json, Sheet(title="", columns=columns, rows=tuple(rows)))


@tasks_app.command("show", cls=Command)
def show_task(context: typer.Context, name: TaskName, json: Json = False) -> None:
    """Check a task and print its file, as a starting point for your own.

    Example: lmsi tasks show gsm8k
    """
    task = load_task(name)
    json = json or context.meta["json"]  # it may stand before "show"
    print_result(task, json, find_task(name).read_text(encoding="utf-8").rstrip())


@models_app.callback()
def models(context: typer.Context, json: Json = False) -> None:
    """List the models that come with lmsi and those of other programs, or show one of them.

    Example: lmsi models
    """
    context.meta["json"] = json
    if context.invoked_subcommand is None:
        own = [card for name in cards() if (card := find_model(name).card)]
        found = [model._asdict() | {"file": str(model.file)} for model in at_hand()]
        rows = [(card.name, card.summary) for card in own]
        rows += [(model["name"], model["place"]) for model in found]
        print_result([*own, *found], json, Sheet(title="models", rows=tuple(rows)))


@models_app.command("show", cls=Command)
def show_model(context: typer.Context, name: ModelName, json: Json = False) -> None:
    """Print a model's card and its file's metadata.

    Example: lmsi models show tinymath
    """
    with watched(context.find_root().params["quiet"], None) as progress:
        model = find_model(name, progress)
    meta = read_metadata(model.path)
    rows = tuple(
        (k.replace("_", " "), f"{v:,}" if isinstance(v, int) else str(v)) for k, v in meta.items()
    )
    card = [cards()[model.card.name].read_text(encoding="utf-8")] if model.card else []
    found = {"card": model.card, "file": str(model.path), "metadata": meta}
    json = json or context.meta["json"]
    print_result(found, json, *card, Sheet(title=str(model.path), rows=rows))


def doctor(json: Json = False) -> None:
    """Check this machine: versions, memory, llama.cpp, torch, GPU; the last line says what to do.

    Example: lmsi doctor
    """
    from lmsi_cli.stages.doctor import conclusion, examine

    checks, rows, tones = examine(), [], []
    for c in checks:
        tone = "bad" if c.fatal else "care" if c.problem else "good"
        mark = {"bad": "x", "care": "!", "good": "ok"}[tone]
        below = {"problem": c.problem, "advice": c.advice}
        lines = [("", "", f"{name}: {text}") for name, text in below.items() if text]
        rows += [(mark, c.name, c.value), *lines]
        tones += [tone, *[""] * len(lines)]
    print_result(checks, json, Sheet(title="lmsi doctor", rows=tuple(rows), tones=tuple(tones)))
    if not json:  # unwrapped, so that a command in it can be copied whole
        out().print(f"\n{conclusion(checks)}", markup=False, emoji=False, soft_wrap=True)
    if any(c.fatal for c in checks):
        raise typer.Exit(1)
