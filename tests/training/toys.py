"""A watcher of training that can interrupt it, as Ctrl-C does."""


class Watcher:
    """A Progress that keeps what it is told; ``until`` interrupts after that many steps."""

    def __init__(self, until=None):
        self.until, self.said, self.steps = until, [], []

    def start(self, label, total):
        self.total = total

    def advance(self, done, **figures):
        self.steps.append((done, figures))
        if done == self.until:
            raise KeyboardInterrupt

    def say(self, text):
        self.said.append(text)
