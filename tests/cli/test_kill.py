"""A sampling run that is killed again and again loses nothing and draws nothing twice."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest

pytestmark = [pytest.mark.model, pytest.mark.slow]

TINYMATH = Path(__file__).parents[2] / "models" / "tinymath"
KILLS = 20
QUESTIONS, PATHS = 12, 10


def sampling(folder, *more):
    return [
        "sample", str(TINYMATH / "questions.jsonl"), "-o", str(folder), "--limit", str(QUESTIONS),
        "-n", str(PATHS), "--set", "parallel=8", "--threads", "1", "--quiet", *more,
    ]  # fmt: skip


def command(folder, *more):
    code = "from lmsi_cli.cli.main import main; main()"
    return [sys.executable, "-c", code, *sampling(folder, *more)]


def start(folder):
    return forked.lmsi(*sampling(folder), err=folder.with_suffix(".err"))


def finish(folder):
    assert forked.ended(start(folder)) == 0, folder.with_suffix(".err").read_text()


def lines(folder):
    file = folder / "paths.jsonl"
    data = file.read_bytes() if file.exists() else b""
    return data[: data.rfind(b"\n") + 1].splitlines()


def by_key(folder):
    found = [json.loads(line) for line in lines(folder)]
    keys = [(p["question_id"], p["path"]) for p in found]
    assert len(keys) == len(set(keys))
    return dict(zip(keys, found, strict=True))


def live(folder, rng):
    """One life: let it write one to seven more lines, go on for a moment, kill it.

    Counted in lines and not in seconds, so that a fast machine is not done before the last kill.
    """
    goal = len(lines(folder)) + rng.randint(1, 7)
    process = start(folder)
    while len(lines(folder)) < goal and process.is_alive():
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.1))
    process.kill()
    assert forked.ended(process) == -signal.SIGKILL  # it had not ended by itself
    return lines(folder)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(folder)
    return by_key(folder)


def test_twenty_kills(tmp_path, uninterrupted):
    """Every line that was there at a kill is kept as it was, and all paths are the same in the end.

    To the last bit of every log-probability: in a split cache what a path is does not depend on
    what shares its batches.
    """
    folder, rng, seen = tmp_path / "run", random.Random(7), []
    for _ in range(KILLS):
        now = live(folder, rng)
        assert now[: len(seen)] == seen
        seen = now
    finish(folder)
    assert (folder / "paths.jsonl").read_bytes().endswith(b"\n")
    assert lines(folder)[: len(seen)] == seen
    resumed = by_key(folder)
    assert resumed == uninterrupted


def test_ctrl_c_says_so_and_the_same_command_goes_on(tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not lines(folder):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert out == ""
    assert err == "interrupted; what was finished is saved, the same command goes on\n"
    kept = lines(folder)
    subprocess.run(command(folder, "--limit", "4"), check=True, capture_output=True)
    assert lines(folder)[: len(kept)] == kept


def test_two_processes_do_not_share_a_folder(tmp_path):
    folder = tmp_path / "run"
    first = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while not lines(folder):
            assert first.poll() is None
            time.sleep(0.01)
        second = subprocess.run(command(folder), capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"is in use by process {first.pid}" in second.stderr
    finally:
        first.kill()
        first.communicate()
