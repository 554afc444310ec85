"""Compare the verdict with what training then does, in settings where it helps, idles or harms.

Every setting is sampled, voted on without and with a probe, trained whatever the verdict, and
measured on other questions of its own kind. Questions are drawn anew from the embedded model's
recipe. Finished settings are not repeated, so the command may be interrupted. One setting's line:

    {"setting": "hard", "plain": "train", "probed": "train", "one_path": {"difference": 0.31, ...},
     "signals": {"share of all": 0.43, "steps lift": 0.61, ...}, "probe": {"gap": 0.44, ...}}

    python -m benchmarks.verdict --work work --out results

``--pretrained FILE`` adds the embedded model as it was before it saw the harder families (the first
stage of its recipe). On those it is just as sure of itself, but wrong: all its paths drop the same
item of a long shopping list, and their sums are true.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.commands import lmsi
from lmsi_cli.records import Paired

RECIPE = Path("models/tinymath/recipe/make_questions.py")
MODEL = Path("models/tinymath/tinymath-f16.gguf")
TRAINED, TESTED, PROBED, SEED = 80, 100, 40, 90_000
TRAIN, CARE, STOP = "train", "train with care", "do not train"


class Setting(NamedTuple):
    """Kinds of questions in equal shares, how they are sampled, and the model.

    ``families`` limits the kinds to those named, if any; ``pretrained`` asks that option's model.
    """

    name: str
    kinds: tuple[str, ...]
    temperature: float = 0.7
    paths: int = 16
    noise: float = 0.0
    families: tuple[str, ...] = ()
    pretrained: bool = False


SETTINGS = (
    Setting("hard", ("hard",)),
    Setting("hard, 8 paths", ("hard",), paths=8),
    Setting("hard, 4 paths", ("hard",), paths=4),
    Setting("hard, T 0.3", ("hard",), temperature=0.3),
    Setting("hard, T 1.2", ("hard",), temperature=1.2),
    Setting("hard, noise 5%", ("hard",), noise=0.05),
    Setting("hard, noise 10%", ("hard",), noise=0.10),
    Setting("known", ("known",)),
    Setting("known, T 1.2", ("known",), temperature=1.2),
    Setting("known, noise 10%", ("known",), noise=0.10),
    Setting("unseen", ("unseen",)),
    Setting("unseen, 8 paths", ("unseen",), paths=8),
    Setting("unseen, T 1.2", ("unseen",), temperature=1.2),
    Setting("hard and unseen", ("hard", "unseen")),
    Setting("before, drops an item", ("hard",), families=("shopping_many",), pretrained=True),
    Setting("before, long chains", ("hard",), families=("chain_long",), pretrained=True),
    Setting("before, known", ("known",), pretrained=True),
)
FAMILIES = {"known": 11, "hard": 7, "unseen": 8}  # of a kind; a file takes them in turn


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One setting: verdicts without and with a probe, signals, and the change (None: not trained).

    ``one_path`` is the change of a sampled path's accuracy, ``greedy`` that of greedy decoding.
    """

    setting: str
    plain: str
    probed: str
    reason: str
    signals: dict[str, float]
    probe: dict[str, float]
    kept_paths: int
    before: float | None = None
    one_path: Paired | None = None
    greedy: Paired | None = None


