"""Processes that find PyTorch imported: each is forked from one that has done it, and nothing else.

They are processes like any others, killed and signalled as such; only the seconds of importing are
paid once. Knows nothing of what runs in them.

    process = forked.lmsi("train", "runs/a", "-q", err=folder / "err")
    process.kill()
    forked.ended(process)      # -9
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
IMPORTED = [
    "lmsi_cli.cli.main",
    "lmsi_cli.stages.train",
    "peft",
    "transformers.models.llama.modeling_llama",
]
if sys.platform == "win32":  # it cannot fork, so each process imports for itself
    CONTEXT = multiprocessing.get_context("spawn")
else:
    CONTEXT = multiprocessing.get_context("forkserver")
    CONTEXT.set_forkserver_preload(IMPORTED)


def lmsi(*argv, err, env=None):
    """Start the command; what it says to stderr is in the file ``err``."""
    return script("lmsi", *argv, out=os.devnull, err=err, env=env)


def script(file, *argv, out, err, env=None):
    """Start a Python file as a script, in an environment with ``env`` added."""
    told = [*map(str, (file, *argv))], str(out), str(err), env or {}
    process = CONTEXT.Process(target=_run, args=told)
    process.start()
    return process


def python(*argv, **how):
    """Start a fresh interpreter instead, which finds the package and these tests; it has pipes."""
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = {**os.environ, "PYTHONPATH": path}
    argv = [sys.executable, *map(str, argv)]
    return subprocess.Popen(argv, env=environment, text=True, **pipes, **how)


def ended(process):
    """Wait for the end; the exit code, below zero for a signal."""
    process.join()
    return process.exitcode


def _run(argv, out, err, env):
    """What a shell would do: set arguments, environment and files, and start a program."""
    sys.argv = argv
    os.environ.update(env)
    for number, file in ((1, out), (2, err)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    if argv[0] != "lmsi":
        runpy.run_path(argv[0], run_name="__main__")
        return
    from lmsi_cli.cli.main import main

    main()
