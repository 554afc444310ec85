"""Whether llama.cpp may repack weights in this process: the one rule that all models go by.

Repacked weights are multiplied in AMX's tiles where there are any. llama.cpp gives the tiles their
shape once per thread; PyTorch (oneDNN) takes it from the threads that both work on, and the next
product kills the process with SIGILL. So no process computes with repacked weights beside PyTorch:
training has one of its own (``aside``), and where both must meet for a few tokens, as in the proof
of an adapter, llama.cpp does without. The rule is the same on every CPU, so that every machine
tests it.
"""

from __future__ import annotations

import sys

from lmsi_cli.engine import probe


def allowed() -> bool:
    """Whether a model that is loaded now may be repacked.

    Raises:
        LmsiError: llama.cpp dies on a quantised model either way.
    """
    return probe.extra_buffers_work() and not torch_is_here()


def torch_is_here() -> bool:
    """Whether PyTorch has been imported; whether it has computed cannot be asked."""
    return "torch" in sys.modules


def check(repacked: bool) -> None:
    """Refuse to go on with repacked weights once PyTorch is here: asked before every decode.

    Raises:
        RuntimeError: Somebody imported it while a model was open; a fault of the program.
    """
    if repacked and torch_is_here():
        raise RuntimeError(
            "PyTorch was imported while a model with repacked weights was open: close the model "
            "first, or let PyTorch work in another process (lmsi_cli.aside)"
        )
