"""What the tests of the server engine share: files to stand beside, a call, and what came of it."""

import json
import tomllib

QUESTIONS = "".join(
    json.dumps({"id": f"q{i}", "question": f"What is {i} + {i}?"}) + "\n" for i in range(3)
)
LABELLED = "".join(
    json.dumps({"id": f"t{i}", "question": f"What is {i} + 1?", "answer": i % 3}) + "\n"
    for i in range(4)
)


def options(front, *more):
    return ["--engine", "openai", "--base-url", front.url, "--model", "tiny", *more]


def sample(lmsi, front, *more, code=0):
    """Draw 4 plain paths for each of 3 questions, unless told otherwise."""
    form = ["--chat", "off", "--prompt", "cot-zero", "--max-tokens", "256"]
    more = [*options(front), *form, "--paths", "4", *more]
    done = lmsi("sample", "q.jsonl", "-o", "run", "-q", *more)
    assert done.exit_code == code, done.stderr
    return done


def paths(here):
    lines = [json.loads(line) for line in (here / "run" / "paths.jsonl").read_text().splitlines()]
    keys = [(p["question_id"], p["path"]) for p in lines]
    assert keys and len(keys) == len(set(keys))  # nothing twice
    return dict(zip(keys, lines, strict=True))


def found(here):
    return tomllib.loads((here / "run" / "run.toml").read_text())["engine"]


ALL = {(f"q{i}", j) for i in range(3) for j in range(4)}
