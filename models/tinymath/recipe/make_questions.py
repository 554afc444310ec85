r"""Write the question sets, and any number of further questions.

Without ``--count`` it writes the four shipped sets, always with the same bytes. With ``--count``
it writes one more file from a seed of your choice; name the files it must not repeat with
``--exclude``. Two questions are the same where their words are, whatever the spaces and capitals.
Families take turns, so every first part of a file is balanced over them.

This file does not know which questions a model gets right, nor the training text, whose seeds are
others.

How to run it::

    python models/tinymath/recipe/make_questions.py
    python models/tinymath/recipe/make_questions.py --count 2000 --seed 11 --out more.jsonl \
        --exclude models/tinymath/test.jsonl models/tinymath/probe.jsonl
    python models/tinymath/recipe/make_questions.py --smoke --folder scratch

One record, a line of JSON with sorted keys; a set without answers lacks ``answer``::

    {"answer": "600", "family": "units", "id": "test-000007", "question": "Ben buys 3 dozen ..."}
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from random import Random

from families import KNOWN, draw_known
from hard_families import HARD, draw_hard
from stories import Problem
from unseen_families import UNSEEN, draw_unseen

Draw = Callable[[Random, str], Problem]
Record = dict[str, str]

KINDS: dict[str, tuple[tuple[str, ...], Draw]] = {
    "known": (tuple(KNOWN), draw_known),
    "hard": (tuple(HARD), draw_hard),
    "unseen": (tuple(UNSEEN), draw_unseen),
}
MOST_REPEATS = 1000  # draws in a row that were all taken: the family has nothing new to give


@dataclass(frozen=True)
class QuestionSet:
    """One file of questions: what it is called and what is in it."""

    file: str
    prefix: str
    kind: str
    count: int
    seed: int
    answers: bool


SHIPPED = (
    QuestionSet("questions.jsonl", "q", "hard", 400, 40_001, answers=False),
    QuestionSet("probe.jsonl", "probe", "hard", 60, 40_002, answers=True),
    QuestionSet("test.jsonl", "test", "hard", 300, 40_003, answers=True),
    QuestionSet("out_of_domain.jsonl", "ood", "unseen", 100, 40_004, answers=True),
)


def same_words(question: str) -> str:
    """What two equal questions have in common: the words, in small letters, one space apart."""
    return " ".join(question.lower().split())


def draw_new(rng: Random, draw: Draw, family: str, taken: set[str]) -> Problem:
    """Draw a problem whose question is not taken yet."""
    for _ in range(MOST_REPEATS):
        problem = draw(rng, family)
        if same_words(problem.question) not in taken:
            return problem
    raise SystemExit(f"error: {family}: {MOST_REPEATS} draws in a row gave only taken questions")


def make_records(wanted: QuestionSet, taken: set[str]) -> list[Record]:
    """Draw the questions of one set, and add them to what is taken."""
    rng = Random(wanted.seed)
    names, draw = KINDS[wanted.kind]
    records = []
    for number, family in enumerate(islice(cycle(names), wanted.count), start=1):
        problem = draw_new(rng, draw, family, taken)
        taken.add(same_words(problem.question))
        record = {
            "family": family,
            "id": f"{wanted.prefix}-{number:06d}",
            "question": problem.question,
        }
        if wanted.answers:
            record["answer"] = str(problem.answer)
        records.append(record)
    return records


def check_disjoint(records: Iterable[Record], taken: Iterable[str] = ()) -> None:
    """Refuse questions or ids that occur twice.

    Raises:
        SystemExit: naming the first id or question that does.
    """
    questions, ids = set(taken), set[str]()
    for record in records:
        words = same_words(record["question"])
        if words in questions or record["id"] in ids:
            raise SystemExit(f"error: {record['id']} occurs twice: {record['question']!r}")
        questions.add(words)
        ids.add(record["id"])


def to_jsonl(records: Iterable[Record]) -> str:
    """One JSON object a line, keys sorted."""
    return "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)


def write_text(path: Path, text: str) -> None:
    """Write beside the target, then rename: no reader meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)


def read_taken(paths: Iterable[Path]) -> set[str]:
    """Collect the questions of files that are not to be repeated.

    Raises:
        SystemExit: where a file cannot be read, or a line has no question.
    """
    taken = set()
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise SystemExit(f"error: {path}: {error.strerror}") from error
        for number, line in enumerate(lines, start=1):
            try:
                taken.add(same_words(json.loads(line)["question"]))
            except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                raise SystemExit(f"error: {path}:{number}: no JSON with a question") from error
    return taken


def write_sets(sets: Iterable[QuestionSet], folder: Path, exclude: Iterable[Path]) -> None:
    """Draw all sets, check them against one another and the excluded files, then write them."""
    excluded = read_taken(exclude)
    taken = set(excluded)
    made = {wanted: make_records(wanted, taken) for wanted in sets}
    check_disjoint((record for records in made.values() for record in records), excluded)
    for wanted, records in made.items():
        write_text(folder / wanted.file, to_jsonl(records))
        print(f"{folder / wanted.file}: {len(records)} questions")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Write the four question sets, or --count further questions to --out.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("--folder", type=Path, default=here, help="where the four sets go")
    parser.add_argument("--smoke", action="store_true", help="a tenth of each of the four sets")
    parser.add_argument("--count", type=int, help="write one file of so many questions instead")
    parser.add_argument("--seed", type=int, help="its seed, a number you have not used yet")
    parser.add_argument("--out", type=Path, help="its name")
    parser.add_argument("--kind", choices=KINDS, default="hard", help="its families")
    parser.add_argument("--answers", action="store_true", help="with answers")
    parser.add_argument(
        "--exclude", type=Path, nargs="+", default=[], metavar="FILE", help="not to be repeated"
    )
    chosen = parser.parse_args(arguments)
    if len({value is None for value in (chosen.count, chosen.seed, chosen.out)}) > 1:
        parser.error("--count, --seed and --out go together")
    if chosen.count is not None and chosen.count < 1:
        parser.error(f"--count must be at least 1, not {chosen.count}")
    if chosen.smoke and chosen.folder == here:
        parser.error("--smoke would shorten the shipped sets; give it a --folder of its own")
    return chosen


def main() -> None:
    """Write the shipped sets, or one more file."""
    chosen = parse_arguments()
    sets: tuple[QuestionSet, ...] = SHIPPED
    if chosen.smoke:
        sets = tuple(replace(wanted, count=wanted.count // 10) for wanted in SHIPPED)
    folder = chosen.folder
    if chosen.count is not None:
        folder, name, kind = chosen.out.parent, chosen.out.name, chosen.kind
        prefix = f"{kind}{chosen.seed}"  # ids stay apart from those of other seeds
        sets = (QuestionSet(name, prefix, kind, chosen.count, chosen.seed, chosen.answers),)
    write_sets(sets, folder, chosen.exclude)


if __name__ == "__main__":
    main()
