r"""Bring published question sets to our own fields: question, passage, answer, id and family.

Knows each set's layout as its authors publish it and, where that differs, as the Hugging Face hub
has it. Knows no files. Options are written one a line, so that the answer reader finds them again:

    AQuA {"question": "What is 2 + 2?", "options": ["A)3", "B)4"], "correct": "B", ...}
    -> {"question": "What is 2 + 2?\n(A) 3\n(B) 4", "answer": "B"}

Sources of the layouts: github.com/openai/grade-school-math, arkilpatel/SVAMP, google-deepmind/AQuA,
eladsegal/strategyqa, allenai (OpenBookQA, ARC, DROP), SuperGLUE and GLUE (RTE), MultiNLI 1.0,
facebookresearch/anli, hendrycks/math, google-research-datasets/boolean-questions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from string import ascii_uppercase
from typing import Any

from lmsi_cli.answers import canonical
from lmsi_cli.answers.places import in_box
from lmsi_cli.answers.yesno import UNKNOWN
from lmsi_cli.errors import LmsiError
from lmsi_cli.tasks.entries import Row

Fields = dict[str, Any]
Layout = Callable[[Fields], Iterable[Fields]]
_NLI = {
    **dict.fromkeys(("entailment", "e", "0", "true"), "yes"),
    **dict.fromkeys(("neutral", "n", "1"), UNKNOWN),
    **dict.fromkeys(("contradiction", "c", "2"), "no"),
}
_RTE = {
    **dict.fromkeys(("entailment", "0", "true"), "yes"),
    **dict.fromkeys(("not_entailment", "1", "false"), "no"),
}
_BOOLQ = {**dict.fromkeys(("true", "1"), "yes"), **dict.fromkeys(("false", "0"), "no")}
_UNTOLD = ("-", "-1", "", "none")  # a label that was withheld, or that nobody agreed on
# A box without braces ends with its formula or before the next box.
_BARE_BOX = re.compile(r"\\f?box(?:ed)?(?![a-zA-Z])[ ]*([^\s{}$](?:[^\n$\\]|\\(?![\])]|f?box))*)")


def plain_rows(layout: str | None, rows: Iterable[Row]) -> Iterator[Row]:
    """Bring entries to our own fields; those without a label stay, as questions without an answer.

    LmsiError: an entry is not of this layout; says where and which field.
    """
    for row in rows:
        try:
            entries = list(LAYOUTS[layout](row.fields)) if layout else [row.fields]
        except KeyError as e:
            message = f"{row.where}: not an entry of {layout}: no field {e}"
            raise LmsiError(message, hint=f"fields here: {', '.join(row.fields)}") from None
        except (TypeError, ValueError, AttributeError, IndexError) as e:
            raise LmsiError(f"{row.where}: not an entry of {layout}: {e}") from None
        yield from (Row(row.where, fields) for fields in entries)


def with_options(question: str, options: Iterable[str]) -> str:
    """Write options below a question, lettered from A, one a line."""
    lettered = zip(ascii_uppercase, options, strict=False)
    shown = (f"({letter}) {' '.join(text.split()) or '-'}" for letter, text in lettered)
    return "\n".join([question.strip(), *shown])


def _gsm8k(e: Fields) -> Iterator[Fields]:
    _, marker, answer = e["answer"].rpartition("####")
    if not marker:
        raise ValueError("its answer has no ####")
    yield {"question": e["question"], "answer": answer.strip()}


def _svamp(e: Fields) -> Iterator[Fields]:
    """A body without closing punctuation is a clause that the question completes."""
    body = e["Body"].strip()
    joint = " " if body[-1:] in ".,?!" else ", "
    answer = e["Answer"] if e["Answer"] is None else str(e["Answer"]).removesuffix(".0")
    yield {"id": e["ID"], "question": body + joint + e["Question"].strip(), "answer": answer}


def _aqua(e: Fields) -> Iterator[Fields]:
    options = [re.sub(r"\A[A-E] ?\)", "", option) for option in e["options"]]
    yield {"question": with_options(e["question"], options), "answer": e["correct"]}


def _strategyqa(e: Fields) -> Iterator[Fields]:
    yield {"id": e["qid"], "question": e["question"], "answer": _label(e.get("answer"), _BOOLQ)}


def _boolq(e: Fields) -> Iterator[Fields]:
    """The authors' answers, or SuperGLUE's labels; both write questions in lower case."""
    asked = e["question"].strip().rstrip("? ")
    yield {
        "passage": e["passage"],
        "question": asked and f"{asked[0].upper()}{asked[1:]}?",
        "answer": _label(e.get("answer", e.get("label")), _BOOLQ),
    }


def _science(e: Fields) -> Iterator[Fields]:
    """OpenBookQA and ARC; some questions of ARC have labels 1 to 4, so letters go by position."""
    inner = e["question"] if isinstance(e.get("question"), dict) else e
    stem = inner.get("stem") or inner.get("question_stem") or inner["question"]
    choices = inner["choices"]
    if isinstance(choices, dict):
        pairs = list(zip(choices["label"], choices["text"], strict=True))
    else:
        pairs = [(c["label"], c["text"]) for c in choices]
    key = e.get("answerKey") or None
    letter = ascii_uppercase[[label for label, _ in pairs].index(key)] if key else None
    question = with_options(stem, (text for _, text in pairs))
    yield {"id": e["id"], "question": question, "answer": letter}


def _drop(e: Fields) -> Iterator[Fields]:
    """The authors' single object of all passages, or a row of the hub, which is one question."""
    if "answers_spans" in e:
        spans = e["answers_spans"]
        answer = _drop_said(spans["spans"], spans.get("types") or ())
        yield {"id": e["query_id"], "question": _on(e, e), "answer": answer}
        return
    for passage_id, p in e.items():
        for qa in p["qa_pairs"]:
            answer = _drop_answer(qa["answer"]) if "answer" in qa else None
            question_id = f"{passage_id}/{qa['query_id']}"
            yield {"id": question_id, "question": _on(p, qa), "answer": answer}


