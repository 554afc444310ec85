"""What runs in a Ray actor: the checks before any work, then a worker.

Knows Ray's actor as a plain class, and lmsi only inside its methods: the class travels whole, so
that a machine without lmsi, or with another version of it, can say so in words instead of failing
to load it. Every argument and every result is JSON (``wire.py``); answers of ``ready``:

    {"node": "192.0.2.7", "chat": false, "why": "the file has no chat template"}
    {"node": "192.0.2.8", "error": "/models/m.gguf: no such file", "hint": "copy it there"}
"""

from __future__ import annotations

from typing import Any


def actor_class() -> type[Any]:
    """The class; made in here, so that Ray sends it by value."""

    class Drawer:
        """A worker in a process that Ray has started."""

        def ready(self, job: bytes, lmsi: str) -> bytes:
            """Check this machine and load the model."""
            import json
            import platform

            def no(error: str, hint: str) -> bytes:
                told = {"node": platform.node(), "error": error, "hint": hint}
                return json.dumps(told).encode()

            try:
                from importlib.metadata import version

                from lmsi_cli.cluster import serving
            except ImportError as e:
                return no(f"lmsi is not installed there ({e})", f'pip install "lmsi[ray]=={lmsi}"')
            if version("lmsi") != lmsi:
                found = f"lmsi {version('lmsi')} is installed there, {lmsi} here"
                return no(found, f'on that machine: pip install "lmsi[ray]=={lmsi}"')
            self.worker: Any
            self.worker, told = serving.open_worker(job)
            return told

        def start(self, start: bytes) -> None:
            """Tell how questions are asked."""
            from lmsi_cli.cluster import serving

            serving.start(self.worker, start)

        def trade(self, orders: list[bytes], patience: float, linger: float) -> bytes:
            """Take orders and report; see ``worker.py``."""
            from lmsi_cli.cluster import serving

            return serving.trade(self.worker, orders, patience, linger)

    return Drawer
