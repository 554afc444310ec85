"""A deterministic engine for tests: answers are looked up, not thought.

Knows nothing of models. Each question's script lists texts; path ``i`` says text ``i`` modulo
the list. Tokens are characters, so counts can be checked by eye.

    ScriptedEngine({"q1": [" The answer is 4.", " The answer is 5."]})
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lmsi_cli.config import SamplingConfig, Variables
from lmsi_cli.engine.base import (
    Encoded,
    Generated,
    Refusal,
    Request,
    Wanted,
    Watch,
)
from lmsi_cli.records import Prompt, StopReason

VOCABULARY = 256


class ScriptedEngine:
    """Speaks from a script; ``fail_after`` raises KeyboardInterrupt after that many paths."""

    def __init__(
        self,
        script: Mapping[str, Sequence[str]],
        fail_after: int | None = None,
    ) -> None:
        self.script, self.fail_after = script, fail_after
        self.adapter: str | None = None

    context = 4096

    @property
    def settled(self) -> dict[str, int | str]:
        return {}

    def pin(self, kind: Mapping[str, int | str]) -> None:
        """Nothing to choose."""

    def refusals(self) -> tuple[Refusal, ...]:
        """None: what does not fit is known before."""
        return ()

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_tail(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_prompt(self, prompt: Prompt, variables: Variables = ()) -> Encoded:
        """Bytes as ids; of a conversation, those of its contents."""
        text = prompt if isinstance(prompt, str) else "\n".join(m.content for m in prompt)
        return Encoded(self.encode(text))

    def use_adapter(self, path: str | None, scale: float = 1.0) -> None:
        self.adapter = path

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingConfig,
        trigger: str,
        watch: Watch | None = None,
    ) -> Iterator[Generated]:
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

    def _say(self, question_id: str, wanted: Wanted) -> Generated:
        texts = self.script[question_id]
        text = texts[wanted.path % len(texts)]
        reason: StopReason = "answer" if text.endswith(".") else "length"
        return Generated(question_id, wanted.path, wanted.seed, text, len(text), -1.0, reason)

    def last_logits(self, prompts: Iterable[Sequence[int]]) -> NDArray[np.float32]:
        return np.stack([np.eye(VOCABULARY, dtype=np.float32)[list(p)[-1]] for p in prompts])

    def close(self) -> None:
        """Nothing to give back."""
