"""A command is disturbed at a random moment and given again: nothing is lost, nothing comes twice.

The suite tries what no other test does, since signals are in ``tests/cli/test_kill.py``. Many
moments of all commands: ``MOMENTS=200 pytest tests/soak``. Disks and read-only folders are mounted,
which needs Linux and root; a clock that jumps needs ``faketime``.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from builders import tree
from commands import whole_lines

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="mounts, and signals of Linux"),
]
ROOT = Path(__file__).parents[2]
TINYMATH = ROOT / "models" / "tinymath"
SAME_BITS = {"threads": 1, "kv": "split", "parallel": 8}  # whatever shares a path's batches
SETTINGS = {
    "sample": {"prompt": "cot-zero", "chat": "off", "limit": 6, "paths": 4, "max_tokens": 128},
    "vote": {"min_share": 0.0, "min_votes": 1, "formats": ["cot-zero"]},
    "train": {"max_steps": 8, "batch_size": 4, "rank": 4, "checkpoint_every": 2, "eval_every": 4},
    "eval": {"modes": ["cot", "sc"], "paths": 2, "limit": 4, "max_tokens": 128, **SAME_BITS},
}
SETTINGS["sample"] |= SAME_BITS
# Each begins with what the one before it leaves in the run folder ``r``.
JOBS = {
    "sample": ["sample", TINYMATH / "questions.jsonl", "-o", "r"],
    "vote": ["vote", "r"],
    "train": ["train", "r", "--force"],
    "eval": ["eval", "r", "--data", TINYMATH / "test.jsonl"],
    "export": ["export", "r", "--to", "gguf", "--overwrite"],
}
HANG = 600  # seconds
CLOCKS = {"seconds", "tokens_per_second", "peak_rss_mib"}
# A single path left of a question is decoded alone, by other kernels than two are.
BITS = {"logprob", "mean_logprob", "answer_logprob"}


def start(job, folder, *wrapper):
    """Start a command in a session of its own, as a terminal does; its stderr is in err.txt."""
    one = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # threads that spin starve others
    command = [*wrapper, sys.executable, "-m", "lmsi_cli", *JOBS[job], "--config", "lmsi.toml"]
    with (folder / "err.txt").open("w") as err:
        return subprocess.Popen(
            [*map(str, command)], cwd=folder, env={**os.environ, **one}, stdout=err, stderr=err,
            start_new_session=True,
        )  # fmt: skip


# -- what may happen, and how a command may end then -------------------------------------------


def sent(*numbers, codes, group=True):
    """Signals to all that the process has started, or to it alone, half a second apart."""

    @contextmanager
    def around(folder, room):
        def fall(process):
            for number in numbers:
                (os.killpg if group else os.kill)(process.pid, number)
                time.sleep(0.5)

        yield (), fall, codes

    return around


@contextmanager
def full_disk(folder, room):
    """A disk that has ``room`` bytes."""
    run, kept = folder / "r", folder / "kept"
    shutil.copytree(run, kept)
    mounted("-t", "tmpfs", "-o", f"size={room}", "lmsi-soak", run)
    shutil.copytree(kept, run, dirs_exist_ok=True)
    yield (), None, {0, 1}
    held = shutil.copytree(run, folder / "held")
    subprocess.run(["umount", "--lazy", run], check=True)
    shutil.copytree(held, run, dirs_exist_ok=True)


@contextmanager
def read_only(folder, room):
    """Files that are open go on being written, none can be made or renamed."""

    def fall(process):
        mounted("--bind", folder / "r", folder / "r")
        mounted("-o", "remount,bind,ro", folder / "r")

    yield (), fall, {0, 1}
    subprocess.run(["umount", "--lazy", folder / "r"], capture_output=True, check=False)


@contextmanager
def clock_jumps(folder, room):
    """The wall clock jumps ten years ahead."""
    if not shutil.which("faketime"):
        pytest.skip("needs faketime")
    words = ["faketime", "-m", "-f", "+0d", "sh", "-c", "echo $LD_PRELOAD"]
    library = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    clock = folder / "clock"
    clock.write_text("+0\n")
    now = {"FAKETIME_TIMESTAMP_FILE": clock, "FAKETIME_NO_CACHE": 1,
           "FAKETIME_DONT_FAKE_MONOTONIC": 1, "LD_PRELOAD": library}  # fmt: skip
    wrapper = ("env", *(f"{name}={value}" for name, value in now.items()))
    yield wrapper, lambda process: clock.write_text("+3600d\n"), {0}


def mounted(*words):
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs root that may mount")
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


# Before Python runs our own lines a signal ends it as it ends any program.
BLOWS = {
    "kill -9": sent(signal.SIGKILL, codes={-9}, group=False),
    "kill -9, all its processes": sent(signal.SIGKILL, codes={-9}),
    "SIGTERM": sent(signal.SIGTERM, codes={143, -15}, group=False),
    "Ctrl-C": sent(signal.SIGINT, codes={130, -2}),
    "SIGSTOP, SIGCONT": sent(signal.SIGSTOP, signal.SIGCONT, codes={0}),
    "full disk": full_disk,
    "read-only folder": read_only,
    "clock jumps": clock_jumps,
}
CHANCE = random.Random(0)
CASES = [("sample", blow, 0.5) for blow in ("full disk", "read-only folder", "clock jumps")] + [
    (CHANCE.choice([*JOBS]), CHANCE.choice([*BLOWS]), CHANCE.random())
    for _ in range(int(os.environ.get("MOMENTS", 0)))
]


# -- what a run folder says --------------------------------------------------------------------


def state(run):
    """File by file, without what a clock says or a process is; paths in any order."""
    own = {"run.lock", "run.pid", "status.json"}
    return {f.relative_to(run): content(f) for f in tree(run) if f.name not in own}


def content(file):
    if file.suffix == ".jsonl":
        return sorted(json.dumps(timeless(json.loads(line))) for line in whole_lines(file))
    if file.suffix == ".json":
        return timeless(json.loads(file.read_text()))
    if file.suffix == ".toml":  # the width is each call's own
        return {**tomllib.loads(file.read_text()), "engine": ""}
    return hashlib.sha256(file.read_bytes()).hexdigest()


def timeless(value):
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in CLOCKS}
        return {k: f"{v or 0:.2g}" if k in BITS else timeless(v) for k, v in kept.items()}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def finished(run):
    """The paths and answers that are on disk: what may not be taken away."""
    written = [run / "paths.jsonl", *run.glob("eval/*.answers.jsonl")]
    return Counter((file.name, line) for file in written for line in whole_lines(file))


@pytest.fixture(scope="module")
def undisturbed(gguf, tmp_path_factory):
    """Each command's folder before and after it, and its seconds; as far as they are needed."""
    folder, found = tmp_path_factory.mktemp("undisturbed"), {}
    drawn = SETTINGS["sample"] | {"model": str(gguf)}
    (folder / "lmsi.toml").write_bytes(msgspec.toml.encode(SETTINGS | {"sample": drawn}))
    (folder / "r").mkdir()
    last = max([*JOBS].index(job) for job, _, _ in CASES)
    for job in [*JOBS][: last + 1]:
        before, begun = shutil.copytree(folder, folder.with_name(f"{job}-before")), time.monotonic()
        assert start(job, folder).wait() == 0, (folder / "err.txt").read_text()
        seconds = time.monotonic() - begun
        after = shutil.copytree(folder, folder.with_name(f"{job}-after"))
        found[job] = before, after, seconds
    return found


