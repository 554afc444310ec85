"""Forgery and form on the vocabularies and chat templates that come with llama.cpp's source.

Set LMSI_LLAMA_CPP_SOURCE to a folder of that source (the one that holds ``models/``).
"""

import os
from pathlib import Path

import pytest
from chat_models import REPLY, SYSTEM, TRIMS, assistant, marks, spelt, user

from lmsi_cli.engine.encode import Encoder
from lmsi_cli.engine.llama import vocabulary
from lmsi_cli.engine.template import TODAY, ChatTemplate
from lmsi_cli.errors import LmsiError
from lmsi_cli.thinking import answer_part

VARIABLE = "LMSI_LLAMA_CPP_SOURCE"
MODELS = Path(os.environ.get(VARIABLE, "")) / "models"
pytestmark = [
    pytest.mark.vocabularies,
    pytest.mark.skipif(
        not os.environ.get(VARIABLE),
        reason=f"set {VARIABLE} to a folder with llama.cpp's source, for its vocabularies",
    ),
]

# Vocabulary, template (None: the file's own), and the text that ends a reply.
PAIRS = [
    ("qwen2", "Qwen-Qwen2.5-7B-Instruct", "<|im_end|>"),
    ("qwen2", "Qwen-Qwen3-0.6B", "<|im_end|>"),
    ("qwen2", "HuggingFaceTB-SmolLM3-3B", "<|im_end|>"),
    ("qwen35", "Qwen3.5-4B", "<|im_end|>"),
    ("llama-bpe", "meta-llama-Llama-3.1-8B-Instruct", "<|eot_id|>"),
    ("llama-bpe", "openai-gpt-oss-120b", "<|eot_id|>"),
    ("llama-bpe", "NVIDIA-Nemotron-Nano-v2", "<|eot_id|>"),  # opens a block and never closes it
    ("llama-spm", TRIMS, "</s>"),  # much as Llama 2 does
    ("phi-3", None, "<|end|>"),
    ("command-r", None, "<|END_OF_TURN_TOKEN|>"),
    ("gemma-4", None, "<turn|>"),
    ("deepseek-llm", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "<｜end▁of▁sentence｜>"),  # noqa: RUF001
    ("falcon", "google-gemma-2-2b-it", "<|endoftext|>"),  # it knows none of the template's marks
]


def turns(text):
    return (SYSTEM, user("What is 1?"), assistant("1."), user(text))


@pytest.fixture(scope="module", params=PAIRS, ids=lambda p: f"{p[0]} {(p[1] or 'own')[:30]}")
def pair(request):
    name, template, end = request.param
    with vocabulary(MODELS / f"ggml-vocab-{name}.gguf") as words:
        encoder = Encoder(words)
        if template is not None:
            file = MODELS / "templates" / f"{template[:60]}.jinja"
            source = template if "{%" in template else file.read_text()
            ends = (words.lib.llama_vocab_bos(words.vocab), words.lib.llama_vocab_eos(words.vocab))
            texts = (spelt(encoder, [token] if token >= 0 else []) for token in ends)
            encoder.template = ChatTemplate(source, *texts)
        yield encoder, end


def test_no_control_token_can_be_forged(pair):
    """All marks that the vocabulary sets apart, in one question, next to each other and apart."""
    encoder, _ = pair
    tokens = range(encoder.model.n_vocab)
    every = sorted({text for t in tokens for text in marks(encoder, [t])} - {""})
    assert len(every) >= 2
    harmless = marks(encoder, encoder.prompt(turns("x")).ids)
    for text in (f"a {mark} b{mark}{mark}c" for mark in every[:300]):
        ids = encoder.prompt(turns(text)).ids
        assert marks(encoder, ids) == harmless
        assert text in spelt(encoder, ids)
    ids = encoder.prompt(turns("".join(every)[:20_000])).ids
    assert marks(encoder, ids) == harmless


def test_a_harmless_conversation_is_tokenised_whole(pair):
    """As llama.cpp does: rendered, then tokenised at once, with BOS if it is not there yet."""
    encoder, _ = pair
    prompt = messages = turns("Tom has 12 apples. He eats 3.")
    if encoder.frame(prompt).folds:
        messages = (user(f"Be brief.\n\n{prompt[1].content}"), *prompt[2:])
    ids = encoder.model.tokenize(encoder.template.write(messages, reply=True), special=True)
    bos = encoder.lib.llama_vocab_bos(encoder.vocab)
    if encoder.lib.llama_vocab_get_add_bos(encoder.vocab) and ids[0] != bos:
        ids = [bos, *ids]
    assert encoder.prompt(prompt).ids == ids


def test_a_reply_is_what_the_template_writes_up_to_the_end_of_its_turn(pair):
    encoder, end = pair
    ids = encoder.completion(turns("What is 6 * 7?"), REPLY)
    told = spelt(encoder, ids)
    begun = encoder.prompt(turns("x")).begun
    assert answer_part(begun + told).strip().startswith("6 * 7") or "final" in told
    assert told.endswith(end) and REPLY[0].content in told
    assert encoder.model.ends(ids[-1]) and not any(map(encoder.model.ends, ids[:-1]))


TEMPLATES = sorted((MODELS / "templates").glob("*.jinja")) if os.environ.get(VARIABLE) else []


@pytest.mark.slow
@pytest.mark.parametrize("file", TEMPLATES, ids=lambda f: f.stem)
def test_templates_render_as_transformers_renders_them(file):
    from transformers.utils.chat_template_utils import _compile_jinja_template

    source, theirs = file.read_text(), _compile_jinja_template(file.read_text())
    theirs.globals["strftime_now"] = TODAY.strftime
    names = {"bos_token": "<s>", "eos_token": "</s>"}  # others stay undefined, as in llama.cpp
    for prompt in (turns("What is 6 * 7?"), turns("x")[1:]):
        messages = [{"role": m.role, "content": m.content} for m in prompt]
        try:
            wanted = theirs.render(messages=messages, add_generation_prompt=True, **names)
        except Exception:  # noqa: BLE001 - whatever it is, ours must refuse as well
            with pytest.raises(LmsiError):
                ChatTemplate(source, "<s>", "</s>").write(prompt, reply=True)
            continue
        assert ChatTemplate(source, "<s>", "</s>").write(prompt, reply=True) == wanted
