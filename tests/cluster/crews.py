"""A crew of threads with scripted engines: what a cluster does, without a cluster."""

import threading
import time

import msgspec

from lmsi_cli.cluster.driving import Died, Joined, Told
from lmsi_cli.cluster.wire import Order, Report, Start, sent
from lmsi_cli.cluster.worker import Worker
from lmsi_cli.engine.scripted import ScriptedEngine


class Slow(ScriptedEngine):
    """Takes a moment for each path, and dies as the test says."""

    def __init__(self, script, deadly=(), seconds=0.0):
        super().__init__(script)
        self.deadly, self.seconds, self.dead = set(deadly), seconds, threading.Event()

    def generate(self, requests, sampling, trigger, watch=None):
        for g in super().generate(requests, sampling, trigger, watch):
            time.sleep(self.seconds)
            if g.question_id in self.deadly:
                self.dead.set()
            if self.dead.is_set():
                threading.Event().wait()  # a dead process says no more
            yield g


class ThreadCrew:
    """Workers of this process; everything travels as bytes, as it does between machines."""

    def __init__(self, script, config, workers=3, deadly=(), kill_after=None, seconds=0.0):
        self.script, self.config, self.deadly, self.seconds = script, config, deadly, seconds
        self.kill_after, self.heard = kill_after, 0
        self.workers, self.started, self.asked = {}, 0, {}
        self.wanted, self.most = workers, 0

    def begin(self, start):
        self.start_ = msgspec.json.decode(sent(start), type=Start)

    def part_of(self, paths):
        return paths

    def _hire(self):
        self.started += 1
        name = f"w{self.started}"
        engine = Slow(self.script, self.deadly, self.seconds)
        self.workers[name] = Worker(engine, self.config)
        self.workers[name].start(self.start_)
        return Joined(name)

    def events(self, seconds):
        found = [self._hire() for _ in range(self.wanted - len(self.workers))]
        for name, orders in list(self.asked.items()):
            del self.asked[name]
            if self.workers[name].engine.dead.is_set() or self._doomed():
                self.workers[name].engine.dead.set()
                del self.workers[name]
                found.append(Died(name, "killed by the test"))
                continue
            report = self.workers[name].trade(orders, 0.02, 0.005)
            self.heard += len(report.paths)
            found.append(Told(name, msgspec.json.decode(sent(report), type=Report)))
        return found

    def _doomed(self):
        if self.kill_after is None or self.heard < self.kill_after:
            return False
        self.kill_after = None
        return True

    def trade(self, worker, orders):
        self.asked[worker] = [msgspec.json.decode(sent(o), type=Order) for o in orders]
