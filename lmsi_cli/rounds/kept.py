"""Which folder stands for a run of several rounds, and what its rounds' adapters are called.

Reads the number in ``rounds.json`` and nothing else; a run without that file stands for itself.

    kept_round(RunDir("runs/a")).root == Path("runs/a/round-2")
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object
from lmsi_cli.run_folder import RunDir

BEST = "best"  # in rounds.json


def kept_round(run: RunDir) -> RunDir:
    """The folder whose adapter stands for a run: of several rounds, the one that is kept.

    Raises:
        LmsiError: ``rounds.json`` names no round.
    """
    best = (read_object(run.rounds) if run.rounds.exists() else {}).get(BEST)
    if best is None:
        return run
    number = best.get("number") if isinstance(best, dict) else None
    if not isinstance(number, int) or number < 1:
        raise LmsiError(f"{run.rounds}: names no round to keep", hint="run `lmsi run` again")
    return run.round(number)


def adapters_of(run: RunDir, rounds: Iterable[RunDir] | None = None) -> dict[str, Path]:
    """A run's own adapters by name: ``adapter`` in the run folder itself, else ``round-2``.

    Args:
        run: The run folder.
        rounds: Folders of its rounds; not given: of several, the one that is kept.
    """
    return {
        "adapter" if r.root == run.root else r.root.name: r.adapter_gguf
        for r in ([kept_round(run)] if rounds is None else rounds)
        if r.adapter_gguf.exists()
    }
