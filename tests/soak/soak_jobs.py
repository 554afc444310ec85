"""The commands that are disturbed, each on what the commands before it have left.

A job is given over and over with the same words; where it works on what another one leaves, it
begins with a copy of that. All settings come from one file, so ``run`` and the single commands
work alike. Models: the embedded one, or any GGUF file.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from lmsi_cli.engine.base import path_seed
from lmsi_cli.run_folder import RunDir

ROOT = Path(__file__).parents[2]
TINYMATH = ROOT / "models" / "tinymath"
MANY = 400  # copies of each sampled question, so that a vote takes seconds
SAME_BITS = {"threads": 1, "kv": "split", "parallel": 8}  # whatever shares a path's batches
SETTINGS = {
    "sample": {"prompt": "cot-zero", "chat": "off", "limit": 12, "paths": 4, "max_tokens": 48},
    "vote": {"min_share": 0.0, "formats": ["cot-zero"]},
    "train": {"max_steps": 8, "batch_size": 4, "rank": 4, "checkpoint_every": 2, "eval_every": 4},
    "eval": {"modes": ["cot", "sc"], "paths": 2, "limit": 8},
    "questions": {"number": 3, "paths": 2, "max_tokens": 64},
}


class Job(NamedTuple):
    """``argv`` is what follows ``lmsi``; the run folder is ``r`` in the folder it is given in."""

    name: str
    argv: list
    begin: Path | None = None  # what the run folder holds before
    env: dict = {}  # noqa: RUF012 - never changed

    def start(self, folder, wrapper=()):
        """Start it in a session of its own, as a terminal does; what it says is in err.txt."""
        one = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # threads that spin starve others
        env = {**os.environ, **one, **self.env}
        with (folder / "err.txt").open("w") as err:
            return subprocess.Popen(
                [*wrapper, sys.executable, "-m", "lmsi_cli", *map(str, self.argv)],
                cwd=folder, env=env, stdout=err, stderr=err, start_new_session=True,
                # a shell that starts us in the background has us ignore Ctrl-C
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip

    def finish(self, folder):
        """Work to the end, where nothing disturbs it; what it said."""
        code, said = self.start(folder).wait(), (folder / "err.txt").read_text()
        assert code == 0, f"{self.name}: exit code {code}: {said}"
        return said

    def put(self, folder):
        """Make the folder that it is given in."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.begin:
            shutil.copytree(self.begin, folder / "r", dirs_exist_ok=True)


def made(place, model, wanted, settings=SETTINGS, hub="", cluster=""):
    """The jobs that are wanted, by name; the folders they begin with are made in ``place``."""
    config = place / "lmsi.toml"
    alike = {name: {**settings[name], **SAME_BITS} for name in ("sample", "eval", "questions")}
    config.write_bytes(msgspec.toml.encode({**settings, **alike}))
    asked, exam = TINYMATH / "questions.jsonl", ["--data", TINYMATH / "test.jsonl"]
    new, told = ["-m", model, "-o", "r"], ["--config", config]
    sample = Job("sample", ["sample", asked, *new, *told])
    vote, train = Job("vote", ["vote", "r", *told]), Job("train", ["train", "r", "--force", *told])
    named = ["sample", asked, "-m", "hf:me/m", "-o", "r", *told]
    jobs = [
        sample,
        Job("download", named, env={"HF_ENDPOINT": hub, "HF_HOME": "hf"}),
        Job("cluster", [*sample.argv, "--cluster", cluster]),
        Job("questions", ["questions", asked, *new, *told]),
        Job("run", ["run", asked, "--force", *new, *exam, *told]),
    ]
    if wanted & {"vote", "train", "eval", "export"}:
        sampled = _after(sample, place)
        jobs.append(vote._replace(begin=_many(sampled)))
    if wanted & {"train", "eval", "export"}:
        train = train._replace(begin=_after(vote._replace(begin=sampled), place))
        jobs.append(train)
    if wanted & {"eval", "export"}:
        trained = _after(train, place)
        jobs.append(Job("eval", ["eval", "r", *exam, *told], trained))
        jobs.append(Job("export", ["export", "r", "--to", "gguf", "--overwrite"], trained))
    return {job.name: job for job in jobs if job.name in wanted}


def _after(job, place):
    """The run folder that a job leaves when nothing disturbs it."""
    folder = place / job.name
    job.put(folder)
    job.finish(folder)
    return folder / "r"


def _many(run):
    """A copy of a sampled run with many times as many questions."""
    many = RunDir(shutil.copytree(run, run.parent / "many"))
    for file, key in ((many.questions, "id"), (many.paths, "question_id")):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        copies = ({**line, key: f"{line[key]}-{n}"} for n in range(MANY) for line in lines)
        file.write_text("".join(json.dumps(_seeded(line)) + "\n" for line in copies))
    return many.root


def _seeded(line):
    """A path with the seed that its new name asks for; a question as it is."""
    if "path" not in line:
        return line
    return {**line, "seed": path_seed(0, line["question_id"], line["path"])}
