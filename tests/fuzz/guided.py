"""Spoiled files again, with chance led by what code they reach: Google's atheris, by hand.

Atheris is no dependency (`pip install atheris`). What it finds worth keeping lies in a folder, and
is where the next call goes on from; an input that is a fault is written beside it by its name.

    PYTHONPATH=.:tests python tests/fuzz/guided.py template corpus/template -runs=20000
    PYTHONPATH=.:tests python tests/fuzz/guided.py template crash-0f3a...
"""

import os
import random
import sys
import tempfile
from pathlib import Path

import atheris

KINDS = ("questions", "tables", "model", "template")  # read in this process, by our own code


class Chance(random.Random):
    """Chance that is read from the bytes of an input; behind their end all are zero."""

    def __new__(cls, data):
        return super().__new__(cls)

    def __init__(self, data):
        super().__init__()
        self.given = atheris.FuzzedDataProvider(data)

    def getrandbits(self, k):
        return self.given.ConsumeIntInRange(0, (1 << k) - 1)

    def random(self):
        return self.getrandbits(32) / (1 << 32)


def main():
    """Feed a kind until the number of runs is over or a fault is found."""
    kind, corpus, *options = sys.argv[1:]
    assert kind in KINDS, f"one of {', '.join(KINDS)}"
    corpus = Path(corpus).resolve()
    if not corpus.is_file():
        corpus.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["lmsi_cli"]):
        import feeding
        import kinds
    place = Path(tempfile.mkdtemp(prefix="guided-"))
    os.chdir(place)
    target, writes = kinds.KINDS[kind](place), feeding.watched(place)

    def one(data):
        fault = feeding.outcome(target, Chance(data), 0, writes).fault
        assert not fault, fault

    prefix = f"-artifact_prefix={corpus.parent}/"
    lengths = ("-max_len=256", "-len_control=0")
    atheris.Setup([sys.argv[0], str(corpus), *lengths, prefix, *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
