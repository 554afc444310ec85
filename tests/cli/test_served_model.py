"""llama-cpp-python's own OpenAI-compatible server with the embedded model.

What this server does with n, seeds and log-probabilities is told in docs/servers.md and held here.
"""

import json

import pytest
from commands import by_key, settings, works
from servers import llama_server

for name in ("fastapi", "sse_starlette", "starlette_context", "pydantic_settings"):
    pytest.importorskip(name)
pytestmark = [pytest.mark.model, pytest.mark.slow]

ASKED = "Tom has {} pens. Tom gets 4 more pens. How many pens does Tom have now?"


def sample(out, *more):
    works("sample", "q.jsonl", "-o", out, "-q", "--task", "tinymath", *more)
    return by_key(out)


def test_its_greedy_paths_are_those_of_the_local_engine(here, gguf):
    lines = [json.dumps({"id": f"q{i}", "question": ASKED.format(i + 3)}) for i in range(3)]
    (here / "q.jsonl").write_text("\n".join(lines))
    greedy = ("--temperature", "0", "--paths", "1", "--max-tokens", "256")  # its context has 512
    with llama_server(gguf, here / "log") as url:
        server = ("--engine", "openai", "--base-url", url, "--model", "tiny", "--chat", "off")
        there = sample("run", *server, *greedy)
        drawn = sample("several", *server, "--paths", "3", "--max-tokens", "48")
    assert drawn.keys() == {(f"q{i}", j) for i in range(3) for j in range(3)}
    assert all(p["logprob"] < 0 for p in drawn.values())
    assert settings("several", "engine") == {
        "per_request": 1, "seeds": "sent", "logprobs": "told", "answers_as": "tiny",
    }  # fmt: skip
    own = sample("local", "-m", gguf, "--threads", "1", *greedy)
    assert own.keys() == there.keys() == {(f"q{i}", 0) for i in range(3)}
    for key, local in own.items():
        for field in ("text", "predicted_answer", "extract_rule", "stop_reason"):
            assert there[key][field] == local[field]
        for field in ("logprob", "mean_logprob", "answer_logprob"):
            assert there[key][field] == pytest.approx(local[field], abs=0.05)
