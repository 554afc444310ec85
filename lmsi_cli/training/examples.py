"""The training data of a run folder: examples, or preference pairs.

Knows the run's files and the settings; nothing of tokens or models. With ``loss`` sft, examples are
the lines of ``train.jsonl``; with scpo, pairs are the lines of ``pairs.jsonl``.

    read(RunDir("runs/first"), TrainConfig(loss="sft"))
    -> [TrainExample(question_id="q7", ...), ...]
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Preference, TrainExample
from lmsi_cli.run_folder import RunDir, sha256_file
from lmsi_cli.training.data import Example

# Fewer held-out questions say nothing, and of fewer than TRAINABLE questions they would be over a
# tenth. More than MOST would change no decision: the mean is precise enough.
FEWEST, MOST = 8, 64
TRAINABLE = 10 * FEWEST


def check(run: RunDir, config: TrainConfig) -> None:
    """Check, before any work, that there is something to train on; LmsiError if not."""
    pairs = config.loss == "scpo"
    file = run.pairs if pairs else run.train
    if not file.exists():
        why = ", and --loss scpo trains on its pairs" if pairs else ""
        raise LmsiError(f"{file}: no such file{why}", hint=f"run `lmsi vote {run.typed}` first")
    if not pairs and not file.stat().st_size:
        raise LmsiError(f"{file}: nothing to train on", "loosen the filters of `lmsi vote`")
    if pairs and not count_pairs(run):
        raise LmsiError(
            f"{run.pairs}: no preference pairs: no question has a sure winner and a path of "
            "another answer",
            hint=f"`lmsi vote {run.typed} --set pairs=1 --set pair_share=0.25`, more paths, or "
            "--loss sft",
        )


def read(run: RunDir, config: TrainConfig) -> Sequence[Example]:
    """Read the examples or the pairs; LmsiError: a line is none."""
    if config.loss == "scpo":
        return list(read_records(run.pairs, Preference))
    return list(read_records(run.train, TrainExample))


def count_pairs(run: RunDir) -> int:
    """How many preference pairs of a run have a weight above 0, in whatever formats."""
    pairs = read_records(run.pairs, Preference) if run.pairs.exists() else ()
    return len({(p.question_id, p.chosen_path, p.rejected_path) for p in pairs if p.weight > 0})


def origin(run: RunDir, config: TrainConfig) -> dict[str, Any]:
    """The hash of the file that the training data comes from, as ``lmsi.json`` keeps it."""
    if config.loss == "scpo":
        return {"pairs_sha256": sha256_file(run.pairs)}
    return {"train_sha256": sha256_file(run.train)}


def refuse_empty(examples: Sequence[Example]) -> None:
    """Refuse an example with nothing to learn, by name; lmsi never writes one."""
    for number, e in enumerate(examples, 1):
        for side in (e.chosen, e.rejected) if isinstance(e, Preference) else (e.completion,):
            texts = [side] if isinstance(side, str) else [m.content for m in side]
            if not any(text.strip() for text in texts):
                raise LmsiError(
                    f"training example {number}, question '{e.question_id}' ({e.format}): "
                    "its completion is empty",
                    hint="run `lmsi vote` again, or delete that line",
                )


def chosen(examples: Iterable[Example]) -> list[TrainExample]:
    """Examples unchanged, and the chosen side of pairs, as plain fine-tuning would learn it."""
    return [
        TrainExample(
            prompt=e.prompt,
            completion=e.chosen,
            format=e.format,
            question_id=e.question_id,
            path=e.chosen_path,
        )
        if isinstance(e, Preference)
        else e
        for e in examples
    ]


def split(examples: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """Examples or pairs to train on in their order, and all those of a share of the questions.

    Ids alone decide which, so runs with other settings are measured on the same questions. At
    least ``FEWEST`` and at most ``MOST`` are held out, and none of fewer than ``TRAINABLE``.
    """
    marks = [_mark(e.question_id) for e in examples]
    ids = sorted(set(marks))
    if not share or len(ids) < TRAINABLE:
        return list(examples), []
    held = set(ids[: min(MOST, max(FEWEST, round(share * len(ids))))])
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example, mark in zip(examples, marks, strict=True):
        sides[mark in held].append(example)
    return sides


def one_each(examples: Iterable[TrainExample], most: int = MOST) -> list[TrainExample]:
    """One example of each question, drawn from its examples by hash; at most ``most`` questions."""
    found: dict[bytes, TrainExample] = {}
    for e in sorted(examples, key=lambda e: _mark(f"{e.question_id}/{e.format}/{e.path}")):
        found.setdefault(_mark(e.question_id), e)
    return [found[mark] for mark in sorted(found)[:most]]


def _mark(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
