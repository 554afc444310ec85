"""Which questions an adapter was trained on, from the run folder that it lies in.

Knows where training leaves its files; nothing of how it works.

    trained_on(Path("runs/a/adapter/adapter.gguf")) -> [Question(id="q7", ...), ...]
"""

from __future__ import annotations

from pathlib import Path

from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Question, TrainExample
from lmsi_cli.run_folder import RunDir


def trained_on(adapter: Path) -> list[Question]:
    """Questions of the run that made an adapter and of which it kept a path.

    Where the examples are gone, all questions of the run count.

    Returns:
        Empty for an adapter that lies in no run folder: nothing is known of it.
    """
    run = RunDir(adapter.absolute().parent.parent)
    if run.adapter_gguf != adapter.absolute() or not run.questions.exists():
        return []
    asked = list(read_records(run.questions, Question))
    if not run.train.exists():
        return asked
    kept = {e.question_id for e in read_records(run.train, TrainExample)}
    return [q for q in asked if q.id in kept]
