"""The tool's own commands, called as a user calls them: arguments in, the JSON result out."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

RUN = "from lmsi_cli.cli.main import main; main()"


def lmsi(*argv: object, also: tuple[int, ...] = ()) -> Any:  # noqa: ANN401 - a command's own result
    """Run one command with ``--json`` in a process of its own.

    Raises:
        SystemExit: It exited with a code other than 0 or one of ``also``; shows its stderr.
    """
    command = [sys.executable, "-c", RUN, *map(str, argv), "--json"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode not in (0, *also):
        raise SystemExit(f"lmsi {' '.join(command[3:])}\n{done.stderr.decode()}")
    return json.loads(done.stdout)
