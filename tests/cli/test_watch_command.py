"""`lmsi watch`, and the file that a working command leaves for it."""

import io
import json
import signal
import subprocess
import sys
import time

import msgspec
import pytest
from commands import SAMPLE, refused

from lmsi_cli.cli.console import Beacon, Lines
from lmsi_cli.cli.session import watched
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Status
from lmsi_cli.run_folder import RunDir

pytestmark = pytest.mark.model


def status(root="r"):
    return msgspec.json.decode(RunDir(root).status.read_bytes(), type=Status)


def test_a_finished_run_is_shown_stage_by_stage(sampled, lmsi):
    seen = lmsi("watch", "r")
    assert "4 of 4 paths of 2 questions" in seen.stdout
    assert ": done" in seen.stdout
    told = json.loads(lmsi("watch", "r", "--json").stdout)
    assert told["working"] is False and told["status"]["ended"] == "done"
    assert [s["there"] is None for s in told["stages"]] == [False, True, True, True]
    refused(lmsi("watch", "."), "not a run folder")


def test_a_running_command_is_seen_and_a_killed_one_too(folder, lmsi):
    main = "from lmsi_cli.cli.main import main; main()"
    argv = SAMPLE.replace("-n 2", "-n 4000").replace("--max-tokens 8", "--max-tokens 64").split()
    child = subprocess.Popen([sys.executable, "-c", main, *argv], stderr=subprocess.DEVNULL)
    try:
        while not (RunDir("r").paths.exists() and RunDir("r").paths.stat().st_size):
            assert child.poll() is None
            time.sleep(0.02)
        told = json.loads(lmsi("watch", "r", "--json").stdout)
        assert told["working"] and told["status"]["ended"] is None
        assert told["status"]["pid"] == child.pid and told["status"]["memory"] > 1 << 20
        assert "sampling" in lmsi("watch", "r", "--once").stdout
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert "killed" in lmsi("watch", "r").stdout


def test_the_file_is_written_when_work_begins_and_when_it_ends(tmp_path):
    run = RunDir(tmp_path)
    beacon = Beacon(Lines(io.StringIO()), run, ["vote", "my run"])
    beacon.say("before any work")
    beacon.end("done")
    assert not run.status.exists()  # another process may work there
    beacon.start("voting", 10)
    beacon.advance(7, share=0.5)
    assert status(tmp_path).done == 0  # written a moment ago
    beacon.end("interrupted")
    assert (status(tmp_path).done, status(tmp_path).ended) == (7, "interrupted")
    assert status(tmp_path).command == "vote 'my run'"
    assert status(tmp_path).figures == {"share": 0.5}


def test_names_of_files_in_progress_do_not_steer_the_terminal(tmp_path):
    stream = io.StringIO()
    beacon = Beacon(Lines(stream), RunDir(tmp_path), [])
    beacon.start("base on q\x1b[2J", 1)
    beacon.advance(1)
    beacon.say("in r\x9b31m")
    assert not set(stream.getvalue()) & set("\x1b\x9b")
    assert "base on q\\x1b[2J" in stream.getvalue()


@pytest.mark.parametrize(
    ("error", "ended"), [(LmsiError("no room"), "no room"), (KeyboardInterrupt(), "interrupted")]
)
def test_how_a_command_ends_is_told(tmp_path, error, ended):
    with pytest.raises(type(error)), watched(True, RunDir(tmp_path)) as progress:
        progress.start("voting", 1)
        raise error
    assert status(tmp_path).ended == ended
