"""What ``lmsi sample --dry-run`` foretells, beside what the run then takes.

Each job is foretold and then run, as a user would, in processes of their own; only the drawing
counts, as in the run's own report. Run it alone. One line of the table:

    tinymath: 200 questions, 16 paths, cot-zero, ...: foretold 78 s (61 tokens), took 71 s

    python -m benchmarks.estimates --model tinymath --questions q.jsonl --job 200,16,cot-zero,256
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec

from benchmarks.commands import lmsi


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One job; times in seconds, ``ratio`` foretold over taken, lengths in tokens a path."""

    model: str
    job: str
    foretold: float
    taken: float
    ratio: float
    foretold_length: float
    length: float


def main() -> None:
    """Foretell and run every job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--job", action="append", required=True, help="LIMIT,PATHS,PROMPT,TOKENS")
    parser.add_argument("--task", default="auto")
    parser.add_argument("--out", type=Path, default=Path("results"))
    given = parser.parse_args()
    found = [compare(given.model, given.questions, given.task, job) for job in given.job]
    given.out.mkdir(parents=True, exist_ok=True)
    name = f"estimates-{Path(given.model).stem}.json"
    data = msgspec.json.format(msgspec.json.encode(found), indent=1)
    (given.out / name).write_bytes(data)
    print("\n".join(map(told, found)))


def compare(model: str, questions: Path, task: str, job: str) -> Compared:
    """Foretell one job and run it."""
    limit, paths, prompt, tokens = job.split(",")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *("sample", str(questions), "-m", model, "-o", f"{folder}/run", "--quiet"),
            *("--limit", limit, "--paths", paths, "--prompt", prompt, "--max-tokens", tokens),
            *("--task", task),
        ]
        cost = lmsi(*command, "--dry-run")["cost"]
        done = lmsi(*command)
    return Compared(
        model=Path(model).stem,
        job=f"{limit} questions, {paths} paths, {prompt}, at most {tokens} tokens",
        foretold=cost["seconds"],
        taken=done["seconds"],
        ratio=cost["seconds"] / done["seconds"],
        foretold_length=cost["tokens_per_path"],
        length=done["tokens"] / done["new_paths"],
    )


def told(one: Compared) -> str:
    """One job as a line."""
    return (
        f"{one.model}: {one.job}: foretold {one.foretold:.0f} s ({one.foretold_length:.0f} tokens "
        f"a path), took {one.taken:.0f} s ({one.length:.0f}): {one.ratio:.2f}x"
    )


if __name__ == "__main__":
    main()
