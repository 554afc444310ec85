"""Replies and refusals that mean more than they say: told once, or with the flag that helps.

Knows prompts, replies and what servers write when a context is too short; sends nothing and changes
no path. Looked for in valid replies: a ``finish_reason`` that nobody knows, thoughts without an
answer, and prompts that the server cut before the model saw them:

    checks = ReplyChecks(client.said)
    checks.look(ask, reply)      # warns where there is something to say
    checks.close()               # says how many replies held only thoughts

Some servers count ``max_tokens`` into the context, so that a short prompt is refused for a long
path that may never be written:

    limit_in("maximum context length is 600 tokens. However, you requested 700", 56, 700) -> 600
    too_many(600, 56, 700) -> LmsiError("--max-tokens 700 does not fit the server's context ...")
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from lmsi_cli.engine.server.truncate import CUT_OFF, ENDED, reason_of
from lmsi_cli.engine.server.wire import Ask, Choice, Reply
from lmsi_cli.errors import LmsiError

LOG = logging.getLogger(__name__)
LETTERS = 200  # more letters are more tokens; fewer may be as many
LETTERS_PER_TOKEN = 8  # some four in most languages; more only in tables and rulers
FEWEST = 32  # tokens; no context is shorter, but a count may leave out what was in a cache
REASONING = (
    "such paths do not vote; set the server's reasoning format (llama-server: --reasoning-format "
    "none, vLLM: no --reasoning-parser)"
)
CONTEXT = (
    "it seems to cut prompts to its context and to drop their beginning; give it a longer one "
    "(Ollama: OLLAMA_CONTEXT_LENGTH=16384)"
)
TOO_LONG = re.compile(
    r"context.?(length|window|size)|exceed_context|exceeds? the (available )?context"
    r"|maximum context|longer than the (model's )?(maximum|context)"
    r"|max_(completion_|new_)?tokens\W.{0,60}(too large|must be <=|at most|exceed)",
    re.IGNORECASE,
)


class ReplyChecks:
    """Looks at each reply of one server; ``said`` makes words of it fit to be shown."""

    def __init__(self, said: Callable[[str], str]) -> None:
        self.said = said
        self.replies = self.only_thoughts = 0
        self._subjects: set[str] = set()
        self._letters: dict[int, tuple[int, int]] = {}  # of prompts, by their tokens: least, most

    def look(self, ask: Ask, reply: Reply) -> None:
        """Check a reply to a request for whole paths."""
        self._look_at_prompt(ask.letters, reply.prompt_tokens)
        for choice in reply.choices:
            self._look_at_path(choice)

    def close(self) -> None:
        """Say what all replies together were."""
        if self.only_thoughts:
            share = f"{self.only_thoughts} of {self.replies} replies hold thoughts only"
            LOG.warning("note: %s; %s", share, REASONING)

    def _look_at_path(self, choice: Choice) -> None:
        reason = reason_of(choice)
        if reason not in ENDED + CUT_OFF:
            problem = f"the server gives {self.said(reason)!r} as finish_reason, which is not known"
            self._tell("reason", f"{problem}: such a path votes only where it states its answer")
        self.replies += 1
        if choice.only_thoughts and reason not in CUT_OFF:
            self.only_thoughts += 1
            self._tell("thoughts", f"a reply holds thoughts only and no answer; {REASONING}")

    def _look_at_prompt(self, letters: int, tokens: int) -> None:
        if tokens < FEWEST:
            return
        least, most = self._letters.get(tokens, (letters, letters))
        least, most = self._letters[tokens] = min(least, letters), max(most, letters)
        if most - least >= LETTERS or letters > LETTERS_PER_TOKEN * tokens:
            prompts = f"a prompt of {most}" if most == least else f"prompts of {least} and {most}"
            problem = f"the server counts {tokens} tokens in {prompts} letters"
            self._tell("context", f"{problem}: {CONTEXT}")

    def _tell(self, subject: str, sentence: str) -> None:
        """Say something on a subject, once."""
        if subject not in self._subjects:
            self._subjects.add(subject)
            LOG.warning("note: %s", sentence)


def limit_in(refusal: str, prompt: int, wanted: int) -> int | None:
    """Find the context's length in a refusal, however that is worded.

    It alone is more than the prompt, less than both together, and not what was wanted. Lengths are
    in tokens; the prompt alone was not refused.
    """
    numbers = {int(n) for n in re.findall(r"(?<![\d.])\d{1,9}(?![\d.]*\d)", refusal)} - {wanted}
    return min((n for n in numbers if prompt < n < prompt + wanted), default=None)


def too_many(context: int | None, prompt: int, wanted: int) -> LmsiError | None:
    """What to say of ``--max-tokens`` if it does not fit beside a prompt; None if it may.

    A context that the prompt itself does not fit was told wrongly, for the prompt was taken.
    """
    if context is None or not prompt < context < prompt + wanted:
        return None
    beside = f" beside the shortest prompt, of {prompt}" if prompt else ""
    return LmsiError(
        f"--max-tokens {wanted} does not fit the server's context of {context} tokens",
        hint=f"--max-tokens {context - prompt} is the most{beside}",
    )
