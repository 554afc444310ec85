"""Which actors a crew hires, on a Ray that only keeps the books."""

import time

import msgspec
import pytest

from lmsi_cli.cluster import crew as module
from lmsi_cli.cluster.crew import RayCrew
from lmsi_cli.cluster.driving import Joined
from lmsi_cli.cluster.reaching import Room, Wish
from lmsi_cli.cluster.wire import Job, Ready, Report, Start, sent
from lmsi_cli.config import SampleConfig
from tests.stages.stage_helpers import TASK


class Actor:
    """Remembers what it was asked; each call is its own reference."""

    def __init__(self, ray):
        self.ray, self.jobs = ray, []
        ray.actors.append(self)

    def __getattr__(self, name):
        return type("Method", (), {"remote": lambda _, *args: self.called(name, args)})()

    def called(self, name, args):
        if name == "ready":
            self.jobs.append(msgspec.json.decode(args[0], type=Job))
        ref = (self, name)
        self.ray.open.append(ref)
        return ref


class Books:
    """What `RayCrew` uses of Ray."""

    class exceptions:
        RayError = RuntimeError

    def __init__(self, cpus):
        self.cpus, self.actors, self.killed, self.open, self.told = cpus, [], [], [], {}

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": float(c)}} for c in self.cpus]

    def remote(self, _):
        class Made:
            options = staticmethod(lambda **_: Made)
            remote = staticmethod(lambda: Actor(self))

        return Made

    def wait(self, refs, num_returns, timeout):
        return [r for r in refs if r in self.told][:num_returns], []

    def get(self, ref):
        return self.told[ref]

    def kill(self, actor, no_restart):
        self.killed.append(actor)

    def answer(self, name, record):
        """All open calls of a kind come back."""
        for ref in [r for r in self.open if r[1] == name]:
            self.open.remove(ref)
            self.told[ref] = sent(record)


JOB = Job(model="m.gguf", model_sha256="aa", settings=SampleConfig(), lmsi="1")


@pytest.fixture
def hours(monkeypatch):
    """A clock that the test moves."""
    now = [time.monotonic()]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def later(seconds):
        now[0] += seconds

    return later


def begun(cpus, wish=None, said=None):
    """A crew of which all have come."""
    ray = Books(cpus)
    crew = RayCrew(
        ray, JOB, Room(2, sum(c // 2 for c in cpus)), wish or Wish("auto"), said or print
    )
    ray.answer("ready", Ready(node="a"))
    crew.ready()
    crew.begin(Start(task=TASK, shown=(), paths=8))
    assert all(isinstance(e, Joined) for e in crew.events(0))
    return ray, crew


def test_a_machine_that_joins_is_used(hours):
    ray, crew = begun([2, 2])
    ray.cpus.append(4)
    assert crew.events(0) == [] and len(ray.actors) == 2  # it is not asked all the time
    hours(60)
    crew.events(0)
    assert len(ray.actors) == 4
    ray.answer("ready", Ready(node="b"))
    assert crew.events(0) == [Joined("3"), Joined("4")]
    hours(60)
    assert crew.events(0) == [] and len(ray.actors) == 4
    assert crew.room == Room(2, 4)


def test_no_more_than_were_asked_for(hours):
    ray, crew = begun([2, 2], Wish("auto", workers=3))
    ray.cpus.append(8)
    hours(60)
    crew.events(0)
    assert len(ray.actors) == 3


def test_a_machine_that_goes_costs_nobody_else_the_place(hours):
    ray, crew = begun([2, 2])
    ray.cpus.pop()
    hours(60)
    crew.events(0)
    assert len(ray.actors) == 2 and not ray.killed


def test_a_latecomer_that_cannot_work_is_not_hired_again(hours):
    said = []
    ray, crew = begun([2], said=said.append)
    ray.cpus.append(2)
    for _ in range(3):
        hours(60)
        crew.events(0)
        ray.answer("ready", Ready(node="b", error="m.gguf: no such file"))
        crew.events(0)
    assert len(ray.actors) == 2 and len(ray.killed) == 1
    assert said == ["worker 2: b: m.gguf: no such file; it is left out"]


def test_latecomers_draw_in_the_kind_of_cache_that_the_first_one_chose(hours):
    ray, crew = begun([2])
    crew.trade("1", [])
    ray.answer("trade", Report(settled={"kv": "split", "flash_attn": "on", "parallel": 8}))
    crew.events(0)
    ray.cpus.append(2)
    hours(60)
    crew.events(0)
    settings = ray.actors[-1].jobs[0].settings
    assert (settings.kv, settings.flash_attn, settings.parallel) == ("split", "on", 0)
