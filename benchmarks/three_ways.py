"""Where the adapter of a quantised model should be trained, and what merging it costs.

The quantised file draws the paths, as a user's does; all ways train on the same examples of it:

    base       the quantised file without any adapter
    weights    trained over its dequantised weights, used over it (what ``lmsi train`` does)
    originals  trained over the F16 weights, used over the quantised file
    merged     the latter merged into F16, and that quantised to the same type
    remerged   the first merged into the quantised file, and quantised again to its own types
    widened    the same, quantised to Q8_0 instead

What is done is not done again, so the command may be interrupted. One line of the result; each
mark is one question's, greedy 0 or 1, sampled a mean over its paths:

    {"kind": "Q4_K_M", "seed": 0, "way": "weights", "examples": 348, "greedy": [1, 0, ...],
     "sampled": [0.75, 0.5, ...]}

    python -m benchmarks.three_ways --work work --out benchmarks/results
"""

from __future__ import annotations

import argparse
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.commands import lmsi
from lmsi_cli.config import EngineConfig, EvalConfig, TrainConfig
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.quantise import check_kind, quantise
from lmsi_cli.records import Paired
from lmsi_cli.rundir import RunDir, sha256_file
from lmsi_cli.stages.evaluate import Exam, Variant, evaluate
from lmsi_cli.stages.train import train_run
from lmsi_cli.stats import paired
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.readers import read_labelled
from lmsi_cli.training.merge import merge, read_lora, tensor_types

HOME = Path("models/tinymath")
ORIGINAL, TASK = HOME / "tinymath-f16.gguf", "tinymath"
KINDS = ("Q8_0", "Q4_K_M", "Q2_K")
WAYS = ("base", "weights", "originals", "merged", "remerged", "widened")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One way of one type and seed; marks in the order of the test's questions."""

    kind: str
    seed: int
    way: str
    examples: int
    greedy: list[float]
    sampled: list[float]


