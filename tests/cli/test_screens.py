"""The views that fill a terminal, `lmsi show` and `lmsi watch`, at 80 and at 200 columns."""

import asyncio
import html
import re
import time

import builders
import msgspec
import pytest
from rich.color import ColorType

from lmsi_cli.cli.inspect import shown_parts
from lmsi_cli.cli.question_browser import QuestionBrowser, QuestionList
from lmsi_cli.cli.watch import scene_parts
from lmsi_cli.cli.watch_screen import WatchScreen
from lmsi_cli.jsonl import appender, read_records, write_records
from lmsi_cli.records import Path, Question, Status, Vote
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.inspect import Follower, Scene, Stage, browsed
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.voting.ballots import vote

HOSTILE = "\x1b[2J\x9b31m[red]\x07\u202e"
HARMLESS = "\\x1b[2J\\x9b31m[red]\\x07\\u202e The answer is >>"
SIZES = pytest.mark.parametrize("size", [(80, 24), (200, 50)], ids=["80", "200"])


@pytest.fixture
def run(tmp_path):
    """Thirty questions: of every third all paths agree, of the others the first two of four."""
    run = RunDir(tmp_path / "run")
    run.create()
    asked = [Question(id=f"q{i}", question=f"{HOSTILE} What is {i} + 1?") for i in range(30)]
    paths = [path(i, n, n) for i in range(30) for n in range(4)]
    write_records(run.questions, asked)
    write_records(run.paths, paths)
    write_records(run.votes, [vote(q.id, paths[4 * i : 4 * i + 4]) for i, q in enumerate(asked)])
    return run


def path(question, number, answer):
    value = str(7 if question % 3 == 0 or answer < 2 else answer)
    text = f"{HOSTILE} The answer is {value}."
    return builders.path(number, value, text, question_id=f"q{question}")


def seen(app):
    """What stands on the screen; a character that steers would make the picture no XML."""
    text = re.sub(r"<style.*?</style>|<[^>]*>", "", app.export_screenshot(), flags=re.DOTALL)
    return html.unescape(text).replace("\xa0", " ")


def lines(app):
    """What stands on each line of the screen, cell by cell."""
    wide, high = app.size
    strips = app.screen._compositor.render_strips()
    return [strip.text[:wide] for strip in strips[:high]]


def played(app, size, *steps):
    """Run an app without a terminal; a step is some keys, or a function to be called."""

    async def play():
        async with app.run_test(size=size) as pilot:
            for step in steps:
                await pilot.pause()
                await (step(pilot) if callable(step) else pilot.press(*step))
            await pilot.pause()

    asyncio.run(play())
    return app


def check(holds):
    """A step that looks at the app."""

    async def look(pilot):
        assert holds(pilot.app), seen(pilot.app)

    return look


@SIZES
def test_questions_are_searched_filtered_and_opened(run, size):
    wide = size[0] > 80
    with browsed(run, load_task("number")) as found:
        played(
            QuestionBrowser(found, shown_parts),
            size,
            check(lambda app: "30 of 30 questions" in seen(app) and "What is 0 + 1?" in seen(app)),
            check(lambda app: ("path 0" in seen(app)) == wide),
            "/q17",
            check(lambda app: [q.id for q in app.found] == ["q17"]),
            ("enter", "enter"),
            check(lambda app: "path 0   7 by marker" in seen(app) and ">>7<<" in seen(app)),
            check(lambda app: not wide or HARMLESS in seen(app)),
            check(lambda app: not set(seen(app)) & set("\x1b\x9b\x07\u202e")),
            check(lambda app: app.query_one(QuestionList).display == wide),
            ("slash", "ctrl+u", "escape", "s", "s"),
            check(lambda app: len(app.found) == 20 and "share: 50 to 90%" in seen(app)),
            ("s", "j", "enter"),
            check(lambda app: len(app.found) == 10 and "q3 " in seen(app)),
            ("escape", "c"),
            check(lambda app: "class: kept" in seen(app) and len(app.found) == 10),
            "q",
        )


