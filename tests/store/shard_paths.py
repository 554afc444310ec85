"""Paths to store, and what hypothesis may make of them."""

from hypothesis import strategies as st

from lmsi_cli.records import Path


def sampled(number, question="q", **more):
    fields = {
        "question_id": question, "path": number, "seed": number + 7, "text": f" {number}. ½\n",
        "num_generated_tokens": 3, "logprob": -0.5, "stop_reason": "answer",
        "predicted_answer": None if number % 3 else str(number), "extract_rule": None,
    }  # fmt: skip
    return Path(**{**fields, **more})


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
PATHS = st.builds(
    Path,
    question_id=TEXT,
    path=st.integers(0, 2**53),
    seed=st.integers(0, 2**53),
    text=TEXT,
    num_generated_tokens=st.integers(0, 2**31),
    logprob=st.floats(allow_nan=False, allow_infinity=False),
    stop_reason=st.sampled_from(["answer", "next_question", "eos", "length"]),
    predicted_answer=st.none() | TEXT,
    extract_rule=st.none() | TEXT,
    mean_logprob=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    answer_logprob=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
