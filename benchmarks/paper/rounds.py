"""Rounds one to three: what each does to greedy answers, to the vote and to the best of the paths.

Knows `lmsi run` and its JSON. The gates are overruled (``--force``), to see what they warn of. One
result per round and seed, with a name like ``round 2``; its change is against the base.
"""

from __future__ import annotations

import msgspec

from benchmarks.commands import lmsi
from benchmarks.paper.catalogue import PATHS, QUESTIONS, TESTED
from benchmarks.paper.records import Point, Result
from benchmarks.paper.steps import Steps, curve, greedy, lines, shares_of
from lmsi_cli.reporting.results import Evaluation

ROUNDS, EXAM = 3, "half test"
CONFIG = f"""
[sample]
task = "tinymath"
[eval]
modes = ["cot", "sc"]
paths = 5
limit = {TESTED}
"""


def rounds(steps: Steps, seed: int, *more: str) -> list[Result]:
    """Run what is missing of one seed's rounds; ``more`` are flags of the variant."""
    sets = steps.sets
    name = "-".join(["rounds", f"s{seed}", *(m.strip("-").replace(",", "-") for m in more)])
    folder, config = steps.work / "rounds" / name, steps.work / "rounds" / "config.toml"
    done = folder / "all.json"
    if steps.missing(done):
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(CONFIG)
        how = ["--rounds", ROUNDS, "--limit", QUESTIONS, "-n", PATHS, "--seed", seed, "--force"]
        found = lmsi("run", sets.bare("half"), "-m", "tinymath", "-o", folder, *how, *more,
                     "--data", sets.labelled(EXAM), "--config", config, "--quiet")  # fmt: skip
        done.write_bytes(msgspec.json.encode(found))
    told = msgspec.json.decode(done.read_bytes())
    found = msgspec.convert(told["evaluations"][0], Evaluation)
    return [_result(found, number, seed) for number in range(1, len(found.mains))]


def _result(found: Evaluation, number: int, seed: int) -> Result:
    named = {"base": found.mains[0], "adapter": found.mains[number]}
    own: dict[str, tuple[Point, ...]] = {name: curve(v) for name, v in named.items()}
    shares = shares_of(found)
    return Result(
        name=f"round {number}",
        seed=seed,
        exam=EXAM,
        n=found.n,
        lines=dict(lines(found, number)),
        greedy=greedy(found, number),
        curves=own,
        shares={name: shares[v.model] for name, v in named.items()},
    )
