"""llama.cpp for the export tests, straight on its C interface: the engine is another layer's."""

import ctypes
from contextlib import contextmanager

import llama_cpp as c  # noqa: TID253 - imported inside the tests that need it
import numpy as np

from lmsi_cli.training.verify import Sides, verify


class Llama:
    """A loaded model with an adapter that can be switched on."""

    def __init__(self, model, context, adapter):
        self.model, self.context, self.adapter = model, context, adapter
        self.vocab = c.llama_model_get_vocab(model)

    def encode(self, text):
        raw = text.encode()
        ids = (c.llama_token * (len(raw) + 2))()
        return ids[: c.llama_tokenize(self.vocab, raw, len(raw), ids, len(ids), True, False)]

    def logits(self, prompts, adapted):
        """Next-token logits, (prompts, vocabulary)."""
        one = (c.llama_adapter_lora_p_ctypes * 1)(self.adapter), 1, (ctypes.c_float * 1)(1.0)
        c.llama_set_adapters_lora(self.context, *(one if adapted else (None, 0, None)))
        return np.stack([self._last(ids) for ids in prompts])

    def _last(self, ids):
        c.llama_memory_clear(c.llama_get_memory(self.context), True)
        tokens = (c.llama_token * len(ids))(*ids)  # the batch only points to it
        assert c.llama_decode(self.context, c.llama_batch_get_one(tokens, len(ids))) == 0
        size = c.llama_vocab_n_tokens(self.vocab)
        return np.ctypeslib.as_array(c.llama_get_logits_ith(self.context, -1), (size,)).copy()


def proven(torch_logits, llama, ids):
    """The proof of a training, with llama.cpp straight on its C interface."""
    ours, theirs = (
        Sides(logits(ids, False), logits(ids, True)) for logits in (torch_logits, llama.logits)
    )
    return verify(ours, theirs)


@contextmanager
def opened(gguf, adapter=None):
    c.llama_log_set(SILENT, ctypes.c_void_p(0))
    settings = c.llama_model_default_params()
    settings.use_extra_bufts = False  # AMX: some builds crash on quantised weights
    model = c.llama_model_load_from_file(str(gguf).encode(), settings)
    assert model, gguf
    shape = c.llama_context_default_params()
    shape.n_ctx = shape.n_batch = 512
    context = c.llama_init_from_model(model, shape)
    lora = c.llama_adapter_lora_init(model, str(adapter).encode()) if adapter else None
    assert lora or not adapter, f"llama.cpp refuses {adapter}"
    yield Llama(model, context, lora)
    c.llama_free(context)
    c.llama_model_free(model)  # and its adapters


SILENT = c.llama_log_callback(lambda *_: None)
