"""What a server takes and gives: learnt from its replies and refusals, as long as an engine lives.

Knows requests and replies, not questions. How many paths come of one request is counted, whatever
the server promises. A field that a refusal names is left out from there on, and that is said. For
the run folder:

    {"per_request": 1, "seeds": "sent", "logprobs": "told", "not_taken": "top_k, min_p"}
"""

from __future__ import annotations

import logging
from typing import Any

from lmsi_cli.engine.server.client import RefusedError
from lmsi_cli.engine.server.reply_checks import TOO_LONG
from lmsi_cli.engine.server.wire import ALL, EXTRA, LOGPROBS, OPTIONAL, Ask, Reply, named

LOG = logging.getLogger(__name__)
NEW_LIMIT = "max_completion_tokens"  # OpenAI's newer name for max_tokens


class Capabilities:
    """What one server, asked in one form (plain text or messages), takes and gives."""

    def __init__(self, per_request: int) -> None:
        self.most = per_request or ALL  # paths in one request
        self.dropped: set[str] = set()  # fields that it does not take
        self.limit = "max_tokens"  # what it calls the length of a path
        self.logprobs: bool | None = None
        self.proven = False  # whether it has answered

    def settings(self) -> dict[str, int | str]:
        """For the run folder."""
        found: dict[str, int | str] = {
            "seeds": "sent" if self.most == 1 and "seed" not in self.dropped else "not sent",
            "logprobs": "told" if self.logprobs else "not told",
            "per_request": "all" if self.most == ALL else self.most,
        }
        if self.dropped:
            found["not_taken"] = ", ".join(f for f in OPTIONAL if f in self.dropped)
        return found

    def answered(self, ask: Ask, reply: Reply) -> None:
        """Learn from a reply."""
        self.proven = True
        self.logprobs = any(c.logprobs and c.logprobs.each for c in reply.choices)
        if len(reply.choices) < ask.n:
            self.most = min(self.most, len(reply.choices))

    def remedy(self, refused: RefusedError, ask: Ask, body: dict[str, Any]) -> bool:
        """Learn from a refusal; say whether the same request, written anew, may do better.

        A request that is too long has no remedy, and its complaint may name other fields.
        """
        if TOO_LONG.search(refused.reason):
            return False
        if NEW_LIMIT in refused.reason and self.limit != NEW_LIMIT:
            self.limit = NEW_LIMIT
            return True
        drop = named(refused.reason, body)
        if not drop and ask.n > 1:
            self.most = ask.n // 2
            return True
        if not drop and not self.proven:  # it does not say what it dislikes
            drop = {f for f in EXTRA if f in body}
        self.drop(drop, refused.reason)
        return bool(drop)

    def drop(self, fields: set[str], reason: str) -> None:
        """Leave fields out from now on, and say so once."""
        new = fields - self.dropped
        if not new:
            return
        self.dropped |= new
        lost = ", so paths have no log-probabilities" if new & LOGPROBS else ""
        LOG.warning(
            "note: the server does not take %s%s (%s)", ", ".join(sorted(new)), lost, reason
        )