def test_a_long_question_and_answer_end_in_an_ellipsis(run):
    """However wide the screen is, and with a scroll bar as without one."""
    [first, *others] = read_records(run.votes, Vote)
    write_records(run.votes, [msgspec.structs.replace(first, predicted_answer="7" * 99), *others])
    write_records(run.questions, [Question(id=f"q{n}", question="so " * 99) for n in range(30)])

    def cut(app):
        table = app.query_one(QuestionList)
        listed = [line[: table.region.width].rstrip(" ▁▂▃▄▅▆▇█") for line in lines(app)]
        first, *others = [line for line in listed if "so so" in line]
        last = table.scrollable_content_region.width - 1
        return "777…" in first and all(line.find("…", last - 1) == last - 1 for line in others)

    async def widen(pilot):
        await pilot.resize_terminal(200, 50)

    with browsed(run, load_task("number")) as found:
        look = check(cut)
        played(QuestionBrowser(found, shown_parts), (80, 24), look, widen, look, "/q0", look)


def test_views_keep_to_the_colours_of_the_terminal(run):
    """A colour of their own would not fit both a light and a dark one."""

    def plain(app):
        cells = [app.screen.get_style_at(x, y) for x in range(80) for y in range(24)]
        colours = {colour.type for s in cells for colour in (s.color, s.bgcolor) if colour}
        return colours <= {ColorType.DEFAULT, ColorType.STANDARD} and len(colours) == 2

    watching = WatchScreen(scene(), scene, lambda s: scene_parts(s, 0.0), Follower(run))
    played(watching, (80, 24), check(plain))
    with browsed(run, load_task("number")) as found:
        played(QuestionBrowser(found, shown_parts), (80, 24), check(plain), "/q", check(plain))


def scene(working=True, ended=None):
    status = Status(
        command="sample q.jsonl", pid=1, phase="sampling", done=120, total=400, left=239.0,
        figures={"parsed": "96%"}, memory=612 << 20, begun=0.0, updated=time.time(), ended=ended,
    )  # fmt: skip
    stages = (Stage(name="sample", there="120 of 400 paths"),)
    return Scene(folder="runs/a", working=working, status=status, stages=stages)


@SIZES
def test_a_run_is_watched_until_it_ends(run, size):
    run.adapter.mkdir()
    run.train_log.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n{"st')
    before = {f: f.read_bytes() for f in run.root.rglob("*") if f.is_file()}
    looks = iter([scene(), scene(), scene(False, "done")])

    async def comes(pilot):
        assert {f: f.read_bytes() for f in run.root.rglob("*") if f.is_file()} == before
        with appender(run.paths, Path) as file:
            file.write(builders.path(0, "99", f"{HOSTILE} It is 99.", question_id="new"))
        pilot.app._again()

    async def ends(pilot):
        while pilot.app.return_value is None:
            pilot.app._again()
            await pilot.pause()

    told = ("sampling  120/400  30.0%  parsed 96%  612 MiB  left 3:59", "120 of 400 paths",
            "agreement so far 67%, of 30 questions", "loss 0.500 to 0.250",
            "q29 path 3")  # fmt: skip
    app = played(
        WatchScreen(scene(), lambda: next(looks), lambda s: scene_parts(s, time.time()),
                    Follower(run)),
        size,
        check(lambda app: all(words in seen(app) for words in told)),
        comes,
        check(lambda app: "new path 0  99  \\x1b[2J" in seen(app)),
        ends,
    )  # fmt: skip
    assert app.return_value.status.ended == "done"


def test_q_leaves_a_run_alone(run):
    watching = WatchScreen(scene(), scene, lambda s: scene_parts(s, 0.0), Follower(run))
    assert played(watching, (80, 24), "q").return_value.working
