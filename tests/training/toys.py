"""A watcher of training that can interrupt it, as Ctrl-C does, and a short run's settings."""

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import checkpoint, original_weights
from lmsi_cli.training.loop import Job


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


def job(examples, out, watched=None, **config):
    """Twelve steps of four examples on the toy model, unless ``config`` says otherwise."""
    settings = TrainConfig(**{"lr": 0.02, "max_steps": 12, "batch_size": 4, "rank": 4, **config})
    start = original_weights.fingerprint(settings)
    name = checkpoint.fingerprint(None, examples, settings, start)
    return Job(examples, settings, "fp32", out, name, watched)


def losses(outcome):
    return [line.loss for line in outcome.log]
