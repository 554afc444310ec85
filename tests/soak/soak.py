"""Disturb commands at random moments, give each again, and say what was lost: nothing should be.

    PYTHONPATH=.:tests python tests/soak/soak.py --moments 200 -o soak.jsonl
    PYTHONPATH=.:tests python tests/soak/soak.py --table soak.jsonl

One line of the result, where ``faults`` should be empty:

    {"job": "train", "blow": "kill -9", "at": 7.31, "code": -9, "faults": []}
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager
from pathlib import Path

import hub
import soak_jobs
from soak_blows import BLOWS
from soak_jobs import SETTINGS

LIVES = {"status.json", "run.lock", "run.pid"}  # say what works there, not what is done
PINNED = {"kv", "flash_attn", "fast_copy"}  # the width is each call's own
CLOCKS = {"seconds", "tokens_per_second", "peak_rss_mib"}
OF_THE_CALL = {"generation.json": {"new_drafts", "tokens"}}  # what it did itself
# A single path left of a question is decoded alone, by other kernels than two are; where nothing
# but batches is shared, tests/cli/test_kill.py holds all bits.
BITS = {"logprob", "mean_logprob", "answer_logprob"}
HANG = 600  # seconds
# of 100 moments; the short commands get more, since a moment costs the command twice
SHARES = {"sample": 20, "vote": 18, "train": 15, "eval": 12, "export": 7, "questions": 8, "run": 7,
          "download": 8, "cluster": 5}  # fmt: skip


def state(run):
    """What a run folder says, file by file, without what a clock says; paths in any order."""
    files = (f for f in sorted(run.rglob("*")) if f.is_file() and f.name not in LIVES)
    return {str(f.relative_to(run)): _content(f, str(run.parent)) for f in files}


def _content(file, place):
    if file.suffix == ".jsonl":
        return sorted(json.dumps(_timeless(json.loads(line))) for line in whole_lines(file))
    if file.suffix == ".json":
        found = _timeless(json.loads(file.read_text()))
        return {k: v for k, v in found.items() if k not in OF_THE_CALL.get(file.name, ())}
    if file.suffix == ".toml":
        found = tomllib.loads(file.read_text().replace(place, ""))
        return {**found, "engine": {k: found["engine"][k] for k in PINNED if k in found["engine"]}}
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _timeless(value):
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in CLOCKS}
        return {k: f"{v or 0:.2g}" if k in BITS else _timeless(v) for k, v in kept.items()}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def whole_lines(file):
    data = file.read_bytes()
    return data[: data.rfind(b"\n") + 1].splitlines()


def finished(run):
    """The paths and answers that are on disk: what no blow may take away."""
    files = [run / "paths.jsonl", run / "drafts.jsonl", *sorted(run.glob("eval/*.answers.jsonl"))]
    return {f: whole_lines(f) for f in files if f.exists()}


def trial(job, blow, moment, end, folder):
    """Start, disturb after ``moment`` seconds, give it again; a record of what came of it."""
    job.put(folder)
    with blow.around(folder, end["size"]):
        process = job.start(folder, blow.wrapper(folder))
        try:
            process.wait(moment)
            hit = blow.name == "full disk" and process.returncode != 0
        except subprocess.TimeoutExpired:
            blow.fall(process, folder)
            hit = True
        code, said = _ended(process), (folder / "err.txt").read_text()
    there = finished(folder / "r")
    again = _again(job, folder)
    faults = [*_ending(code, said, blow, hit), *again, *_lost(there), *_differs(folder, end)]
    told = {"hit": hit, "code": code, "faults": faults}
    return {"job": job.name, "blow": blow.name, "at": round(moment, 2), **told}


def _ended(process):
    try:
        return process.wait(HANG)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return process.wait() and "hang"


def _ending(code, said, blow, hit):
    if "Traceback" in said:
        yield f"traceback: {said[-600:]}"
    if code not in (blow.codes | {0} if hit else {0}):
        yield f"exit code {code}: {said[-300:]}"


def _again(job, folder):
    """Give the command once more; the last processes of the first may need a moment to go."""
    for _ in range(20):
        process = job.start(folder)
        code, said = _ended(process), (folder / "err.txt").read_text()
        if "is in use by" not in said:
            break
        time.sleep(0.25)
    return [] if code == 0 else [f"again: exit code {code}: {said[-600:]}"]


def _lost(there):
    for file, lines in there.items():
        now = Counter(whole_lines(file)) if file.exists() else Counter()
        if missing := Counter(lines) - now:
            yield f"lost {missing.total()} lines of {file.name}"


def _differs(folder, end):
    now, then = state(folder / "r"), end["state"]
    for name in sorted(now.keys() | then.keys()):
        if now.get(name) != then.get(name):
            yield f"{name}: {_unlike(now.get(name), then.get(name))} than undisturbed"


def _unlike(one, other):
    """What two values do not share, as far as one line can show it."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [k for k in one.keys() | other.keys() if one.get(k) != other.get(k)]
        return ", ".join(f"{k}: {_unlike(one.get(k), other.get(k))}" for k in keys)
    if isinstance(one, list) and isinstance(other, list):
        one, other = ([x for x in a if x not in b] for a, b in ((one, other), (other, one)))
    return f"{str(one)[:200]} rather than {str(other)[:200]}"


