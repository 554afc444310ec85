"""Where `lmsi sample` finds its workers, if not in its own process.

Knows no command; nothing here changes what a path says, and none of it is written to a run folder.

    [sample]
    cluster = "local"
    workers = 2
"""

from __future__ import annotations

from typing import Annotated

from lmsi_cli.config.options import opt

Cluster = Annotated[str, opt("Spread over Ray workers: local, auto or HOST:PORT; none: no.")]
Workers = Annotated[int, opt("cluster: workers; 0: as many as fit.", ge=0, le=100_000)]
WorkerThreads = Annotated[
    int, opt("cluster: CPUs of a worker; 0: all of the smallest machine.", ge=0, le=512)
]
SPREADING = ("cluster", "workers", "worker_threads")
