"""`lmsi show` in a terminal: the questions of a run, to be searched, filtered and opened.

Knows Textual and the questions; what is shown of one is what `lmsi show --question` prints. On a
wide screen list and question stand side by side, on a narrow one the question covers the list.

    share  winner  kept  question
     100%      42     8  q7  What is 6 * 7?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from rich.console import Group
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable, Footer, Input, Static

from lmsi_cli.cli.full_screen import FullScreen
from lmsi_cli.errors import LmsiError
from lmsi_cli.formats import NONE, printable
from lmsi_cli.records import Question, Vote
from lmsi_cli.reporting.text import Part, rendered
from lmsi_cli.stages.inspect import Browsed, Shown

ALL = "all"
SHARES = {ALL: (0.0, 2.0), "under 50%": (0.0, 0.5), "50 to 90%": (0.5, 0.9),
          "90% and more": (0.9, 2.0)}  # fmt: skip
MOST = 1000  # rows; more of them are for the search
WINNER = 20  # characters of an answer in the list
WIDE = 120  # columns from which list and question stand side by side


class QuestionList(DataTable[Text]):
    """A row for each question that is found; what does not fit on a line ends in an ellipsis."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "Open")]

    def on_resize(self) -> None:
        """Give the question what the other columns leave of the line."""
        *others, question = self.ordered_columns
        taken = sum(c.get_render_width(self) for c in others) + 2 * self.cell_padding
        question.width = max(1, self.scrollable_content_region.width - taken)
        self.notify_style_update()


class QuestionBrowser(FullScreen[None]):
    """Takes the questions, and what is shown of one."""

    CSS = """
    #search { border: none; height: 1; padding: 0 1; background: $surface; }
    #search > .input--placeholder { color: $text-muted; }
    #count { padding: 0 1; color: $text-muted; }
    QuestionList { width: 1fr; height: 1fr; overflow-x: hidden; scrollbar-gutter: stable; }
    QuestionList > .datatable--header { background: $panel; }
    #one { padding: 0 1; }
    VerticalScroll { width: 1fr; border-left: solid $primary; display: none; }
    .-wide VerticalScroll, .reading VerticalScroll { display: block; }
    .-narrow.reading QuestionList { display: none; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012 - as textual has it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search"),
        Binding("c", "next_kind", "Class"),
        Binding("s", "next_share", "Share"),
        Binding("j", "step(1)", "Next"),
        Binding("k", "step(-1)", "Previous"),
        Binding("escape", "to_list", "Back"),
        Binding("q", "quit", "Quit"),
    ]
    TITLE = "lmsi show"

    def __init__(self, run: Browsed, parts: Callable[[Shown], Sequence[Part]]) -> None:
        super().__init__()
        self.browsed, self.parts = run, parts
        self.kinds = {q.id: kinds_of_vote(run.votes.get(q.id)) for q in run.questions}
        self.kind, self.share = ALL, ALL
        self.found: list[Question] = []

    def compose(self) -> ComposeResult:
        """The search, what is found, the list, and one question."""
        yield Input(placeholder="/ searches: words, an id, an answer", id="search", compact=True)
        yield Static(id="count")
        with Horizontal():
            yield QuestionList(cursor_type="row")
            with VerticalScroll():
                yield Static(id="one")
        yield Footer()

    def on_mount(self) -> None:
        """Show all of them."""
        table = self.query_one(QuestionList)
        answers = [v.predicted_answer or "" for v in self.browsed.votes.values()]
        winner = min(WINNER, max(map(len, ["winner", *answers])))
        widths = {"share": 5, "winner": winner, "kept": 4, "question": 1}
        for name, width in widths.items():
            table.add_column(name, width=width)
        table.focus()
        self._sift()

    def on_input_changed(self) -> None:
        """Search while it is typed."""
        self._sift()

    def on_input_submitted(self) -> None:
        """Go to what was found."""
        self.query_one(QuestionList).focus()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Show the question that the cursor is on."""
        self._show(event.cursor_row)

    def on_data_table_row_selected(self) -> None:
        """Read it, with the arrow keys moving its text."""
        self.screen.add_class("reading")
        self.query_one(VerticalScroll).focus()

    def action_search(self) -> None:
        """Type words that all have to be there."""
        self.screen.remove_class("reading")
        self.query_one(Input).focus()

    def action_to_list(self) -> None:
        """From the question or the search to the list."""
        self.screen.remove_class("reading")
        self.query_one(QuestionList).focus()

    def action_step(self, by: int) -> None:
        """To the next question or the one before."""
        table = self.query_one(QuestionList)
        table.move_cursor(row=table.cursor_row + by)

    def action_next_kind(self) -> None:
        """Only the next class of questions, or all of them again."""
        self.kind = _after(self.kind, [ALL, *sorted({k for ks in self.kinds.values() for k in ks})])
        self._sift()

    def action_next_share(self) -> None:
        """Only questions whose winner has the next share."""
        self.share = _after(self.share, list(SHARES))
        self._sift()

    def _sift(self) -> None:
        words = self.query_one(Input).value.lower().split()
        self.found = [q for q in self.browsed.questions if self._fits(q, words)]
        table = self.query_one(QuestionList)
        table.clear()
        for question in self.found[:MOST]:
            table.add_row(*self._row(question))
        total = len(self.browsed.questions)
        more = f"; the first {MOST:,} are listed" if len(self.found) > MOST else ""
        told = f"{len(self.found):,} of {total:,} questions{more}   class: {self.kind}"
        self.query_one("#count", Static).update(f"{told}   share: {self.share}")
        if not self.found:
            self.query_one("#one", Static).update("No question fits.")

    def _fits(self, question: Question, words: list[str]) -> bool:
        vote = self.browsed.votes.get(question.id)
        low, high = SHARES[self.share]
        if self.kind != ALL and self.kind not in self.kinds[question.id]:
            return False
        if not low <= (vote.share if vote else 0.0) < high:
            return False
        winner = vote.predicted_answer if vote else None
        known = (question.id, question.question, winner, question.family)
        text = " ".join(filter(None, known)).lower()
        return all(word in text for word in words)

    def _row(self, question: Question) -> tuple[Text, ...]:
        vote = self.browsed.votes.get(question.id)
        words = _cell(" ".join(question.question.split()), "left")
        if vote is None:
            return _cell(NONE), _cell(NONE), _cell(NONE), words
        winner = vote.predicted_answer or NONE
        return _cell(f"{vote.share:.0%}"), _cell(winner), _cell(f"{len(vote.kept)}"), words

    def _show(self, row: int) -> None:
        if not 0 <= row < len(self.found):
            return
        try:
            parts = self.parts(self.browsed.show(self.found[row]))
        except LmsiError as e:  # the file was changed meanwhile
            parts = [str(e)]
        self.query_one("#one", Static).update(Group(*rendered(*parts)))
        self.query_one(VerticalScroll).scroll_home(animate=False)


def _cell(text: str, side: Literal["left", "right"] = "right") -> Text:
    return Text(printable(text), justify=side, no_wrap=True, overflow="ellipsis")


def _after(now: str, choices: list[str]) -> str:
    return choices[(choices.index(now) + 1) % len(choices)]


def kinds_of_vote(vote: Vote | None) -> tuple[str, ...]:
    """What a question of a run can be found by."""
    if vote is None:
        return ("no vote yet",)
    kinds = {
        "kept" if vote.kept else "not kept": True,
        "ties": vote.tie,
        "no ballots": not vote.total_votes,
        "stopped early": vote.stopped,
    }
    return tuple(kind for kind, holds in kinds.items() if holds)
