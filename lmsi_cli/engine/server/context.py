"""Requests that do not fit a server's context: whether the prompt is too long, or what is asked.

Knows what servers say and what they count; sends nothing. Some count ``max_tokens`` into the
context, so that a short prompt is refused for a long path that may never be written:

    limit_in("maximum context length is 600 tokens. However, you requested 700", 56, 700) -> 600
    too_many(600, 56, 700) -> LmsiError("--max-tokens 700 does not fit the server's context ...")
"""

from __future__ import annotations

import re

from lmsi_cli.errors import LmsiError

TOO_LONG = re.compile(
    r"context.?(length|window|size)|exceed_context|exceeds? the (available )?context"
    r"|maximum context|longer than the (model's )?(maximum|context)"
    r"|max_(completion_|new_)?tokens\W.{0,60}(too large|must be <=|at most|exceed)",
    re.IGNORECASE,
)


def limit_in(told: str, prompt: int, wanted: int) -> int | None:
    """Find the context's length in a refusal, however that is worded.

    It alone is more than the prompt, less than both together, and not what was wanted. Lengths are
    in tokens; the prompt alone was not refused.
    """
    numbers = {int(n) for n in re.findall(r"(?<![\d.])\d{1,9}(?![\d.]*\d)", told)} - {wanted}
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
