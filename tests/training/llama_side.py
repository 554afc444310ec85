"""llama.cpp for the tests of training: a model, and an adapter that can be switched on."""

from lmsi_cli.config import EngineConfig
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.training.verify import Sides, verify


class Llama(LlamaEngine):
    """The engine on one core, as the stages use it for a proof."""

    def __init__(self, gguf, adapter=None):
        super().__init__(gguf, EngineConfig(threads=1, fast_copy="off"))
        self.adapter = adapter and str(adapter)

    def logits(self, prompts, adapted=False):
        """Next-token logits, (prompts, vocabulary)."""
        self.use_adapter(self.adapter if adapted else None)
        return self.last_logits(prompts)


def proven(torch_logits, llama, ids):
    """The proof of a training."""
    ours = Sides(torch_logits(ids, False), torch_logits(ids, True))
    return verify(ours, Sides(llama.logits(ids), llama.logits(ids, True)))