class Silent:
    """Progress that nobody watches."""

    def start(self, label: str, total: int) -> None:
        """Say nothing."""

    def advance(self, done: int, **figures: float | str) -> None:
        """Say nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--questions", type=int, default=150)
    parser.add_argument("--paths", type=int, default=8)
    parser.add_argument("--test-sampled", type=int, default=150, help="questions for sampled paths")
    parser.add_argument("--work", type=Path, required=True, help="where run folders and models go")
    parser.add_argument("--out", type=Path, default=Path("results"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    lines: list[Line] = []
    for seed in given.seeds:  # by turns, so that an interruption leaves whole seeds
        for kind in given.kinds:
            lines += measure(given, kind, seed)
            data = msgspec.json.encode(lines)
            (given.out / "three_ways.json").write_bytes(data + b"\n")
    print(table(lines))


def measure(given: argparse.Namespace, kind: str, seed: int) -> list[Line]:
    """All ways of one type and seed, from their folder if they are there."""
    folder = given.work / f"{kind}-{seed}"
    done = folder / "lines.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        done.write_bytes(msgspec.json.encode(_measured(given, kind, seed, folder)))
    return msgspec.json.decode(done.read_bytes(), type=list[Line])


def _measured(given: argparse.Namespace, kind: str, seed: int, folder: Path) -> list[Line]:
    model = _made(
        given.work / f"{kind}.gguf", lambda out: quantise(ORIGINAL, out, check_kind(kind))
    )
    own = _over_weights(given, model, seed, folder / "weights")
    other = _over_originals(own, seed, folder / "originals")
    narrow = _merged(model, own.adapter_gguf, folder / "remerged.gguf", kind, tensor_types(model))
    ways: list[tuple[str, Path, Path | None]] = [
        ("base", model, None),
        ("weights", model, own.adapter_gguf),
        ("originals", model, other),
        ("merged", _merged(ORIGINAL, other, folder / "merged.gguf", kind, {}), None),
        ("remerged", narrow, None),
        ("widened", _merged(model, own.adapter_gguf, folder / "widened.gguf", "Q8_0", {}), None),
    ]
    examples = sum(1 for _ in own.train.open())
    return [
        Line(kind=kind, seed=seed, way=way, examples=examples, **_marks(given, folder, way, *files))
        for way, *files in ways
    ]


def _over_weights(given: argparse.Namespace, model: Path, seed: int, folder: Path) -> RunDir:
    """A run as a user makes it."""
    sizes = ["--limit", given.questions, "--paths", given.paths, "--seed", seed, "--task", TASK]
    lmsi("sample", HOME / "questions.jsonl", "-m", model, "-o", folder, *sizes, "--quiet")
    lmsi("vote", folder, "--formats", "cot-zero")
    lmsi("train", folder, "--seed", seed, "--quiet", "--force")
    return RunDir(folder)


def _over_originals(run: RunDir, seed: int, folder: Path) -> Path:
    """An adapter trained on the same examples over the F16 weights."""
    other = RunDir(folder)  # nothing was sampled in it, so it takes any model
    other.create()
    for name in ("train.jsonl", "questions.jsonl"):
        shutil.copy(run.root / name, folder / name)
    train_run(other, ORIGINAL, load_task(TASK), TrainConfig(seed=seed), Silent())
    return other.adapter_gguf


def _merged(base: Path, adapter: Path, out: Path, kind: str, own: dict[str, int]) -> Path:
    def make(fresh: Path) -> None:
        whole = out.with_suffix(".whole")
        merge(base, read_lora(adapter), whole, 1.0)
        quantise(whole, fresh, check_kind(kind), own)
        whole.unlink()

    return _made(out, make)


def _made(out: Path, make: Any) -> Path:  # noqa: ANN401 - a function of a path
    if not out.exists():
        fresh = out.with_suffix(".tmp")
        make(fresh)
        fresh.rename(out)
    return out


def _marks(
    given: argparse.Namespace, folder: Path, way: str, model: Path, adapter: Path | None
) -> dict[str, list[float]]:
    """Marks of every test question, greedy and over four sampled paths."""
    questions = read_labelled(str(HOME / "test.jsonl"))
    greedy = EvalConfig(modes=("cot",))
    drawn = EvalConfig(modes=("sc",), paths=4, limit=given.test_sampled)
    identity = {
        "model_sha256": sha256_file(model),
        "adapter_sha256": adapter and sha256_file(adapter),
    }
    variant = Variant(way, adapter and str(adapter), identity)
    found = []
    with LlamaEngine(model, EngineConfig()) as engine:
        for config, line in ((greedy, "CoT greedy"), (drawn, "one sampled path")):
            exam = Exam("test", questions, load_task(TASK), config)
            (result,) = evaluate([exam], [variant], engine, RunDir(folder), Silent())
            figure = result.variants[0].figure(line)
            assert figure is not None
            found.append(list(figure.scores))
    return {"greedy": found[0], "sampled": found[1]}


def table(lines: list[Line]) -> str:
    """Accuracies, then paired differences of the ways, per type over all seeds."""
    rows = []
    for kind in dict.fromkeys(x.kind for x in lines):
        for name in ("greedy", "sampled"):
            of = {way: _mean(lines, kind, way, name) for way in WAYS}
            told = "  ".join(f"{way} {100 * sum(m) / len(m):.1f}" for way, m in of.items())
            rows.append(f"{kind:7} {name:8} {told}")
            for first, second in combinations(WAYS[1:], 2):
                rows.append(f"    {second} - {first}: {_told(paired(of[first], of[second]))}")
    return "\n".join(rows)


def _mean(lines: list[Line], kind: str, way: str, name: str) -> list[float]:
    """A question's mark, as its mean over the seeds."""
    marks = [getattr(x, name) for x in lines if (x.kind, x.way) == (kind, way)]
    return [sum(m) / len(m) for m in zip(*marks, strict=True)]


def _told(p: Paired) -> str:
    low, high = 100 * p.low, 100 * p.high
    return f"{100 * p.difference:+.1f} [{low:+.1f}, {high:+.1f}] p {p.p_value:.2g}"


if __name__ == "__main__":
    main()
