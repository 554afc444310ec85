"""Several processes vote as one does: the same bytes, the same errors, and nothing left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path as File

import msgspec
import pytest

from lmsi_cli import indexed
from lmsi_cli.config import VoteConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import read_records, write_records
from lmsi_cli.polling import holding
from lmsi_cli.prompts import Task
from lmsi_cli.records import Path, Question
from lmsi_cli.rundir import RunDir
from lmsi_cli.stages.vote import vote_run
from lmsi_cli.store import shard_appender
from lmsi_cli.store.gathered import Gathered
from lmsi_cli.verdict import observer
from lmsi_cli.verdict.observer import Observer

TASK = Task(name="number", kind="number", exemplars=())
COUNT, EACH = 40, 6
FILES = ("votes.jsonl", "train.jsonl", "pairs.jsonl", "vote.json", "run.toml")


def path(number, index):
    told = number + index + (1 if (number * 7 + index * 3) % 5 == 0 else 0)
    answer = None if (number + index) % 9 == 0 else str(told - index)
    text = f" We have {number} + {index} = {told}, less {index}. The answer is {told - index}."
    return Path(
        question_id=f"q{number:02d}", path=index, seed=path_seed(0, f"q{number:02d}", index),
        text=text, num_generated_tokens=9, logprob=-9.0, mean_logprob=-0.1 - index / 10,
        stop_reason="answer", predicted_answer=answer, extract_rule="marker",
    )  # fmt: skip


def write(run, paths, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
        with shard_appender(run.sampled.shards, 50) as lines:
            for one in paths:
                lines.write(one)
    else:
        write_records(run.paths, paths)


@pytest.fixture(params=["jsonl", "parquet"])
def run(request, tmp_path, monkeypatch):
    """A run folder that is voted on in more pieces than there are workers."""
    monkeypatch.setattr(indexed, "PIECE", 7)
    monkeypatch.setattr(Gathered, "_choose", lambda *_: ["q05", "q06", "q17", "q33"])
    monkeypatch.setattr(holding, "SLICE", 3)
    run = RunDir(tmp_path / "run")
    ids = [f"q{n:02d}" for n in range(COUNT)]
    write_records(run.questions, [Question(id=q, question=f"What is {q}?") for q in ids])
    write(run, [path(n, i) for i in range(EACH) for n in range(COUNT)], request.param)
    run.save_settings("sample", {"seed": 0, "paths": EACH})
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return run


def voted(run, workers, **settings):
    watch = Observer({"q07": "7"}, None)
    summary = vote_run(run, TASK, VoteConfig(workers=workers, **settings), watch=watch)
    return summary, watch.finish(), [(run.root / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("settings", [{}, {"preset": "paper", "weight": "cisc:0.5", "seed": 3}])
def test_the_files_are_those_of_one_process(run, monkeypatch, settings):
    monkeypatch.setattr(observer, "MOST", 5)  # the verdict's sample is thinned on both ways
    alone = voted(run, 1, **settings)
    assert alone[0].questions == COUNT and alone[0].kept_paths
    for workers in (2, 3):
        assert voted(run, workers, **settings) == alone
    left = sorted(p.name for p in run.root.parent.iterdir())
    assert left == ["run"] and not multiprocessing.active_children()


def altered(run, change):
    paths = [change(p) for p in run.sampled.read()]
    form = run.sampled.form()
    for file in run.sampled.files():
        file.unlink(missing_ok=True)
    write(run, paths, form)


def of_another_run(p):
    return msgspec.structs.replace(p, seed=1) if p.question_id > "q20" else p


@pytest.mark.parametrize("mistake", ["missing", "seed"])
def test_a_mistake_is_told_as_by_one_process(run, mistake):
    if mistake == "missing":
        some = [q for q in read_records(run.questions, Question) if q.id not in ("q21", "q30")]
        write_records(run.questions, some)
    else:
        altered(run, of_another_run)
    told = []
    for workers in (1, 2):
        with pytest.raises(LmsiError) as e:
            voted(run, workers)
        told.append((str(e.value), e.value.hint))
        assert not run.votes.exists() and not multiprocessing.active_children()
    assert told[0] == told[1] and "q21" in told[0][0]


def test_a_dead_worker_is_one_clear_line(run):
    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(LmsiError, match=r"a worker of the vote died \(signal 9\); nothing"):
        voted(run, 2)
    killer.join()
    assert not run.votes.exists() and not multiprocessing.active_children()
    assert sorted(p.name for p in run.root.parent.iterdir()) == ["run"]


def kill_one():
    while not (children := multiprocessing.active_children()):
        time.sleep(0.001)
    os.kill(children[0].pid, signal.SIGKILL)


@pytest.mark.skipif(not File("/proc/self/task").exists(), reason="finds children in /proc")
def test_an_interrupt_ends_all_of_them(run):
    code = "from lmsi_cli.cli.main import main\nif __name__ == '__main__':\n    main()\n"
    script = run.root.parent / "command.py"
    script.write_text(code)
    run.save_settings("sample", {"seed": 0, "paths": EACH, "task": "number"})
    process = subprocess.Popen(
        [sys.executable, script, "vote", run.root, "--workers", "2", "--quiet"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    children = workers_of(process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err
    assert not run.votes.exists()
    assert all(map(ends, children))


def ends(pid):
    """Whether a process is gone before long; a dead one that nobody asks for has no words."""
    file, end = File(f"/proc/{pid}/cmdline"), time.monotonic() + 60
    while file.exists() and file.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    return time.monotonic() < end


def workers_of(process):
    """The workers; one more child looks after their semaphores."""
    while process.poll() is None:
        file = File(f"/proc/{process.pid}/task/{process.pid}/children")
        if len(found := file.read_text().split()) > 1:
            return found
        time.sleep(0.01)
    raise AssertionError(process.communicate())
