"""The memory that a training run is estimated to take, beside what it then takes.

Each setting trains in a process of its own, on random tokens in lmsi's mixed formats: half of the
examples share a few-shot prefix. One line of the table:

    tinymath-f16 {"max_steps": 20, "dtype": "bf16"}: 1305 MiB estimated, 1301 taken (1.00); ...

    python -m benchmarks.fits --model tinymath-f16.gguf --model qwen2.5-0.5b-Q4_K_M.gguf
    python -m benchmarks.fits --model MODEL.gguf --setting '{"row_tokens": 768}' --prefix 300
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.records import TrainExample, TrainFormat

# A model of this many bytes trains fast enough for the many steps of the first list.
SMALL = 200 << 20
SETTINGS = {
    "small": (
        '{"max_steps": 20, "dtype": "bf16"}',
        '{"max_steps": 20, "dtype": "fp32", "rank": 4, "row_tokens": 384}',
        '{"max_steps": 10, "batch_size": 16, "gradient_checkpointing": "on"}',
        '{"max_steps": 80, "dtype": "bf16"}',
    ),
    "large": (
        '{"max_steps": 3}',
        '{"max_steps": 14}',
        '{"max_steps": 3, "rank": 32, "gradient_checkpointing": "on"}',
        '{"max_steps": 3, "layers": 12, "row_tokens": 512}',
    ),
}
FORMATS: tuple[TrainFormat, ...] = ("cot-few", "direct-few", "cot-zero", "direct-zero")


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One setting; memory in MiB, the ratio is estimated over taken."""

    model: str
    setting: str
    estimated_mib: float
    taken_mib: float
    ratio: float
    tokens_s: float


def main() -> None:
    """Estimate and train every setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", required=True, type=Path)
    parser.add_argument("--setting", action="append", default=[], help="TrainConfig as JSON")
    parser.add_argument("--prefix", type=int, default=350, help="few-shot tokens")
    parser.add_argument("--tail", type=int, default=60, help="mean tokens of an example's own part")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(msgspec.json.encode(train(given)).decode())
        return
    given.out.mkdir(parents=True, exist_ok=True)
    for model in given.model:
        for setting in given.setting or settings(model):
            one = compare(given, model, setting)
            with (given.out / f"fits-{model.stem}.jsonl").open("ab") as f:
                f.write(msgspec.json.encode(one) + b"\n")


def settings(model: Path) -> tuple[str, ...]:
    """What is measured of a model if nothing is asked for."""
    return SETTINGS["small" if model.stat().st_size < SMALL else "large"]


def compare(given: argparse.Namespace, model: Path, setting: str) -> Compared:
    """Train one setting in a fresh process and say how it went."""
    command = [
        *(sys.executable, "-m", "benchmarks.fits", "--child", "--model", str(model)),
        *("--prefix", str(given.prefix), "--tail", str(given.tail), "--setting", setting),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    one = msgspec.json.decode(done.stdout.splitlines()[-1], type=Compared)
    print(told(one), flush=True)
    return one


def told(one: Compared) -> str:
    """One setting as a line."""
    return (
        f"{one.model} {one.setting}: {one.estimated_mib:.0f} MiB estimated, {one.taken_mib:.0f} "
        f"taken ({one.ratio:.2f}); {one.tokens_s:.0f} tokens/s"
    )


class Silent:
    """A progress that shows nothing."""

    def start(self, label: str, total: int) -> None:
        """Not shown."""

    def advance(self, done: int, **figures: float | str) -> None:
        """Not shown."""

    def say(self, text: str) -> None:
        """On stderr, for whoever looks."""
        print(text, file=sys.stderr)


def train(given: argparse.Namespace) -> Compared:
    """Train in this process; its largest resident size so far counts."""
    from lmsi_cli.training import memory
    from lmsi_cli.training.data import Codec
    from lmsi_cli.training.trainer import train as run

    needs, [model] = list[int](), given.model
    need = memory.need
    config = msgspec.convert(json.loads(given.setting[0]), TrainConfig)
    ids = texts(config.max_steps * config.batch_size, given.prefix, given.tail)
    examples = [
        TrainExample(
            prompt=str(i), completion="x", format=FORMATS[i % 4], question_id=f"q{i}", path=0
        )
        for i in range(len(ids))
    ]
    codec = Codec(lambda p: ids[int(str(p))][0], lambda p, _: ids[int(str(p))][1])

    def noted(*args: Any) -> memory.Need:  # noqa: ANN401 - passed on
        found = need(*args)
        needs.append(memory.resident() + sum(found))
        return found

    memory.need = noted
    with tempfile.TemporaryDirectory() as out:
        summary = run(examples, model, config, Path(out), codec, Silent()).summary
    return Compared(
        model=model.stem,
        setting=f"{given.setting[0]} prefix {given.prefix} tail {given.tail}",
        estimated_mib=needs[-1] / 2**20,
        taken_mib=summary.peak_rss_mib,
        ratio=needs[-1] / 2**20 / summary.peak_rss_mib,
        tokens_s=summary.tokens_per_second,
    )


def texts(count: int, prefix: int, tail: int) -> list[tuple[list[int], list[int]]]:
    """Prompts and completions of random tokens; every other format begins with a common prefix."""
    rng = random.Random(0)

    def some(n: int) -> list[int]:
        return [rng.randrange(5, 1000) for _ in range(n)]

    heads = {"cot-few": some(prefix), "direct-few": some(prefix), "cot-zero": [], "direct-zero": []}
    found = []
    for i in range(count):
        kind = FORMATS[i % 4]
        answer = 4 if kind.startswith("direct") else rng.randrange(tail // 2, tail * 3 // 2)
        found.append((heads[kind] + some(rng.randrange(tail // 2, tail)), some(answer)))
    return found


if __name__ == "__main__":
    main()
