"""Hours of sampling in minutes: does memory grow, do files stay open, does a path take longer?

    PYTHONPATH=.:tests python tests/soak/long_run.py --questions 62500 --paths 16 -o long.jsonl

An engine that speaks from a script draws a folder of a million paths through the code that every
command draws through. Then the folder is used as it would be the next day: the same call again,
``lmsi vote``, ``lmsi show`` and ``lmsi report``, each in a process of its own. One line each:

    {"part": "drawn", "paths": 50000, "seconds": 3.1, "mib": 118.2, "handles": 9}
    {"part": "lmsi vote", "paths": 1000000, "seconds": 48.3, "mib": 159.0, "code": 0}
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from scripted import ScriptedEngine

from lmsi_cli.config import SampleConfig
from lmsi_cli.prompts import Task
from lmsi_cli.records import Question
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.sample import bind, sample

TASK = Task(name="number", kind="number", exemplars=(), prompt="cot-zero")
PARTS = 20  # looks at memory while the paths are drawn


class Looking:
    """Progress that looks at this process at each of ``PARTS`` parts."""

    def __init__(self, total, tell):
        self.every, self.tell, self.begun, self.done = total // PARTS, tell, time.monotonic(), 0

    def start(self, label, total):
        """A new bar."""

    def say(self, text):
        """A line."""

    def advance(self, done, **figures):
        if done - self.done < self.every:
            return
        now, me = time.monotonic(), psutil.Process()
        found = {"paths": done, "seconds": now - self.begun, "mib": me.memory_info().rss / 2**20}
        self.tell({"part": "drawn", **found, "handles": me.num_fds()})
        self.begun, self.done = now, done


def said(number):
    """Texts of a question's paths: two of three come to the same answer."""
    right, wrong = 2 * number, 2 * number + 1
    good = f" {number} and {number} more: {number} + {number} = {right}. The answer is {right}."
    bad = f" {number} + {number} + 1 = {wrong}. The answer is {wrong}."
    return [good, bad, good.replace("and", "with")]


def draw(root, questions, paths, out):
    """Draw what the folder lacks; a line of figures at each part, and one at the end."""
    run, total, begun = RunDir(root), questions * paths, time.monotonic()
    texts = {f"q{n}": said(n) for n in range(questions)}
    asked = [Question(id=q, question=f"Tom has {q[1:]} pens, twice. How many?") for q in texts]
    config = SampleConfig(paths=paths, prompt="cot-zero", max_tokens=256, task="number")
    bind(run, config, {"model": "scripted", "task_name": "number"})
    looking = Looking(total, lambda record: tell(out, record))
    sample(asked, ScriptedEngine(texts), TASK, config, run, looking)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.monotonic() - begun
    tell(out, {"part": "all", "paths": total, "seconds": seconds, "mib": peak})


def used(words, out, paths):
    """A command on the folder; its time and its greatest memory."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "lmsi_cli", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    spent = {"seconds": time.monotonic() - begun, "mib": usage.ru_maxrss / 1024}
    how = {"code": process.returncode, "said": said[-200:]}
    tell(out, {"part": f"lmsi {words[0]}", "paths": paths, **spent, **how})


def tell(out, record):
    with out.open("a") as file:
        file.write(json.dumps(record) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=62_500)
    parser.add_argument("--paths", type=int, default=16)
    parser.add_argument("-o", "--out", type=Path, required=True)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="long-") as folder:
        root = Path(folder) / "r"
        for _ in range(2):  # the second time nothing is lacking
            # apart: a process inherits the greatest memory of the one that starts it
            args = (root, told.questions, told.paths, told.out)
            process = multiprocessing.get_context("spawn").Process(target=draw, args=args)
            process.start()
            process.join()
        for words in (["vote"], ["show", "--question", "q7"], ["report"]):
            command = [words[0], str(root), *words[1:]]
            used(command, told.out, told.questions * told.paths)


if __name__ == "__main__":
    main()
