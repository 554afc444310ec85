"""`lmsi watch` in a terminal: a run that another process works on, on the whole screen.

Knows Textual and what was seen of the folder; reads and decides nothing. At 80 columns:

    training  12/76  15.8%  loss 0.0548  1.3 GiB  left 2:45
    ━━━━━━━━━━━━━╺━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
    agreement so far 93%, of 72 questions   loss 0.059 to 0.055
    ▇▆▄▃▃▂▂▁
    runs/first
    sample  800 of 800 paths of 100 questions
    ...
    q17 path 3  42  6 * 7 = 42. The answer is 42.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.console import Group
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, ProgressBar, RichLog, Sparkline, Static

from lmsi_cli.cli.full_screen import FullScreen
from lmsi_cli.formats import printable
from lmsi_cli.records import Path
from lmsi_cli.reporting.text import Part, rendered
from lmsi_cli.stages.inspect import Follower, News, Scene

EVERY = 2.0  # seconds, as often as a command reports
KEPT = 2000  # paths that can be scrolled back to
SAID = 2  # lines of the command's that stay


class WatchScreen(FullScreen[Scene]):
    """Ends by itself when the work does; ``run`` returns what was seen last.

    Takes what was seen, how to look again, a scene's parts as `lmsi watch` prints them, the moment
    last, and what follows the paths.
    """

    CSS = """
    Static { height: auto; padding: 0 1; }
    ProgressBar { padding: 0 1; width: 100%; }
    #bar { width: 1fr; }
    Sparkline { margin: 0 1; max-width: 100%; }
    RichLog { width: 100%; height: 1fr; border-top: solid $primary; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit; the run goes on"),
    ]
    TITLE = "lmsi watch"

    def __init__(
        self,
        seen: Scene,
        look: Callable[[], Scene],
        parts: Callable[[Scene], Sequence[Part]],
        follower: Follower,
    ) -> None:
        super().__init__()
        self.seen, self.look, self.parts, self.follower = seen, look, parts, follower

    def compose(self) -> ComposeResult:
        """The moment with its bar, agreement and loss, the stages, and the paths below."""
        yield Static(id="moment")
        yield ProgressBar(show_percentage=False, show_eta=False)
        yield Static(id="news")
        yield Sparkline([])
        yield Static(id="stages")
        yield RichLog(max_lines=KEPT, min_width=0)
        yield Footer()

    def on_mount(self) -> None:
        """Draw what was seen already, and look again and again."""
        self._draw()
        self.set_interval(EVERY, self._again)

    def _again(self) -> None:
        self.seen = self.look()
        if not self.seen.working:
            self.exit(self.seen)
        self._draw()

    async def action_quit(self) -> None:
        """Leave the run alone and give what was seen last."""
        self.exit(self.seen)

    def _draw(self) -> None:
        stages, *said, moment = self.parts(self.seen)
        self.query_one("#moment", Static).update(Group(*rendered(moment)))
        self.query_one("#stages", Static).update(Group(*rendered(stages, *said[-SAID:])))
        bar, status = self.query_one(ProgressBar), self.seen.status
        bar.display = bool(status and status.total)
        if status:
            bar.update(total=status.total or None, progress=status.done)
        self._tell(self.follower.look())

    def _tell(self, news: News) -> None:
        words = []
        if news.agreement is not None:
            words.append(f"agreement so far {news.agreement:.0%}, of {news.questions} questions")
        if news.losses:
            words.append(f"loss {news.losses[0]:.3f} to {news.losses[-1]:.3f}")
        told, line = self.query_one("#news", Static), self.query_one(Sparkline)
        told.display, line.display = bool(words), bool(news.losses)
        told.update("   ".join(words))
        line.data = news.losses
        line.styles.width = len(news.losses)  # a step is a column, until there are too many
        for path in news.paths[-KEPT:]:
            self.query_one(RichLog).write(path_text(path), expand=True)


def path_text(path: Path) -> Text:
    """A path on one line: whose it is, its answer, and how it ends."""
    end = " ".join(path.text.split())
    answer = path.predicted_answer
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{printable(path.question_id)} path {path.path}  ", "dim")
    text.append("no answer" if answer is None else printable(answer), "" if answer else "yellow")
    return text.append(f"  {printable(end)}", "dim")
