"""What a run resumes from: the paths it has, its questions, and its settings.

Knows the files of a run folder; nothing of how a path is drawn. A run resumes only with the same
questions, the same model and the same settings; if one differs, the user is told:

    the paths in runs/a had other settings: temperature: 0.7 in the run folder, 0.9 now
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, KeysView, Sequence
from pathlib import Path
from typing import Any

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object, read_records, write_records
from lmsi_cli.records import Path as Sampled
from lmsi_cli.records import Question
from lmsi_cli.run_folder import ORIGIN, RunDir, as_toml, sha256_file

ANEW = "lmsi train RUN --overwrite"  # with `lmsi run`, --overwrite would discard the paths, too
Values = dict[str, Any]
HASH = "_sha256"  # ends the name of a setting that holds the hash of a file
MOST = 1 << 16  # runs use path numbers below this; a file edited by hand may hold others


class DrawnPaths:
    """The paths that are done, each counted once: ``paths`` in all, ``parsed`` with an answer.

    A run of a million questions has tens of millions of paths; as Python tuples their keys alone
    would take gigabytes. Here each question has one whole number whose bit k stands for path k:
    ``{"q7": 0b100001}`` has paths 0 and 5. A path number that no run uses is not counted, but its
    question still counts as having paths.
    """

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self.paths = self.parsed = 0

    def add(self, question_id: str, path: int, parsed: bool) -> None:
        """Count a path, numbered from 0."""
        before = self._bits.get(question_id, 0)
        bit = 1 << path if 0 <= path < MOST else 0
        self._bits[question_id] = before | bit
        if bit & ~before:
            self.paths += 1
            self.parsed += parsed

    def lacks(self, question_id: str, paths: int) -> tuple[int, ...]:
        """The numbers below ``paths`` that are still to be drawn, in order."""
        bits = self._bits.get(question_id, 0)
        return tuple(i for i in range(paths) if not bits >> i & 1)

    @property
    def questions(self) -> KeysView[str]:
        """The questions with a path."""
        return self._bits.keys()


def drawn_paths(file: Path, each: Callable[[Sampled], None] | None = None) -> DrawnPaths:
    """Read which paths a run has (none without the file); ``each`` is called with every path."""
    drawn = DrawnPaths()
    for path in read_records(file, Sampled) if file.exists() else ():
        drawn.add(path.question_id, path.path, path.predicted_answer is not None)
        if each is not None:
            each(path)
    return drawn


def keep_questions(file: Path, questions: Sequence[Question], sampled: Collection[str]) -> None:
    """Add questions to the run's own copy, so that later stages need no other file.

    A question may change its text as long as it has no paths; ``sampled`` holds the ids of those
    that have some. Without any, the copy of an earlier call that drew nothing does not count.
    LmsiError: a sampled question has another text than in the copy.
    """
    known = {q.id: q for q in read_records(file, Question)} if sampled and file.exists() else {}
    for q in questions:
        if q.id in sampled and known.get(q.id, q).question != q.question:
            hint = "give it a new id, start over with `--overwrite`, or use another folder"
            raise LmsiError(f"question {q.id!r} has another text than in {file}", hint)
        known[q.id] = q
    write_records(file, known.values())


def check_same(
    saved: Values, now: Values, what: str, free: Container[str] = (), anew: str = "--overwrite"
) -> None:
    """Refuse to resume a run folder with other settings than it was begun with.

    A missing key equals None and an empty list, and a tuple equals a list, since TOML keeps neither
    None nor tuples. A different ``model_sha256`` is reported as ``model``, by the name beside it
    (``model_name``, ``model_file`` or ``model``); the name itself may differ, as a file may move.
    ``what`` says what the settings belong to, such as ``"the paths in runs/a"``; settings in
    ``free`` may differ; ``anew`` starts over. LmsiError: names each setting that differs, with both
    values.
    """
    old, new = as_toml(saved), as_toml(now)
    keys = [k for k in dict.fromkeys([*new, *old]) if k not in free]
    names = {n for k in keys if k.endswith(HASH) for n in _names(k)}
    if changed := [k for k in keys if k not in names and old.get(k, []) != new.get(k, [])]:
        other = "; ".join(_difference(k, old, new) for k in changed)
        hint = f"give the old value, start over with `{anew}`, or use another folder"
        raise LmsiError(f"{what} had other settings: {other}", hint)


def _names(key: str) -> list[str]:
    """The settings that may hold the name of a hashed file, best first."""
    stem = key.removesuffix(HASH)
    return [f"{stem}_name", f"{stem}_file", stem]


def _difference(key: str, old: Values, new: Values) -> str:
    """How a setting differs; files are shown by name, since a hash tells a person nothing."""
    label = key.removesuffix(HASH)
    before, now = ("not set" if s.get(key, []) == [] else s[key] for s in (old, new))
    if key.endswith(HASH):
        before, now = (
            next((s[n] for n in _names(key) if s.get(n)), "the file") if key in s else "none"
            for s in (old, new)
        )
        if before == now:
            return f"{label}: {now} has changed since"
    return f"{label}: {before} in the run folder, {now} now"


def check_model(run: RunDir, model: Path, model_sha256: str) -> None:
    """Refuse to train or to measure another model than the one that drew the run's paths.

    A folder without samples accepts any model. ``model_sha256`` is the hash of the file now.
    """
    saved = run.load_settings().get("sample", {})
    if "model_sha256" in saved:
        check_same(
            {"model": saved.get("model"), "model_sha256": saved["model_sha256"]},
            {"model": str(model.absolute()), "model_sha256": model_sha256},
            f"the paths in {run.root}",
        )


def trained_file(run: RunDir) -> Path | None:
    """The file of examples or pairs that a run's adapter was trained on; None if it has changed.

    A later vote replaces the file. Without a finished adapter it is train.jsonl, if that is there.
    """
    origin = read_object(run.adapter_origin) if run.adapter_origin.exists() else {}
    for name, file in (("pairs_sha256", run.pairs), ("train_sha256", run.train)):
        if name in origin:
            return file if file.exists() and sha256_file(file) == origin[name] else None
    return run.train if run.train.exists() else None


def check_base(adapter: Path, model_sha256: str) -> None:
    """Refuse an adapter that was trained on another model than the one with this hash.

    Without our ``lmsi.json`` beside the GGUF adapter, it cannot be checked and passes.
    """
    file = adapter.with_name(ORIGIN)
    origin = read_object(file) if file.exists() else {}
    if origin.get("base_sha256", model_sha256) != model_sha256:
        message = f"{adapter}: this adapter was trained on another model, {origin.get('base_file')}"
        raise LmsiError(message, hint="use it with that one, or train this one with `lmsi train`")
