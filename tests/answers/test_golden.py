"""Golden cases as data: what is read of a text, by which rule, and where it stands."""

import json
from pathlib import Path

import pytest

from lmsi_cli.answers import KINDS, Asked, canonical, explain, extract
from lmsi_cli.thinking import answer_part

DATA = Path(__file__).parent / "data"
TRIGGER = "The answer is"


def records(name):
    return json.loads((DATA / f"{name}.json").read_text())


REPLIES = [  # as instruct models write them; which rule reads them is open
    {**group, "text": text, "source": f"{group['about']} {n}"}
    for group in records("replies")
    for n, text in enumerate(group["texts"])
]
CASES = [*records("answers"), *records("kinds"), *REPLIES]


def asked_of(case):
    if case["kind"] == "latex":
        pytest.importorskip("math_verify", reason="answers in LaTeX need the extra `latex`")
    choices = tuple(case.get("choices", ()))
    return Asked(choices, case.get("percent", False), case.get("question", ""))


@pytest.mark.parametrize("case", CASES, ids=[case["source"] for case in CASES])
def test_golden(case):
    asked, kind = asked_of(case), case["kind"]
    text = answer_part(case["text"])  # a block of thinking is no part of the answer
    found = extract(text, kind, asked=asked)
    rule = found and found.rule
    assert (found and found.value, rule) == (case["expected"], case.get("rule", rule))
    steps = explain(text, kind, asked=asked)
    rules = KINDS[kind].stating + KINDS[kind].likely
    assert [s.rule for s in steps] == ["contradiction", *(r.name for r in rules)]
    assert [s.found for s in steps if s.fired] in ([found], [] if found is None else [found])
    if found:
        assert text[found.start : found.end] == found.raw
        assert kind == "text" or not found.raw.endswith((" ", "."))
        assert canonical(found.raw, kind, asked) == found.value

    if case["expected"] is not None and kind not in ("text", "latex"):
        # a vote's winner is written into training sentences and read back by later rounds
        again = extract(f"{TRIGGER} {case['expected']}.", kind, asked=asked)
        assert again and again.value == case["expected"]
