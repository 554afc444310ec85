"""A worker behind bytes: opened after this machine has been checked, and traded with.

Knows files, hashes and the records of ``wire.py``; nothing of Ray.

    open_worker(b'{"model": "/models/m.gguf", ...}') -> (Worker, b'{"node": "a", "chat": false}')
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lmsi_cli.cluster.wire import Job, Order, Ready, Start, sent
from lmsi_cli.cluster.worker import Worker
from lmsi_cli.engine.encode import choose
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.errors import LmsiError
from lmsi_cli.rundir import sha256_file


def open_worker(job: bytes) -> tuple[Worker | None, bytes]:
    """Load what a job names, or say in a ``Ready`` why that cannot be."""
    node = platform.node()
    try:
        worker, told = _open(msgspec.json.decode(job, type=Job))
    except LmsiError as e:
        return None, sent(Ready(node=node, error=str(e), hint=e.hint))
    except ImportError as e:
        hint = "on that machine: pip install llama-cpp-python"
        return None, sent(Ready(node=node, error=f"llama-cpp-python does not load: {e}", hint=hint))
    return worker, sent(msgspec.structs.replace(told, node=node))


def _open(job: Job) -> tuple[Worker, Ready]:
    _check(job.model, job.model_sha256)
    if job.adapter:
        _check(job.adapter, job.adapter_sha256)
    engine = LlamaEngine(Path(job.model), job.settings)
    engine.use_adapter(job.adapter or None, job.adapter_scale)
    choice = choose(job.settings.chat, engine.encoder, job.settings.template_var)
    return Worker(engine, job.settings), Ready(node="", chat=choice.chat, why=choice.why)


def _check(file: str, sha256: str) -> None:
    """Refuse a file that is missing or another one: a path belongs to one model."""
    path = Path(file)
    if not path.is_file():
        hint = "every machine needs the file at the same place: copy it there, or use a shared disk"
        raise LmsiError(f"{file}: no such file", hint)
    if sha256_file(path) != sha256:
        raise LmsiError(f"{file}: another file than the driver's of that name", "copy it anew")


def start(worker: Worker, start: bytes) -> None:
    """Tell a worker how questions are asked."""
    worker.start(msgspec.json.decode(start, type=Start))


def trade(worker: Worker, orders: Sequence[bytes], patience: float, linger: float) -> bytes:
    """Bytes for bytes; see ``Worker.trade``."""
    taken = [msgspec.json.decode(order, type=Order) for order in orders]
    return sent(worker.trade(taken, patience, linger))
