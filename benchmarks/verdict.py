"""Is the verdict right? Settings that are sampled, judged, trained all the same, and measured.

    python -m benchmarks.verdict --work runs/verdict --pretrained pretrained-q8_0.gguf
    python -m benchmarks.verdict --work runs/verdict --only hard --only unseen

A setting is a model, whole or damaged, families of questions, a temperature and a number of paths.
Each has a folder of its own below ``--work``; what is done there is not done again, so the same
command goes on after an interruption, and ends with the table, the JSON and the plot of all that
are finished. ``--pretrained`` names the embedded model before it met the harder families (see its
recipe): it is sure of itself and wrong there, in another way than the embedded one. One outcome:

    {"setting": {"name": "hard", ...}, "plain": <verdict.json>, "probed": <verdict.json with the
     probe>, "changes": {"one sampled path": {"difference": 0.21, "low": 0.16, ...}, ...},
     "seconds": 171.0}
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.damage import damaged
from benchmarks.verdict_table import Outcome, Setting, plot, table

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "models" / "tinymath" / "recipe" / "make_questions.py"
COUNTS = {"learn": 80, "probe": 40, "exam": 120}  # the probe is the first part of what is learnt
SEEDS = {"learn": 72_001, "exam": 72_002}
KINDS = {"known": 11, "hard": 7, "unseen": 8}  # families that take turns in a file
HARDEST, EASIEST = ("rows_big", "wages_big"), ("average", "units")
SURE, DROPPED = ("two_workers", "round_trip"), ("shopping_many",)
EASY = ("ages", "before", "fraction", "share")

# A small training: enough to show a gain of 20 points, and most of a setting's three minutes.
VOTE = ["--formats", "cot-zero,direct-zero"]
TRAIN = ["--rank", "8", "--alpha", "16"]
SETTINGS = (
    Setting(name="hard"),
    Setting(name="hard, 4 paths", paths=4),
    Setting(name="hard, T 0.3", temperature=0.3),
    Setting(name="hard, T 1.2", temperature=1.2),
    Setting(name="hardest", families=HARDEST),
    Setting(name="easiest of the hard", families=EASIEST),
    Setting(name="known", kind="known"),
    Setting(name="known, T 0.2", kind="known", temperature=0.2),
    Setting(name="known, easy", kind="known", families=EASY),
    Setting(name="unseen", kind="unseen"),
    Setting(name="unseen, T 0.3", kind="unseen", temperature=0.3),
    Setting(name="unseen, sure", kind="unseen", families=SURE),
    Setting(name="hard, Q2_K", model="q2_k"),
    Setting(name="hard, noise 0.15", model="noise:0.15"),
    Setting(name="hard, noise 0.3", model="noise:0.3"),
    Setting(name="known, noise 0.3", model="noise:0.3", kind="known"),
    Setting(name="hard, 40 tokens", max_tokens=40),
    Setting(name="before: drops an item", model="pretrained", families=DROPPED),
    Setting(name="before: chains", model="pretrained", families=("chain_long",)),
    Setting(name="before: hard", model="pretrained"),
    Setting(name="before: known", model="pretrained", kind="known"),
)


def main() -> None:
    """Do what is not done yet, then tell what is finished."""
    given = arguments()
    chosen = [s for s in SETTINGS if not given.only or s.name in given.only]
    for setting in chosen:
        if setting.model != "pretrained" or given.pretrained:
            outcome = one(setting, given.work.absolute(), given.pretrained)
            print(f"{setting.name}: {outcome.plain['verdict']}; probe: {outcome.probed['verdict']}")
    done = [o for s in SETTINGS if (o := finished(given.work.absolute(), s)) is not None]
    given.out.mkdir(parents=True, exist_ok=True)
    told = msgspec.json.format(msgspec.json.encode(done), indent=1)
    (given.out / "verdict.json").write_bytes(told)
    print(table(done))
    plot(done, given.out / "verdict.png")


def one(setting: Setting, work: Path, pretrained: Path | None) -> Outcome:
    """Take one setting from questions to its outcome; a finished one is only read."""
    if (done := finished(work, setting)) is not None:
        return done
    folder = work / setting.folder
    folder.mkdir(parents=True, exist_ok=True)
    files = {part: question_file(setting, part, folder) for part in COUNTS}
    model = damaged(setting.model, work, pretrained)
    begun, run = time.monotonic(), folder / "run"
    draw = ["--temperature", setting.temperature, "--max-tokens", setting.max_tokens]
    lmsi("sample", files["learn"], "-m", model, "-o", run, "--task", "tinymath",
         "-n", setting.paths, *draw)  # fmt: skip
    verdicts = {}
    for name, probe in (("plain", []), ("probed", ["--probe", files["probe"]])):
        lmsi("vote", run, *VOTE, *probe, may_fail=True)  # where nothing is kept
        verdicts[name] = json.loads((run / "verdict.json").read_text())
    changes = measured(run, files["exam"], draw) if any((run / "train.jsonl").open()) else {}
    outcome = Outcome(
        setting=setting, **verdicts, changes=changes, seconds=time.monotonic() - begun
    )
    (folder / "outcome.json").write_bytes(msgspec.json.encode(outcome))
    shutil.rmtree(run / "adapter", ignore_errors=True)  # twenty of them fill a disk
    return outcome


def measured(run: Path, exam: Path, draw: list[Any]) -> dict[str, Any]:
    """Train against any verdict, and compare before and after as the setting samples."""
    lmsi("train", run, "--force", *TRAIN)
    told = lmsi("eval", run, "--data", exam, "--modes", "cot,sc", "-n", 4, *draw, "--json")
    return {line["name"]: line["change"] for line in json.loads(told)["lines"]}


def lmsi(*argv: Any, may_fail: bool = False) -> str:  # noqa: ANN401 - whatever can be printed
    """Call the command in a process of its own, so that no stage holds another's memory."""
    code = "from lmsi_cli.cli.main import main; main()"
    command = [sys.executable, "-c", code, *map(str, argv)]
    command += [] if argv[0] == "vote" else ["--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode and not may_fail:
        raise SystemExit(f"lmsi {' '.join(map(str, argv))}\n{done.stderr}")
    return done.stdout


def question_file(setting: Setting, part: str, folder: Path) -> Path:
    """Draw the questions of a setting: the same ones for every setting with the same families."""
    target = folder / f"{part}.jsonl"
    if part == "probe":
        lines = (folder / "learn.jsonl").read_text().splitlines(keepends=True)[: COUNTS["probe"]]
    else:
        lines = _drawn(setting, part, folder)
    target.write_text("".join(lines))
    return target


def _drawn(setting: Setting, part: str, folder: Path) -> list[str]:
    """Families take turns, so a file holds enough of each; the exam repeats no question."""
    share = KINDS[setting.kind] / (len(setting.families) or KINDS[setting.kind])
    pool = folder / f"{part}-pool.jsonl"
    others = [*(ROOT / "models" / "tinymath").glob("*.jsonl")]
    others += [folder / "learn-pool.jsonl"] if part == "exam" else []
    command = [RECIPE, "--count", int(COUNTS[part] * share) + KINDS[setting.kind], "--seed",
               SEEDS[part], "--kind", setting.kind, "--answers", "--out", pool,
               "--exclude", *others]  # fmt: skip
    subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)
    lines = pool.read_text().splitlines(keepends=True)
    wanted = [
        x for x in lines if not setting.families or json.loads(x)["family"] in setting.families
    ]
    return wanted[: COUNTS[part]]


def finished(work: Path, setting: Setting) -> Outcome | None:
    """Read a setting's outcome; none if there is none yet, or it was of another setting."""
    file = work / setting.folder / "outcome.json"
    if not file.exists():
        return None
    outcome = msgspec.json.decode(file.read_bytes(), type=Outcome)
    return outcome if outcome.setting == setting else None


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/verdict"), help="run folders")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--pretrained", type=Path, help="a GGUF, for the settings before:")
    parser.add_argument("--only", action="append", help="one setting; may be repeated")
    return parser.parse_args()


if __name__ == "__main__":
    main()
