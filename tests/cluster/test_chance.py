"""Whatever the order of results, deaths, copies and duplicates: each path is kept once, or named.

Workers here draw a path at a time, stand still, die, are told of twice, refuse, and stop early.
"""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from lmsi_cli.stopping import Decision, Stop
from tests.cluster.giving import all_blocks, dispatcher, items_of, keys_of

STOP = Stop("window", 2)


class Fleet:
    """Workers of a dispatcher, moved on by chance; ``kept`` is what a driver would have written.

    With ``stop`` a worker is told the kept ballots of a question when it gets it, and leaves it
    when these and its own decide; what a path says may depend on who draws it.
    """

    def __init__(self, counts, seed, stop=False, refusing=(), deadly=(), **sizing):
        self.chance, self.items = random.Random(seed), items_of(*counts)
        self.dispatch = dispatcher(self.items, **sizing)
        self.stop, self.refusing, self.deadly = stop, set(refusing), set(deadly)
        self.now, self.hired, self.deaths = 0.0, 0, 0
        self.work, self.said, self.views = {}, [], {}
        self.kept, self.cast, self.refused, self.stopped = [], {}, set(), 0
        for _ in range(3):
            self.hire()

    def hire(self):
        worker = f"w{self.hired}"
        self.hired += 1
        self.dispatch.join(worker, self.now)
        self.work[worker] = {}

    def hear(self, worker, key, says):
        if self.dispatch.result(worker, *key):
            self.kept.append(key)
            self.cast[key] = says

    def told(self, question):
        return [(p, says) for (q, p), says in self.cast.items() if q == question]

    def ask(self, worker):
        for block in all_blocks(self.dispatch, worker, self.now):
            keys = [(i.question_id, p) for i in block.items for p in i.paths]
            if not self.stop:
                self.chance.shuffle(keys)
            self.work[worker][block.number] = keys
            for item in block.items:
                assert self.dispatch.open(item.question_id)
                decision = self.views[worker, item.question_id] = Decision(STOP)
                for path, says in self.told(item.question_id):
                    decision.tell(path, says)

    def die(self, worker):
        held = self.work.pop(worker)
        self.said += [(worker, k, "?") for keys in held.values() for k in keys[:2]]
        self.dispatch.died(worker, self.now)
        self.deaths += 1
        self.hire()

    def draw(self, worker):
        """One path of the oldest block, or its end."""
        number = min(self.work[worker])
        keys = self.work[worker][number]
        if not keys:
            del self.work[worker][number]
            self.stopped += self.dispatch.ended(worker, number, self.now)
            return
        key = keys.pop(0)
        if key[0] in self.deadly:
            self.die(worker)
        elif key[0] in self.refusing:
            self.refused |= {key[0]} if self.dispatch.refused(key[0]) else set()
            keys[:] = [k for k in keys if k[0] != key[0]]
        else:
            self.tell(worker, key, keys)

    def tell(self, worker, key, keys):
        says = self.chance.choice("ab")
        view = self.views[worker, key[0]]
        view.tell(key[1], says)
        if self.stop and view.after is not None:
            keys[:] = [k for k in keys if k[0] != key[0]]
        self.said.append((worker, key, says))
        self.hear(worker, key, says)

    def run(self, mortality=0.0, echo=0.0, still=0.0):
        for _ in range(20_000):
            if self.dispatch.done:
                return
            self.now += self.chance.random()
            worker = self.chance.choice(list(self.work))
            self.ask(worker)
            if self.chance.random() < mortality:
                self.die(worker)
            elif self.work[worker] and self.chance.random() >= still:
                self.draw(worker)
            if self.said and self.chance.random() < echo:
                self.hear(*self.chance.choice(self.said))
            assert self.dispatch.open_paths >= 0
        raise AssertionError("it does not come to an end")

    def check_left(self):
        d = self.dispatch
        assert d.open_paths == 0 and d.waiting == 0
        assert not d._opened._left and not d._opened._holders and not d._opened._marks
        assert len(self.kept) == len(set(self.kept))

    def spared(self):
        """Keys that are neither kept nor named."""
        gone = keys_of(self.dispatch.set_apart) | set(self.kept)
        return {k for k in keys_of(self.items) - gone if k[0] not in self.refused}


COUNTS = st.lists(st.integers(1, 6), min_size=1, max_size=40)
SEED = st.integers(0, 2**32)
MORTALITY, ECHO, STILL = st.floats(0, 0.1), st.floats(0, 0.5), st.floats(0, 0.9)
CHANCES = st.fixed_dictionaries({"mortality": MORTALITY, "echo": ECHO, "still": STILL})
SIZES = st.fixed_dictionaries(
    {"first": st.integers(1, 30), "shortest": st.sampled_from([0.1, 2.0])}
)


@settings(max_examples=200, deadline=None)
@given(counts=COUNTS, seed=SEED, chances=CHANCES, sizes=SIZES)
def test_everything_once(counts, seed, chances, sizes):
    """Paths in any order, late and twice, workers that die with some of them under way."""
    fleet = Fleet(counts, seed, **sizes)
    fleet.run(**chances)
    fleet.check_left()
    assert not fleet.spared() and not fleet.stopped
    assert not set(fleet.kept) & keys_of(fleet.dispatch.set_apart)


@settings(max_examples=100, deadline=None)
@given(counts=COUNTS, seed=SEED, which=st.sets(st.integers(0, 39), max_size=3), sizes=SIZES)
def test_what_kills_or_is_refused_is_named_and_nothing_else(counts, seed, which, sizes):
    names = [f"q{i}" for i in sorted(which) if i < len(counts)]
    fleet = Fleet(counts, seed, False, names[:1], names[1:], **sizes)
    fleet.run(0.0, 0.2, 0.3)
    fleet.check_left()
    assert not fleet.spared()
    assert {i.question_id for i in fleet.dispatch.set_apart} == set(names[1:])
    assert fleet.refused == set(names[:1])
    assert fleet.deaths <= 14 * len(names[1:])


@settings(max_examples=200, deadline=None)
@given(counts=COUNTS, seed=SEED, chances=CHANCES, sizes=SIZES)
def test_a_question_without_all_paths_is_decided_by_those_that_are_kept(
    counts, seed, chances, sizes
):
    fleet = Fleet(counts, seed, stop=True, **sizes)
    fleet.run(**{**chances, "echo": 0.0})
    fleet.check_left()
    short = {q for q, _ in fleet.spared()} - {i.question_id for i in fleet.dispatch.set_apart}
    assert len(short) == fleet.stopped
    for question in short:
        decision = Decision(STOP)
        for path, says in fleet.told(question):
            decision.tell(path, says)
        assert decision.after is not None
