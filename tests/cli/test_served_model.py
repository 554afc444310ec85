"""llama-cpp-python's own OpenAI-compatible server with the embedded model, and a bad line to it.

What this server does with n, seeds and log-probabilities is told in docs/servers.md and held here.
"""

import json

import pytest
import servers
from commands import by_key, settings
from servers import Front, behind, fails, llama_server

pytest.importorskip("fastapi")
pytest.importorskip("sse_starlette")
pytest.importorskip("starlette_context")
pytest.importorskip("pydantic_settings")
pytestmark = [pytest.mark.model, pytest.mark.slow]

SHORT = ("--max-tokens", "256")  # the server's context has 512
ASKED = [
    "Tom has 3 pens. Tom gets 4 more pens. How many pens does Tom have now?",
    "Anna buys 2 boxes with 5 cards each. How many cards does Anna have?",
    "Ben has 9 coins. Ben gives 4 coins away. How many coins does Ben have left?",
]


@pytest.fixture(scope="module")
def served(gguf, tmp_path_factory):
    with llama_server(gguf, tmp_path_factory.mktemp("server") / "log") as address:
        yield address


@pytest.fixture
def asked(here):
    lines = [{"id": f"q{i}", "question": text} for i, text in enumerate(ASKED)]
    (here / "q.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return here


def sample(lmsi, url, *more, code=0):
    there = ["--engine", "openai", "--base-url", url, "--model", "tiny", "--chat", "off"]
    done = lmsi("sample", "q.jsonl", "-o", "run", "-q", "--task", "tinymath", *there, *SHORT, *more)
    assert done.exit_code == code, done.stderr
    return done


def test_greedy_paths_are_those_of_the_local_engine(asked, lmsi, served, gguf):
    with Front(behind(served)) as front:
        sample(lmsi, front.url, "--temperature", "0", "--paths", "1")
    there = by_key()
    here = ["--task", "tinymath", "-m", gguf, "--threads", "1", "--temperature", "0"]
    done = lmsi("sample", "q.jsonl", "-o", "local", "-q", *here, *SHORT, "--paths", "1")
    assert done.exit_code == 0, done.stderr
    for key, local in by_key("local").items():
        for field in ("text", "predicted_answer", "extract_rule", "stop_reason"):
            assert there[key][field] == local[field]
        for field in ("logprob", "mean_logprob", "answer_logprob"):
            assert there[key][field] == pytest.approx(local[field], abs=0.05)


def test_a_bad_line_loses_no_path_and_doubles_none(asked, lmsi, served):
    misdeeds = [
        None, fails(500), servers.resets, None, servers.halves, servers.drips, None,
        fails(429, {"Retry-After": "0.1"}), servers.page, servers.cuts_a_character, None,
        fails(503),
    ]  # fmt: skip
    more = ["--paths", "3", "--max-tokens", "48", "--set", "timeout=4", "--set", "concurrency=3"]
    with Front(behind(served), misdeeds) as front:
        sample(lmsi, front.url, *more)
        assert not front.misdeeds
    drawn = by_key()
    assert drawn.keys() == {(f"q{i}", j) for i in range(3) for j in range(3)}
    assert settings("run", "engine") == {
        "per_request": 1, "seeds": "sent", "logprobs": "told", "answers_as": "tiny",
    }  # fmt: skip
    assert all(p["logprob"] < 0 for p in drawn.values())
