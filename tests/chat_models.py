"""Chat models for the tests: the embedded model with a chat template and the marks it writes.

Not one of them was trained to talk. What the tests look at are ids, files and rules, and for those
a vocabulary with control tokens and a template are enough. The templates are small ones of our
own, each with a habit of the templates in the field.
"""

import gguf
from broken_models import copied, finish

from lmsi_cli.records import Message

# Rare words of the embedded vocabulary make room for these: control tokens, and two words that a
# vocabulary sets apart without calling them control tokens, as files in the field do.
CONTROL = ("<|im_start|>", "<|im_end|>", "<s>", "</s>")
APART = ("<think>", "</think>")

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKS = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
THINKS_ON = THINKS.replace(
    "\n{{ m.content }}", "\n{{ '<think>\n' if m.role == 'assistant' }}{{ m.content }}"
)
# Writes BOS itself, trims, wants alternating roles, has no system role, and ends turns with EOS.
TRIMS = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
DROPS = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
REFUSES = "{{ raise_exception('only tools') }}"
# Listens to /no_think in the system text, as SmolLM3's does: the words go, the mode is named, and
# the reply begins behind an empty block.
OFF = "{{ '<think>\\n\\n</think>\\n' }}"
LISTENS = (
    "{% set words = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% set mode = '/no_think' if '/no_think' in words else '/think' %}"
    "<|im_start|>system\nMode: {{ mode }}\n"
    "{{ words | replace('/no_think', '') | trim }}<|im_end|>\n"
    "{% for m in messages if m.role != 'system' %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if mode == '/no_think' %}" + OFF + "{% endif %}{% endif %}"
)
# Listens to the words in any message, as Nemotron's does; without a system role, too.
LISTENS_TO_ALL = (
    "{% set talk = namespace(off=false) %}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if '/no_think' in m.content %}{% set talk.off = true %}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content | replace('/no_think', '') | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if talk.off %}{{ '<think></think>' }}{% else %}{{ '<think>\\n' }}{% endif %}{% endif %}"
)
# The same, but all that it writes of the mode is ordinary text.
NAMES_THE_MODE = LISTENS_TO_ALL.replace("'<think></think>'", "'Brief: '").replace(
    "'<think>\\n'", "'Let me think: '"
)
# Hears a variable alone, as Qwen3.5's does.
SWITCH = CHATML.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and enable_thinking is false %}"
    + OFF
    + "{% elif enable_thinking is defined and enable_thinking is not true %}"
    "{{ raise_exception('true or false') }}{% else %}{{ '<think>\\n' }}{% endif %}{% endif %}",
)
# Writes nothing of a content that is a text, as SmolVLM's does.
LISTS = CHATML.replace(
    "{{ m.content }}",
    "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}",
)
BROKEN = "{% for m in messages %}"


def chat_model(source, target, template, apart=gguf.TokenType.USER_DEFINED, control=()):
    """Copy the embedded model's first block under a chat template; BOS is wanted and is ``<s>``.

    It asks for EOS behind texts, too, as some files do, and some make the thinking marks, which
    are set ``apart``, control tokens. So are those of its own words that are named in ``control``.
    """
    reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(target, "llama")
    words = list(reader.fields["tokenizer.ggml.tokens"].contents())
    types = list(reader.fields["tokenizer.ggml.token_type"].contents())
    for i, word in enumerate((*CONTROL, *APART), len(words) - len(CONTROL) - len(APART)):
        kind = gguf.TokenType.CONTROL if word in CONTROL else apart
        words[i], types[i] = word, int(kind)
    for word in control:
        types[words.index(word)] = int(gguf.TokenType.CONTROL)
    own = {"tokenizer.ggml.tokens": words, "tokenizer.ggml.token_type": types}
    ends = [f"tokenizer.ggml.{x}" for x in ("add_bos", "bos_token_id", "eos_token_id")]
    copied(reader, writer, 1, own=own, skipped=ends)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_bos_token_id(words.index("<s>"))
    writer.add_eos_token_id(words.index("</s>"))
    writer.add_chat_template(template)
    return finish(writer, target)


# -- conversations, and what ids spell ---------------------------------------------------------


def user(text):
    return Message(role="user", content=text)


def assistant(text):
    return Message(role="assistant", content=text)


SYSTEM = Message(role="system", content="Be brief.")
REPLY = (assistant("6 * 7 = 42. The answer is 42."),)


def marks(encoder, ids):
    return [text for text, mark in encoder.runs(ids) if mark]


def spelt(encoder, ids):
    return "".join(text for text, _ in encoder.runs(ids))
