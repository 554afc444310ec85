"""The files of a run go into `datasets` and TRL as they are, in processes without network."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path as File

import builders
import pytest
from commands import give_answers, works
from msgspec.structs import replace

from lmsi_cli.engine.base import path_seed
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Message, Path
from lmsi_cli.run_folder import RunDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("datasets", "trl")),
        reason="needs datasets and trl: pip install datasets trl",
    ),
]

TINYMATH = File(__file__).parents[2] / "models" / "tinymath"
NAMES = ("paths", "votes", "train", "pairs")
SCRIPT = f"""
import json
from datasets import load_dataset
for name in {NAMES}:
    data = load_dataset("json", data_files=f"r/{{name}}.jsonl", split="train")
    print(name, json.dumps(list(data)))
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
words = PreTrainedTokenizerFast(
    tokenizer_file={str(TINYMATH / "tokenizer.json")!r},
    eos_token="<|endoftext|>", pad_token="<|endoftext|>",
)
words.chat_template = (
    "{{% for m in messages %}}{{{{ m.role }}}}: {{{{ m.content }}}}<|endoftext|>{{% endfor %}}"
    "{{% if add_generation_prompt %}}assistant: {{% endif %}}{{{{ mood.upper() if mood else '' }}}}"
)
shape = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **shape)).save_pretrained("tiny")
small = dict(output_dir="out", max_steps=1, per_device_train_batch_size=2, report_to="none",
             use_cpu=True, save_strategy="no", disable_tqdm=True)
for file, Config, Trainer in (
    ("r/train", SFTConfig, SFTTrainer), ("r/pairs", DPOConfig, DPOTrainer),
    ("talk/train", SFTConfig, SFTTrainer), ("talk/pairs", DPOConfig, DPOTrainer),
):
    data = load_dataset("json", data_files=f"{{file}}.jsonl", split="train")
    trainer = Trainer("tiny", args=Config(**small), train_dataset=data, processing_class=words)
    assert trainer.train().training_loss > 0
    ids = trainer.train_dataset[0]
    print(file, json.dumps(words.decode(ids.get("input_ids") or ids["chosen_ids"])))
"""


def talk(role, text):
    return (Message(role=role, content=text),)


@pytest.mark.usefixtures("sampled")
def test_datasets_reads_what_the_files_hold_and_trl_trains_on_it():
    """Plain text, and conversations with a variable of their template."""
    run, talks = RunDir("r"), RunDir("talk")
    give_answers(run)
    wrong = " 3 + 5 = 8. The answer is 8."  # a path that loses
    lost = [builders.path(2, "8", wrong, question_id=q, seed=path_seed(0, q, 2)) for q in "ab"]
    write_records(run.paths, [*read_records(run.paths, Path), *lost])
    works("vote", "r")
    talks.create()
    asked, said = talk("user", "1 + 1?"), talk("assistant", "2.")
    more = {"chat_template_kwargs": {"mood": "calm"}}
    write_records(talks.train, [builders.example("a", asked, said, **more)] * 2)
    pair = builders.preference(prompt=asked, chosen=said, rejected=talk("assistant", "3."))
    write_records(talks.pairs, [replace(pair, **more)] * 2)
    env = {**os.environ, "HF_HOME": "hf", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    read = partial(json.loads, parse_float=lambda x: round(float(x), 9))  # it keeps ten places
    told = (line.partition(" ") for line in done.stdout.splitlines())
    found = {name: read(text) for name, _, text in told if name.endswith(NAMES)}
    for file in (run.paths, run.votes, run.train, run.pairs):
        written = [read(line) for line in file.read_text().splitlines()]
        assert written and found[file.stem] == written
    assert found["r/train"].startswith("Q: ") and "CALM" in found["talk/train"]
    assert {"r/pairs", "talk/pairs"} < found.keys()