def main() -> None:
    """Run what is missing, then print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="where the run folders go")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--settings", nargs="+", default=[s.name for s in SETTINGS])
    parser.add_argument("--pretrained", type=Path, help="a GGUF file, for the settings before, ...")
    given = parser.parse_args()
    chosen = [s for s in SETTINGS if s.name in given.settings]
    chosen = [s for s in chosen if given.pretrained or not s.pretrained]
    lines = [measure(s, given.work, given.pretrained) for s in chosen]
    given.out.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(lines), indent=1)
    (given.out / "verdict.json").write_bytes(data)
    print(table(lines))
    print(signal_table(lines))


def measure(setting: Setting, work: Path, pretrained: Path | None) -> Line:
    """Measure one setting, or read its result if its folder has one."""
    folder = work / setting.name.replace(", ", "-").replace(" ", "-").replace("%", "")
    done = folder / "line.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        done.write_bytes(msgspec.json.encode(_measured(setting, folder, pretrained)))
        print(done.read_text(), file=sys.stderr, flush=True)
    return msgspec.json.decode(done.read_bytes(), type=Line)


def _measured(setting: Setting, folder: Path, pretrained: Path | None) -> Line:
    asked, test = _questions(setting, folder)
    run, probe = folder / "run", folder / "probe.jsonl"
    probe.write_text("".join(asked.read_text().splitlines(keepends=True)[:PROBED]))
    model = (setting.pretrained and pretrained) or _model(setting, folder)
    how = ["--temperature", setting.temperature, "--paths", setting.paths, "--quiet"]
    lmsi("sample", asked, "-m", model, "-o", run, "--task", "tinymath", *how)
    probed = _voted(run, "--probe", probe)
    plain = _voted(run)
    evidence = probed["verdict"]["evidence"]
    line = Line(
        setting=setting.name,
        plain=plain["verdict"]["verdict"],
        probed=probed["verdict"]["verdict"],
        reason=plain["verdict"]["reasons"][0]["text"],
        signals={k: v["value"] for k, v in evidence["signals"].items()},
        probe={k: v["value"] for k, v in evidence["probe"].items() if _is_figure(v)},
        kept_paths=plain["kept_paths"],
    )
    return _trained(line, run, test) if line.kept_paths else line


def _is_figure(value: object) -> bool:
    return isinstance(value, dict) and "value" in value


def _voted(run: Path, *more: object) -> Any:  # noqa: ANN401 - a command's own result
    return lmsi("vote", run, "--formats", "cot-zero", *more, also=(1,))


def _trained(line: Line, run: Path, test: Path) -> Line:
    lmsi("train", run, "--force", "--quiet")
    (found,) = lmsi("eval", run, "--data", test, "--modes", "cot,sc", "--paths", 4, "--quiet")
    base = {f["name"]: f["accuracy"]["value"] for f in found["variants"][0]["figures"]}
    changes = {p["line"]: msgspec.convert(p["change"], Paired) for p in found["pairs"]}
    return msgspec.structs.replace(
        line,
        before=base["one sampled path"],
        one_path=changes["one sampled path"],
        greedy=changes["CoT greedy"],
    )


def _questions(setting: Setting, folder: Path) -> tuple[Path, Path]:
    """Draw questions to train on, with answers for the probe alone, and others to measure on."""
    files = folder / "questions.jsonl", folder / "test.jsonl"
    seed = SEED + 100 * SETTINGS.index(setting)
    for file, count in zip(files, (TRAINED, TESTED), strict=True):
        parts = []
        for kind in setting.kinds:
            part = folder / f"{file.stem}-{kind}.jsonl"
            seed += 1
            share = count // len(setting.kinds)
            drawn = share * FAMILIES[kind] // (len(setting.families) or FAMILIES[kind])
            _python(RECIPE, "--count", drawn, "--seed", seed, "--kind", kind,
                    "--answers", "--out", part)  # fmt: skip
            parts.append([x for x in part.read_text().splitlines(keepends=True) if _in(setting, x)])
        mixed = [line for lines in zip(*parts, strict=True) for line in lines]
        file.write_text("".join(mixed))
    return files


def _in(setting: Setting, line: str) -> bool:
    return not setting.families or msgspec.json.decode(line)["family"] in setting.families


def _model(setting: Setting, folder: Path) -> Path:
    """The embedded model, or a copy with noise added to its weights."""
    if not setting.noise:
        return MODEL
    import numpy as np
    from gguf import GGUFReader

    damaged = folder / "damaged.gguf"
    shutil.copy(MODEL, damaged)
    rng = np.random.default_rng(SEED)
    for tensor in GGUFReader(damaged, "r+").tensors:
        if tensor.data.ndim > 1 and tensor.data.dtype == np.float16:
            spread = setting.noise * float(tensor.data.astype(np.float32).std())
            tensor.data[...] += rng.normal(0, spread, tensor.data.shape).astype(np.float16)
    return damaged


def _python(*argv: object) -> None:
    subprocess.run([sys.executable, *map(str, argv)], check=True, capture_output=True)


def helped(line: Line) -> bool:
    """Whether a sampled path improved beyond chance; False where nothing was trained."""
    return line.one_path is not None and line.one_path.low > 0


def table(lines: list[Line]) -> str:
    """A line per setting, and how often the verdicts were right."""
    rows = [f"{'setting':18} {'without probe':16} {'with probe':16} before  one path       greedy"]
    for x in lines:
        change = _points(x.one_path) + "  " + _points(x.greedy) if x.one_path else "not trained"
        before = "" if x.before is None else f"{100 * x.before:5.1f}"
        rows.append(f"{x.setting:18} {x.plain:16} {x.probed:16} {before:>6}  {change}")
    for name in ("plain", "probed"):
        told = [(getattr(x, name), helped(x)) for x in lines]
        right = sum((v == TRAIN and h) or (v == STOP and not h) for v, h in told)
        wrong = sum((v == TRAIN and not h) or (v == STOP and h) for v, h in told)
        rows.append(f"{name}: right {right}, wrong {wrong}, with care {len(told) - right - wrong}")
    return "\n".join(rows)


def signal_table(lines: list[Line]) -> str:
    """How well each signal alone could have predicted the outcome, at the best threshold."""
    rows = [f"{'signal alone':18} best split  rank correlation with the change"]
    for name in dict.fromkeys(k for x in lines for k in _figures(x)):
        own = [x for x in lines if name in _figures(x)]
        values, truth = [_figures(x)[name] for x in own], [helped(x) for x in own]
        rows.append(
            f"{name:18} {_best_split(values, truth)} of {len(own)}  {_rank(own, name):+.2f}"
        )
    return "\n".join(rows)


def _figures(line: Line) -> dict[str, float]:
    return line.signals | {f"probe: {k}": v for k, v in line.probe.items()}


def _best_split(values: list[float], truth: list[bool]) -> int:
    """Most settings that one threshold, in either direction, gets right; flatters the signal."""
    cuts = [float("-inf"), *values]
    right = [sum((v > c) == t for v, t in zip(values, truth, strict=True)) for c in cuts]
    return max(*right, *(len(values) - r for r in right))


def _rank(lines: list[Line], name: str) -> float:
    from scipy.stats import spearmanr

    changes = [x.one_path.difference if x.one_path else 0.0 for x in lines]
    values = [_figures(x)[name] for x in lines]
    if len(set(values)) < 2 or len(set(changes)) < 2:
        return 0.0
    return float(spearmanr(values, changes).statistic)


def _points(p: Paired | None) -> str:
    return (
        "" if p is None else f"{100 * p.difference:+5.1f} [{100 * p.low:+.0f}, {100 * p.high:+.0f}]"
    )


if __name__ == "__main__":
    main()
