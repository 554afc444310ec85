"""What each class of imperfect paths is worth: train with it and without it, then measure.

For every seed the paths are sampled once; each variant votes over the same paths with other
``--keep`` and ``--drop``, trains an adapter and answers the test questions greedily. What is done
already is not done again, so the command may be interrupted. One line of the result:

    {"seed": 0, "variant": "lucky too", "classes": {"sound": 812, ...}, "examples": 588,
     "before": 0.52, "after": 0.68, "change": 0.16, "low": 0.10, "high": 0.21, "p_value": 1e-6}

    python -m benchmarks.classes --questions q.jsonl --test test.jsonl --work work --out results
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from pathlib import Path

import msgspec

from benchmarks.commands import lmsi

VARIANTS = {
    "as voted": [],
    "no unchecked": ["--drop", "unchecked"],
    "no sound": ["--drop", "sound", "--keep", "corrected,lucky"],
    "corrected too": ["--keep", "corrected"],
    "lucky too": ["--keep", "lucky"],
    "near-miss too": ["--keep", "near-miss"],
    "systematic too": ["--keep", "systematic"],
    "rival, other too": ["--keep", "rival,other"],
    "near-miss alone": ["--drop", "sound,unchecked", "--keep", "near-miss"],
    "plain vote": ["--no-check-equations"],
    "plain, no lucky": ["--no-check-equations", "--drop", "lucky"],
}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One variant of one seed; accuracies as fractions of one, greedy chain of thought."""

    seed: int
    variant: str
    classes: dict[str, int]
    kept_paths: int
    examples: int
    before: float
    after: float
    change: float
    low: float
    high: float
    p_value: float


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tinymath")
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--test-limit", type=int, default=0)
    parser.add_argument("--paths", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--work", type=Path, required=True, help="where the run folders go")
    parser.add_argument("--out", type=Path, default=Path("results"))
    given = parser.parse_args()
    lines = []
    for variant in given.variants:  # by turns, so that an interruption leaves whole variants
        lines += [measure(given, seed, variant) for seed in given.seeds]
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "classes.json").write_bytes(msgspec.json.format(msgspec.json.encode(lines)))
    print(table(lines))


def measure(given: argparse.Namespace, seed: int, variant: str) -> Line:
    """One variant of one seed, from its folder if it is there."""
    folder = given.work / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}"
    done = folder / "line.json"
    if not done.exists():
        if not folder.exists():
            shutil.copytree(_sampled(given, seed), folder)
        found = _variant(given, seed, variant, folder)
        _share_base_answers(folder, given.work / f"sampled-{seed}")
        done.write_bytes(msgspec.json.encode(found))
    return msgspec.json.decode(done.read_bytes(), type=Line)


def _sampled(given: argparse.Namespace, seed: int) -> Path:
    folder: Path = given.work / f"sampled-{seed}"
    sizes = ["--limit", given.limit, "--paths", given.paths, "--seed", seed]
    lmsi("sample", given.questions, "-m", given.model, "-o", folder, *sizes, "--quiet")
    return folder


def _variant(given: argparse.Namespace, seed: int, variant: str, folder: Path) -> Line:
    vote = lmsi("vote", folder, "--formats", "cot-zero", *VARIANTS[variant])
    lmsi("train", folder, "--seed", seed, "--quiet", "--force")
    asked = ["--modes", "cot", "--limit", given.test_limit]
    (found,) = lmsi("eval", folder, "--data", given.test, *asked, "--quiet")
    before, after = (v["figures"][0]["accuracy"]["value"] for v in found["variants"])
    change = found["pairs"][0]["change"]
    return Line(
        seed=seed,
        variant=variant,
        classes=vote["classes"],
        kept_paths=vote["kept_paths"],
        examples=sum(1 for _ in (folder / "train.jsonl").open()),
        before=before,
        after=after,
        change=change["difference"],
        low=change["low"],
        high=change["high"],
        p_value=change["p_value"],
    )


def _share_base_answers(folder: Path, sampled: Path) -> None:
    """The base answers once for all variants; the answers' name tells what they belong to."""
    for file in (folder / "eval").glob("base-*"):
        (sampled / "eval").mkdir(exist_ok=True)
        shutil.copy(file, sampled / "eval" / file.name)


def table(lines: list[Line]) -> str:
    """A line per variant: the mean over seeds, and every seed's own change."""
    rows = []
    for variant in dict.fromkeys(x.variant for x in lines):
        own = [x for x in lines if x.variant == variant]
        mean = statistics.mean(x.change for x in own)
        kept = statistics.mean(x.kept_paths for x in own)
        each = ", ".join(f"{100 * x.change:+.1f}" for x in own)
        rows.append(f"{variant:18} {kept:6.0f} paths  {100 * mean:+.1f} points ({each})")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