def size(folder):
    return sum(len(data) + 4096 for data in tree(folder).values())


@pytest.mark.parametrize(("job", "blow", "share"), CASES)
def test_a_disturbed_command_goes_on(undisturbed, tmp_path, job, blow, share):
    """``share``: of its time, or of the room that it needs on the disk, at which the blow falls."""
    before, after, seconds = undisturbed[job]
    folder = shutil.copytree(before, tmp_path / "w")
    begun, end = size(folder / "r"), size(after / "r")
    room = begun + int(share * (end - begun)) + 4096 * 3
    with BLOWS[blow](folder, room) as (wrapper, fall, codes):
        process = start(job, folder, *wrapper)
        try:
            code = process.wait(share * seconds if fall else HANG)
            assert fall is None or code == 0
        except subprocess.TimeoutExpired:
            fall(process)
            assert process.wait(HANG) in codes | {0}
        said = (folder / "err.txt").read_text()
    assert "Traceback" not in said
    there = finished(folder / "r")
    for _ in range(20):  # the last processes of the first may need a moment to go
        code = start(job, folder).wait(HANG)
        said = (folder / "err.txt").read_text()
        if "is in use by" not in said:
            break
        time.sleep(0.25)
    assert code == 0, said
    assert there <= finished(folder / "r")
    assert state(folder / "r") == state(after / "r")
