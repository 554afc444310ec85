"""Rows of public question sets as their authors or the hub have them, and what is read of them."""

from lmsi_cli.answers.yesno import UNKNOWN

OPTIONS = "Which is wet?\n(A) sand\n(B) the sea"
NLI = "Does the premise show that the hypothesis is true? Answer with one of "
PREMISE = f"Premise: It rains.\nHypothesis: It is wet.\n{NLI}"
THREE = f'{PREMISE}"yes", "{UNKNOWN}", "no".'
CHOICES = [{"text": "sand", "label": "A"}, {"text": "the sea", "label": "B"}]
SCIENCE = {"id": "7-1", "question": {"stem": "Which is wet?", "choices": CHOICES}, "answerKey": "B"}
HUB_CHOICES = {"text": ["sand", "the sea"], "label": ["1", "2"]}
QA = [
    ("a", "How many goals?", {"number": "3", "date": {}, "spans": []}),
    ("b", "When?", {"number": "", "date": {"day": "", "year": "1918"}, "spans": []}),
    ("c", "Who?", {"number": "", "date": {}, "spans": ["the Bears"]}),
]
PAIRS = [{"query_id": i, "question": q, "answer": a} for i, q, a in QA]
DROP = {"p1": {"passage": "In 1918 the Bears kicked 3 goals.", "qa_pairs": PAIRS}}
RAIN = {"premise": "It rains.", "hypothesis": "It is wet."}
MNLI = {"pairID": "1e", "sentence1": "It rains.", "sentence2": "It is wet."}


def svamp(body, answer):
    return "svamp", {"ID": "c1", "Body": body, "Question": "How many?", "Answer": answer}


def math(solution):
    return "math", {"problem": "x?", "type": "Algebra", "solution": solution}


ROWS = [
    ("gsm8k", {"question": "6 * 7?", "answer": "6 * 7 = <<6*7=42>>42\n#### 42"}, ("6 * 7?", "42")),
    (*svamp("If Dan has 4", 4.0), ("If Dan has 4, How many?", "4")),
    (*svamp("Dan has 4.", "4.0"), ("Dan has 4. How many?", "4")),
    (*svamp("Dan has 4.", 2.5), ("Dan has 4. How many?", "2.5")),
    (*svamp("Dan has 4.", None), ("Dan has 4. How many?", None)),
    ("aqua", {"question": "Which is wet?", "options": ["A)sand", "B)the sea"], "correct": "B"},
     (OPTIONS, "B")),
    ("aqua", {"question": "Which?", "options": ["A)sand", "B)"], "correct": "B"},
     ("Which?\n(A) sand\n(B) -", "B")),
    ("strategyqa", {"qid": "s", "question": "Is it?", "answer": False}, ("Is it?", "no")),
    ("strategyqa", {"qid": "s", "question": "Wet?", "answer": "true"}, ("Wet?", "yes")),
    ("boolq", {"question": "is it wet", "title": "Rain", "answer": True, "passage": "It rains. "},
     ("It rains.\n\nIs it wet?", "yes")),
    ("boolq", {"question": "Is it wet?", "passage": "It rains.", "idx": 3, "label": 0},
     ("It rains.\n\nIs it wet?", "no")),
    ("boolq", {"question": "is it", "passage": "It rains.", "label": -1},
     ("It rains.\n\nIs it?", None)),
    ("openbookqa", SCIENCE, (OPTIONS, "B")),
    ("openbookqa", {"question_stem": "Which is wet?", "choices": HUB_CHOICES, "answerKey": "1",
                    "id": "a"}, (OPTIONS, "A")),
    ("arc", {"id": "a", "question": "Which is wet?", "choices": HUB_CHOICES, "answerKey": "2"},
     (OPTIONS, "B")),
    ("rte", {**RAIN, "idx": 3, "label": "not_entailment"}, (f'{PREMISE}"yes", "no".', "no")),
    ("mnli", {**MNLI, "gold_label": "entailment", "genre": "talk"}, (THREE, "yes")),
    ("mnli", {**MNLI, "gold_label": "-"}, (THREE, None)),
    ("anli", {"uid": "u", "context": "It rains.", "hypothesis": "It is wet.", "label": "n"},
     (THREE, UNKNOWN)),
    ("anli", {**RAIN, "uid": "u", "label": 2}, (THREE, "no")),
    (*math(r"It is $\boxed{\frac{1}{2}}$."), ("x?", r"\frac{1}{2}")),
    (*math(r"The roots are $1$ and $2$, so it is $\boxed 2$. Done."), ("x?", "2")),
    (*math(r"\[\boxed -3\] is it."), ("x?", "-3")),
    (*math(r"$\boxed\frac12$"), ("x?", r"\frac12")),
    (*math(r"$\boxed \text{(C)}.$"), ("x?", r"\text{(C)}")),
    (*math(r"$\boxed{1}$, no: $\boxed 2.$"), ("x?", "2")),
    (*math(r"$\boxed 1, \boxed 2$"), ("x?", "2")),
    (*math(r"$\boxed{1}$ and $\boxedness 2$"), ("x?", "1")),
]  # fmt: skip
