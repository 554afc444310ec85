"""What the training tests share: the toy model with its examples, and a voted run folder."""

import msgspec
import pytest
from builders import example
from toys import toy_examples, toy_model

from lmsi_cli.config import TrainConfig
from lmsi_cli.run_folder import RunDir, sha256_file


@pytest.fixture
def tiny():
    """Builds the toy model with an adapter of these settings."""
    return lambda **config: toy_model(TrainConfig(rank=4, **config))


@pytest.fixture
def examples():
    return toy_examples()


@pytest.fixture
def run(gguf, tmp_path):
    """A voted run folder of six short examples."""
    folder = RunDir(tmp_path / "run")
    folder.create()
    told = {"model": str(gguf), "model_sha256": sha256_file(gguf), "chat": "off"}
    folder.save_settings("sample", {**told, "task": "auto", "task_name": "number"})
    folder.questions.write_text('{"id":"x","question":"How many legs have 3 dogs?"}\n')
    asks = "Q: Ann has {0} pens and buys {0}. How many pens?\nA:"
    says = " {0} + {0} = {1}. It is {1}."
    pairs = [example(f"q{n}", asks.format(n), says.format(n, 2 * n)) for n in range(2, 8)]
    folder.train.write_bytes(msgspec.json.Encoder().encode_lines(pairs))
    return folder
