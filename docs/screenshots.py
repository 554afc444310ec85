"""Makes the pictures of docs/images from runs of the embedded model.

    M=models/tinymath
    lmsi run $M/questions.jsonl -m tinymath --data $M/test.jsonl -o runs/first --limit 100 \
        --paths 8 --set train.max_steps=16 --set eval.limit=60
    python docs/screenshots.py runs/first

The page is pictured by Chromium, the views of the terminal by Textual, all in light and dark; for
`lmsi watch` a small run is begun, pictured while it trains, and ended.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME

from lmsi_cli.cli.inspect import shown_parts
from lmsi_cli.cli.question_browser import QuestionBrowser
from lmsi_cli.cli.watch import scene_parts
from lmsi_cli.cli.watch_screen import WatchScreen
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.asking import task_of
from lmsi_cli.stages.inspect import Follower, browsed, scene

HERE = Path(__file__).resolve().parent
IMAGES, MODEL = HERE / "images", HERE.parent / "models" / "tinymath"
NARROW, WIDE = (80, 24), (130, 32)  # columns and rows
TERMINALS = {"light": DEFAULT_TERMINAL_THEME, "dark": SVG_EXPORT_THEME}
FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # addresses that nothing should be asked of


def pictured_page(run: Path) -> None:
    """The first screen in light and dark."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        page = Path(folder) / "report.html"
        command = [sys.executable, "-m", "lmsi_cli", "report", str(run), "-o", str(page)]
        subprocess.run(command, check=True)
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        size: Any = {"width": 1000, "height": 598}
        for scheme in ("light", "dark"):
            tab = browser.new_page(viewport=size, color_scheme=scheme)
            tab.goto(page.as_uri())
            tab.screenshot(path=IMAGES / f"report-{scheme}.png")


def pictured(app: Any, size: tuple[int, int], name: str, *keys: str) -> None:  # noqa: ANN401
    """A view of the terminal, after some keys, in light and dark."""

    async def play() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause(1)
            await pilot.press(*keys)
            await pilot.pause(1)
            for scheme, colours in TERMINALS.items():
                export = partialmethod(Console.export_svg, theme=colours)
                with patch.object(Console, "export_svg", export):
                    picture = FONTS.sub("", app.export_screenshot(title=app.title))
                (IMAGES / f"{name}-{scheme}.svg").write_text(picture, encoding="utf-8")

    asyncio.run(play())


def pictured_questions(run: RunDir) -> None:
    """The questions of a run, on a narrow and on a wide terminal."""

    def shown(one: Any) -> Any:  # noqa: ANN401
        return shown_parts(one, vote_first=True)

    with browsed(run, task_of(run)) as found:
        pictured(QuestionBrowser(found, shown), NARROW, "show-80", *"jj")
        pictured(QuestionBrowser(found, shown), WIDE, "show", *"ssj")


@contextmanager
def training_run() -> Iterator[RunDir]:
    """A small run that trains now, in a folder of its own; it is ended afterwards."""
    words = [str(MODEL / "questions.jsonl"), "-m", "tinymath", "--limit", "12", "--paths", "4"]
    command = [
        sys.executable,
        "-m",
        "lmsi_cli",
        "run",
        *words,
        "-o",
        "runs/third",
        "--threads",
        "1",
        "--force",
    ]
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        child, run = subprocess.Popen(command), RunDir("runs/third")
        try:
            _until(lambda: run.train_log.exists() and run.train_log.read_bytes().count(b"\n") > 2)
            yield run
        finally:
            child.terminate()
            child.wait()


def _until(holds: Callable[[], bool], limit: float = 600.0) -> None:
    end = time.monotonic() + limit
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(1)


def pictured_watch() -> None:
    """A run at work, at 80 columns."""
    with training_run() as run:
        app = WatchScreen(
            scene(run), lambda: scene(run), lambda s: scene_parts(s, time.time()), Follower(run)
        )
        pictured(app, NARROW, "watch")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    first = Path(sys.argv[1])
    pictured_page(first)
    pictured_questions(RunDir(first))
    pictured_watch()
