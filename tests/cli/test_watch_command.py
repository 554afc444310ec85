"""`lmsi watch`, and the file that a working command leaves for it."""

import json

import pytest
from commands import SAMPLE, refused, works

from lmsi_cli.cli.console import Beacon
from lmsi_cli.cli.session import watched
from lmsi_cli.errors import LmsiError
from lmsi_cli.run_folder import RunDir, locked


def seen(root):
    return json.loads(works("watch", root, "--json").stdout)


@pytest.mark.model
def test_a_finished_run_is_shown_stage_by_stage(sampled, lmsi):
    shown = works("watch", "r").stdout
    assert "4 of 4 paths of 2 questions" in shown and ": done" in shown
    told = seen("r")
    assert told["working"] is False and told["status"]["ended"] == "done"
    assert [name for name, there in told["stages"].items() if there] == ["sample"]
    refused(lmsi("watch", "."), "not a run folder")
    works(*SAMPLE.replace("-n 2", "-n 1").split())  # fewer than there are
    assert seen("r")["stages"]["sample"] == "4 of 4 paths of 2 questions"


def test_a_running_command_is_seen_and_a_killed_one_too(tmp_path):
    run = RunDir(tmp_path)
    with locked(run):
        Beacon(True, run, ["vote", "my run"]).start("voting", 10)
        told = seen(tmp_path)
        assert told["working"] and told["status"]["ended"] is None
        assert told["status"]["pid"] and told["status"]["memory"] > 1 << 20
        shown = works("watch", tmp_path, "--once").stdout
        assert "vote 'my run'" in shown and "voting  0/10  0.0%" in shown
    assert "killed" in works("watch", tmp_path).stdout  # the lock is gone, and there is no end


def test_the_file_is_written_when_work_begins_and_when_it_ends(tmp_path, capsys):
    run = RunDir(tmp_path)
    beacon = Beacon(False, run, ["vote"])
    beacon.say("before any work \x9b31m")
    beacon.end("done")
    assert not run.status.exists()  # another process may work there
    beacon.start("voting on q\x1b[2J", 10)
    beacon.advance(7, share=0.5)
    assert seen(tmp_path)["status"]["done"] == 0  # written a moment ago
    beacon.advance(10, share=0.5)
    beacon.end("done")
    status = seen(tmp_path)["status"]
    assert (status["done"], status["figures"]) == (10, {"share": 0.5})
    shown = capsys.readouterr().err
    assert not set(shown) & set("\x1b\x9b") and "q\\x1b[2J" in shown
    # how a command ends is told
    for error, ended in ((LmsiError("no room"), "no room"), (KeyboardInterrupt(), "interrupted")):
        with pytest.raises(type(error)), watched(True, RunDir(tmp_path)) as progress:
            progress.start("voting", 1)
            raise error
        assert seen(tmp_path)["status"]["ended"] == ended
