"""A deterministic engine for tests: answers are looked up, not thought.

Knows nothing of models. Each question's script lists texts; path ``i`` says text ``i`` modulo
the list. Tokens are characters, so counts can be checked by eye.

    ScriptedEngine({"q1": [" The answer is 4.", " The answer is 5."]})
"""

from lmsi_cli.engine.base import Encoded, Engine, Generated


class ScriptedEngine(Engine):
    """Speaks from a script; ``fail_after`` raises KeyboardInterrupt after that many paths."""

    context = 4096
    settled = {}  # noqa: RUF012 - never changed

    def __init__(self, script, fail_after=None):
        self.script, self.fail_after, self.adapter = script, fail_after, None

    def encode_prompt(self, prompt, variables=()):
        """Bytes as ids; of a conversation, those of its contents."""
        text = prompt if isinstance(prompt, str) else "\n".join(m.content for m in prompt)
        return Encoded(list(text.encode()))

    def use_adapter(self, path, scale=1.0):
        self.adapter = path

    def generate(self, requests, sampling, trigger, watch=None):
        """Yield the scripted texts in order; the path after the speaking one is a token long."""
        done = 0
        for request in requests:
            for place, wanted in enumerate(request.wanted):
                if self.fail_after is not None and done >= self.fail_after:
                    raise KeyboardInterrupt
                yield self._say(request.question_id, wanted)
                done += 1
                if watch is not None and watch.decided(request.question_id):
                    for beside in request.wanted[place + 1 : place + 2]:
                        watch.cancelled(request.question_id, beside.path, 1)
                    break

    def _say(self, question_id, wanted):
        texts = self.script[question_id]
        text = texts[wanted.path % len(texts)]
        reason = "answer" if text.endswith(".") else "length"
        return Generated(question_id, wanted.path, wanted.seed, text, len(text), -1.0, reason)
