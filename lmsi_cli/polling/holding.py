r"""What a row of questions leaves behind when they are voted on: lines, and a few sums.

Knows how one question is voted on; nothing of files' names or processes. Some hundred questions at
a time, so that little is in memory:

    for held in hold(piece, questions.get, polls, observer):
        held
    -> Held(votes=[b'{"ballots":...}\n', ...], train=[...], pairs=[...], tally=<of these questions>)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from lmsi_cli.lines import encode_line
from lmsi_cli.polling.polls import Polls
from lmsi_cli.records import Path, Question, Vote
from lmsi_cli.verdict.observer import Observer
from lmsi_cli.voting import Tally

SLICE = 256  # questions whose lines are in memory at once


class Held:
    """Lines of ``votes.jsonl``, ``train.jsonl`` and ``pairs.jsonl``, and their sums."""

    def __init__(self) -> None:
        self.votes: list[bytes] = []
        self.train: list[bytes] = []
        self.pairs: list[bytes] = []
        self.tally = Tally()


def hold(
    groups: Iterable[tuple[str, list[Path]]],
    question_of: Callable[[str], Question],
    polls: Polls,
    watch: Observer | None,
) -> Iterator[Held]:
    """Vote on questions in turn; LmsiError as ``Polls.hold``, or a question is missing.

    Args:
        groups: The paths of each, after its id.
        question_of: Finds a question by its id.
        polls: How.
        watch: Is told every question.
    """
    held = Held()
    for count, (question_id, paths) in enumerate(groups, 1):
        question = question_of(question_id)
        voted = _add(held, question, paths, polls)
        if watch is not None:
            watch.observe(question, voted, paths)
        if count % SLICE == 0:
            yield held
            held = Held()
    yield held


def _add(held: Held, question: Question, paths: list[Path], polls: Polls) -> Vote:
    selection = polls.hold(question, paths)
    voted = selection.vote
    held.tally.add(selection)
    held.votes.append(encode_line(voted))
    held.train += map(encode_line, polls.examples(question, paths, voted))
    found = polls.preferences(question, paths, voted)
    held.tally.sums["pairs"] += len({p.chosen_path for p in found})
    held.pairs += map(encode_line, found)
    return voted
