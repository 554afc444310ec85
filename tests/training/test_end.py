"""The trained model stops by itself in other programs: llama.cpp's own server, no stop words."""

import re

import httpx
import msgspec
import pytest
from builders import example
from servers import llama_server
from typer.testing import CliRunner

from lmsi_cli.cli.main import app

pytestmark = [pytest.mark.model, pytest.mark.slow]

ASKED = "Q: Ann has {0} pens and buys {0}. How many pens?\nA:"
LEARNED = range(2, 8)
PROMPTS = range(20, 40)
ANSWER = re.compile(r"The answer is \d+\.")  # the model's own words, which it goes on from


def stopped(served):
    """How many replies end in an end-of-generation token right behind the answer."""
    url, count = f"http://{served.host}:{served.port}/v1/completions", 0
    for n in PROMPTS:
        body = {"prompt": ASKED.format(n), "max_tokens": 32, "temperature": 0}
        [choice] = httpx.post(url, json=body, timeout=60).json()["choices"]
        answer = ANSWER.search(choice["text"])
        by_itself = choice["finish_reason"] == "stop" and answer is not None
        count += bool(by_itself and answer.end() == len(choice["text"]))
        print(choice)  # pytest shows it where this fails
    return count


def test_training_teaches_the_end(run, gguf, tmp_path):
    said = " {0} + {0} = {1}. The answer is {1}."
    examples = [example(f"q{n}", ASKED.format(n), said.format(n, 2 * n)) for n in LEARNED]
    run.train.write_bytes(msgspec.json.Encoder().encode_lines(examples))
    words = ["train", str(run.root), "--force", "--max-steps", "8", "--batch-size", "6", "-q"]
    trained = CliRunner().invoke(app, [*words, "--lr", "0.003"])
    assert trained.exit_code == 0, trained.output
    adapter = ("--lora_path", str(run.adapter / "adapter.gguf"))
    with llama_server(gguf, tmp_path / "log", *adapter) as served:
        assert stopped(served) == len(PROMPTS)
    with llama_server(gguf, tmp_path / "log") as served:
        assert stopped(served) == 0