def soak(jobs, place, moments, seed=0, blows=BLOWS):
    """Yield a record for each moment; ``place`` is an empty folder."""
    rng, blows = random.Random(seed), [blow for blow in blows if blow.possible()]
    ends = {name: undisturbed(job, place / f"end-{name}") for name, job in jobs.items()}
    for number in range(moments):
        (name,) = rng.choices([*jobs], [SHARES[name] for name in jobs])
        blow, folder = blows[number % len(blows)], place / f"{number:04}"
        share = blow.share = rng.random()
        moment = HANG if blow.name == "full disk" else share * ends[name]["seconds"]
        found = trial(jobs[name], blow, moment, ends[name], folder)
        yield found
        if not found["faults"]:
            shutil.rmtree(folder)


def undisturbed(job, folder):
    """How a command ends by itself, and after how long."""
    job.put(folder)
    begun = time.monotonic()
    job.finish(folder)
    seconds, run = time.monotonic() - begun, folder / "r"
    size = sum(f.stat().st_size for f in run.rglob("*") if f.is_file())
    return {"state": state(run), "seconds": seconds, "size": size}


def table(records):
    """Markdown: moments tried, by job and blow; ended before it; with a fault."""
    rows = defaultdict(Counter)
    for r in records:
        for key in (("command", r["job"]), ("blow", r["blow"])):
            rows[key].update(tried=1, late=int(not r["hit"]), faults=int(bool(r["faults"])))
    lines = [
        f"| {name} | {n['tried']} | {n['late']} | {n['tried'] - n['faults']} | {n['faults']} |"
        for (_, name), n in sorted(rows.items())
    ]
    head = ["| | tried | ended before it fell | all well | a fault |", "|---|---|---|---|---|"]
    return "\n".join([*head, *lines])


@contextmanager
def around(place, model, wanted, settings):
    """All jobs that are wanted, beside a hub that is slow and a Ray of one node if they need it."""
    with ExitStack() as stack:
        served = hub.Repo({"a" * 40: {"m-F16.gguf": model.read_bytes()}})
        there = stack.enter_context(hub.serving({"me/m": served}))
        there.slow = 0.05
        address = stack.enter_context(ray_node()) if "cluster" in wanted else ""
        yield soak_jobs.made(place, model, wanted, settings, there.url, address)


@contextmanager
def ray_node():
    from ray.cluster_utils import Cluster

    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(soak_jobs.ROOT)})
    node = {"num_cpus": 2, "num_gpus": 0, "object_store_memory": 80 * 2**20}
    cluster = Cluster(True, head_node_args={**node, "include_dashboard": False})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, default=soak_jobs.TINYMATH / "tinymath-f16.gguf")
    parser.add_argument("--jobs", nargs="*", default=[*SHARES], choices=[*SHARES])
    parser.add_argument(
        "--settings", type=json.loads, default={}, help='others, as {"sample": {"max_tokens": 96}}'
    )
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--table", type=Path)
    told = parser.parse_args()
    if told.table:
        print(table(map(json.loads, told.table.read_text().splitlines())))
        return
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    os.environ.setdefault("LMSI_CACHE", str(place / "cache"))
    settings = {name: SETTINGS[name] | told.settings.get(name, {}) for name in SETTINGS}
    wanted = place, told.model.resolve(), {*told.jobs}, settings
    with told.out.open("a") as out, around(*wanted) as jobs:
        for record in soak(jobs, place, told.moments, told.seed):
            print(json.dumps(record), file=out, flush=True)
            print(*record.values(), flush=True)


if __name__ == "__main__":
    main()