def _drop_said(spans: Sequence[str], types: Sequence[str]) -> str | None:
    """The answer of one annotator, in parts, or the commonest of several annotators' answers.

    The hub's training split holds one answer for each question, its validation split all
    ``validated_answers`` in a row, and neither says where one ends (datasets/drop/drop.py). One
    answer is a number, a date, or spans that differ. So there are several if a number or a date
    is not alone, if a span is repeated, or if all others contain the words of one. If all of them
    named the same parts, in any order, the answer is these parts.
    """
    if not spans:
        return None
    spelt = [canonical(span, "span") or span for span in spans]
    parts = dict(zip(reversed(spelt), reversed(spans), strict=True))  # as first written
    words = [set(spelling.split()) for spelling in parts]
    alone = set(types) <= {"span"} and not any(set.intersection(*words) == w for w in words)
    turns = [spelt[i : i + len(parts)] for i in range(0, len(spelt), len(parts))]
    if alone and all(len(set(turn)) == len(parts) for turn in turns):
        return ", ".join(dict.fromkeys(parts[spelling] for spelling in spelt))
    return parts[Counter(spelt).most_common(1)[0][0]]


def _on(passage: Fields, asked: Fields) -> str:
    return f"{passage['passage'].strip()}\n{asked['question'].strip()}"


def _drop_answer(answer: Fields) -> str | None:
    """A number, a date in parts, or spans: whichever is filled in."""
    date = answer.get("date") or {}
    parts = (date.get(part, "") for part in ("day", "month", "year"))
    spans = ", ".join(answer.get("spans") or ())
    return str(answer.get("number") or "") or spans or " ".join(filter(None, parts)) or None


def _inference(e: Fields, label: object, labels: dict[str, str]) -> Fields:
    """The question about a premise and a hypothesis, or two sentences, as GLUE and MNLI say."""
    first, second = ("sentence1", "sentence2") if "sentence1" in e else ("premise", "hypothesis")
    choices = ", ".join(f'"{word}"' for word in dict.fromkeys(labels.values()))
    question = (
        f"Premise: {e[first].strip()}\nHypothesis: {e[second].strip()}\n"
        f"Does the premise show that the hypothesis is true? Answer with one of {choices}."
    )
    return {"question": question, "answer": _label(label, labels)}


def _label(label: object, labels: dict[str, str]) -> str | None:
    name = str(label).strip().lower()
    if name not in labels and name not in _UNTOLD:
        raise ValueError(f"unknown label {label!r}")
    return labels.get(name)


def _rte(e: Fields) -> Iterator[Fields]:
    index = e.get("idx", e.get("index"))
    name = None if index is None else f"rte-{index}"
    yield {"id": name, **_inference(e, e.get("label"), _RTE)}


def _mnli(e: Fields) -> Iterator[Fields]:
    label = e["gold_label"] if "gold_label" in e else e.get("label")
    yield {"id": e.get("pairID"), "family": e.get("genre"), **_inference(e, label, _NLI)}


def _anli(e: Fields) -> Iterator[Fields]:
    premise = e["context"] if "context" in e else e["premise"]
    both = {"premise": premise, "hypothesis": e["hypothesis"]}
    yield {"id": e["uid"], **_inference(both, e.get("label"), _NLI)}


def _math(e: Fields) -> Iterator[Fields]:
    """The answer is what the solution boxes last."""
    yield {"question": e["problem"], "answer": _boxed(e["solution"]), "family": e.get("type")}


def _boxed(solution: str) -> str | None:
    r"""The last box of a solution, with braces or, as in ``\boxed 2``, without."""
    bare = max(_BARE_BOX.finditer(solution), key=re.Match.start, default=None)
    box = in_box(solution)
    if bare and (box is None or box.start < bare.start()):
        return bare[1].rstrip(" .")
    return solution[box.start : box.end] if box else None


LAYOUTS: dict[str, Layout] = {
    "anli": _anli,
    "aqua": _aqua,
    "arc": _science,
    "boolq": _boolq,
    "drop": _drop,
    "gsm8k": _gsm8k,
    "math": _math,
    "mnli": _mnli,
    "openbookqa": _science,
    "rte": _rte,
    "strategyqa": _strategyqa,
    "svamp": _svamp,
}
