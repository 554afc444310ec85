"""`lmsi sample --cluster`: Ray workers draw, this process writes the run folder.

Knows how a command's settings become a crew; the folder comes out as from one process, and says
nothing of how many drew it.

    lmsi sample questions.jsonl -o runs/a --cluster local --workers 2 --worker-threads 4
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec

from lmsi_cli.catalog import Model
from lmsi_cli.cli.asking import ask, form_of, keep
from lmsi_cli.cli.session import identity, watched
from lmsi_cli.config import SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Task
from lmsi_cli.records import Question
from lmsi_cli.rundir import RunDir, discard, locked

if TYPE_CHECKING:
    from lmsi_cli.cluster.reaching import Wish
    from lmsi_cli.cluster.wire import Job
    from lmsi_cli.stages.sample import SampleSummary


def refuse_spread(settings: SampleConfig) -> None:
    """Refuse a cluster's settings where there is none.

    Raises:
        LmsiError: Says what to leave out.
    """
    if settings.engine == "openai" and settings.cluster:
        raise LmsiError(
            f"--cluster {settings.cluster}: with --engine openai the server is what is shared",
            hint="leave --cluster out; --concurrency says how many requests are under way",
        )
    for name in ("workers", "worker_threads"):
        if getattr(settings, name):
            flag = f"--{name.replace('_', '-')}"
            raise LmsiError(f"{flag}: that is a cluster's", hint="give --cluster local with it")


def sample_spread(
    asked: Sequence[Question],
    settings: SampleConfig,
    model: Model,
    task: Task,
    run: RunDir,
    how: tuple[bool, bool],
) -> SampleSummary:
    """Draw the paths that a run folder lacks.

    Args:
        asked: The questions.
        settings: Of the command, with a cluster.
        model: Its file lies at the same place on every machine.
        task: As picked; no worker is there for a trial, so it is asked in its first wording.
        run: The folder.
        how: ``--overwrite`` and ``--quiet``.

    Raises:
        LmsiError: The cluster cannot be used, or the folder is another run's.
    """
    from lmsi_cli.cluster.crew import RayCrew
    from lmsi_cli.cluster.reaching import LOCAL, load_ray, reached
    from lmsi_cli.stages import sample as stage

    overwrite, quiet = how
    wish = _wish(settings)
    ray = load_ray(wish.address == LOCAL)
    with locked(run), watched(quiet, run) as progress:
        begun = settings if overwrite else stage.as_begun(run, settings)
        drawn_by = stage.drawn_by(settings.adapter, model.path)
        choice = form_of(model.path, settings)
        asking = ask(task, choice, settings, asked, None if overwrite else run)
        tied = {**identity(model, asking), **drawn_by}
        settled = msgspec.structs.replace(asking.config, kv=begun.kv, flash_attn=begun.flash_attn)
        with reached(wish) as room:
            job = _job(settled, model, room.threads, tied)
            with RayCrew(ray, job, room, wish, progress.say) as crew:
                crew.ready()
                if overwrite:  # only now: a model that does not load must not cost the old run
                    discard(run)
                stage.bind(run, _plain(asking.config), tied)
                keep(run, asking)
                return stage.spread(asked, crew, asking.task, asking.config, run, progress)


def _plain(settings: SampleConfig) -> SampleConfig:
    """The settings as one process would have them: a run does not depend on who draws it."""
    return msgspec.structs.replace(settings, cluster="", workers=0, worker_threads=0)


def _wish(settings: SampleConfig) -> Wish:
    from lmsi_cli.cluster.reaching import Wish

    threads = settings.worker_threads or settings.threads
    gpu = settings.gpu_layers not in ("none", 0)
    return Wish(settings.cluster, threads, settings.workers, gpu)


def _job(settings: SampleConfig, model: Model, threads: int, tied: dict[str, object]) -> Job:
    from lmsi_cli.cluster.wire import Job

    return Job(
        model=str(model.path.absolute()),
        model_sha256=str(tied["model_sha256"]),
        settings=msgspec.structs.replace(_plain(settings), threads=threads),
        adapter=str(tied.get("adapter", "")),
        adapter_sha256=str(tied.get("adapter_sha256", "")),
        adapter_scale=float(str(tied.get("adapter_scale", 1.0))),
        lmsi=version("lmsi"),
    )
