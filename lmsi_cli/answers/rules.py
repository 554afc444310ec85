"""The places that all kinds of answer look at, in the order in which they are told.

[r.name for r in rules(Rule("whole", anywhere, states=False))]
-> ["marker", "heading", "sentence", "boxed", "hash", "refusal", "whole"]
"""

from __future__ import annotations

import re

from lmsi_cli.answers.places import Rule, boxes, hashes
from lmsi_cli.answers.refusals import no_answer, refusal
from lmsi_cli.answers.sentences import markers
from lmsi_cli.answers.statements import headings, wordings

MARKER = Rule("marker", markers)
REFUSAL = Rule("refusal", refusal, states=False, find=lambda *_: None)
NO_ANSWER = Rule("no-answer", no_answer, states=False, find=lambda *_: None)


def rules(*likely: Rule, hashed: re.Pattern[str] | None = None) -> tuple[Rule, ...]:
    """What states an answer, then a refusal, then where else a kind's answer is likely to stand.

    Args:
        likely: The kind's own rules, in their order.
        hashed: Matches what an answer of the kind begins with behind hashes.
    """
    return (
        MARKER,
        Rule("heading", headings),
        Rule("sentence", wordings),
        Rule("boxed", boxes),
        Rule("hash", hashes(hashed)),
        REFUSAL,
        *likely,
    )
