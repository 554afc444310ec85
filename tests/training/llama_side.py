"""llama.cpp for the export tests: a model, and an adapter that can be switched on."""

from contextlib import contextmanager

from lmsi_cli.config import EngineConfig
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.training.verify import Sides, verify


class Llama(LlamaEngine):
    """The engine on one core, as the stages use it for a proof."""

    def __init__(self, gguf, adapter):
        super().__init__(gguf, EngineConfig(threads=1, fast_copy="off"))
        self.adapter = adapter and str(adapter)

    def logits(self, prompts, adapted):
        """Next-token logits, (prompts, vocabulary)."""
        self.use_adapter(self.adapter if adapted else None)
        return self.last_logits(prompts)


def proven(torch_logits, llama, ids):
    """The proof of a training."""
    ours, theirs = (
        Sides(logits(ids, False), logits(ids, True)) for logits in (torch_logits, llama.logits)
    )
    return verify(ours, theirs)


@contextmanager
def opened(gguf, adapter=None):
    with Llama(gguf, adapter) as llama:
        yield llama
