"""The question sets of the experiments: drawn from the embedded model's recipe, or public ones.

Every set is written once, as a file with answers (for marking, and for probes) and one without
(the only one that is sampled from). Knows nothing of models. Public sets are read from a folder
that the user names; without it the experiments that need them are left out.

    Sets(work, shared).labelled("half test")  -> work/sets/half-test.jsonl
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from lmsi_cli.jsonl import write_records
from lmsi_cli.records import Question
from lmsi_cli.tasks.readers import read_labelled

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "models" / "tinymath"
RECIPE = SHIPPED / "recipe" / "make_questions.py"


class Drawn(NamedTuple):
    """Questions from the recipe: a kind's families in turn, all of them or only the named ones."""

    kind: str
    count: int
    seed: int
    families: tuple[str, ...] = ()


class Public(NamedTuple):
    """Questions ``begin`` to ``end`` of a public file, under the folder of public sets."""

    source: str
    begin: int
    end: int
    task: str


DRAWN = {
    "half": Drawn("hard", 1000, 70_001),
    "known": Drawn("known", 200, 70_002),
    "known test": Drawn("known", 200, 70_003),
    "unseen": Drawn("unseen", 200, 70_004),
    **{
        f"{name}{test}": Drawn("hard", 1050, seed + (5 if test else 0), (family,))
        for name, family, seed in (
            ("chains", "chain_long", 70_010),
            ("shopping", "shopping_many", 70_011),
            ("percent", "percent", 70_012),
        )
        for test in ("", " test")
    },
}
PUBLIC = {
    "gsm8k": Public("gsm8k:gsm8k/train.jsonl", 0, 200, "gsm8k"),
    "gsm8k test": Public("gsm8k:gsm8k/test.jsonl", 0, 200, "gsm8k"),
    "gsm8k train": Public("gsm8k:gsm8k/train.jsonl", 0, 1000, "gsm8k"),
    "gsm8k exam": Public("gsm8k:gsm8k/test.jsonl", 0, 500, "gsm8k"),
    "svamp": Public("svamp:svamp/SVAMP.json", 0, 200, "svamp"),
    "svamp test": Public("svamp:svamp/SVAMP.json", 500, 700, "svamp"),
    "svamp train": Public("svamp:svamp/SVAMP.json", 0, 500, "svamp"),
    "svamp exam": Public("svamp:svamp/SVAMP.json", 500, 900, "svamp"),
    "aqua test": Public("aqua:aqua/test.json", 0, 100, "aqua"),
    "strategyqa test": Public("strategyqa:strategyqa/dev.json", 0, 100, "strategyqa"),
}
SHIPPED_SETS = {"half test": "test.jsonl", "unseen test": "out_of_domain.jsonl"}


class Sets:
    """Question files by name, made when they are first asked for."""

    def __init__(self, work: Path, shared: Path | None) -> None:
        self.folder, self.shared = work / "sets", shared

    def has(self, name: str) -> bool:
        """Whether a set is available; public ones need their folder."""
        return name not in PUBLIC or self.shared is not None

    def task(self, name: str) -> str:
        """The task with which a set is asked."""
        return PUBLIC[name].task if name in PUBLIC else "tinymath"

    def labelled(self, name: str) -> Path:
        """The file with answers."""
        if name in SHIPPED_SETS:
            return SHIPPED / SHIPPED_SETS[name]
        file = self.folder / f"{name.replace(' ', '-')}.jsonl"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            questions = self._public(PUBLIC[name]) if name in PUBLIC else self._drawn(name)
            write_records(file, questions)
        return file

    def bare(self, name: str) -> Path:
        """The file without answers."""
        source = self.labelled(name)
        file = self.folder / "bare" / source.name
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            told = (msgspec.structs.replace(q, answer=None) for q in read_labelled(str(source)))
            write_records(file, told)
        return file

    def _public(self, wanted: Public) -> list[Question]:
        layout, _, file = wanted.source.partition(":")
        found = read_labelled(f"{layout}:{self.shared / file}" if self.shared else wanted.source)
        return found[wanted.begin : wanted.end]

    def _drawn(self, name: str) -> list[Question]:
        wanted = DRAWN[name]
        draft = self.folder / f"draft-{name.replace(' ', '-')}.jsonl"
        apart = [*SHIPPED.glob("*.jsonl")]
        command = [RECIPE, "--count", wanted.count, "--seed", wanted.seed, "--kind", wanted.kind,
                   "--answers", "--out", draft, "--exclude", *apart]  # fmt: skip
        subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)
        found = read_labelled(str(draft))
        draft.unlink()
        return [q for q in found if not wanted.families or q.family in wanted.families]
