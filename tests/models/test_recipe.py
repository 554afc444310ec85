"""The recipe of the embedded model: its text, question sets and card, and all of it at work."""

import hashlib
import json
import sys
import tomllib
from itertools import islice
from pathlib import Path
from random import Random

import forked
import numpy as np
import pytest
from gguf import GGUFReader

sys.path.insert(0, str(Path(__file__).parents[2] / "models" / "tinymath" / "recipe"))
import solutions
from make_questions import KINDS, SHIPPED

TINYMATH = Path(__file__).parents[2] / "models" / "tinymath"
CARD = tomllib.loads((TINYMATH / "card.toml").read_text(encoding="utf-8"))
# Of 300 documents, in which every family and every style occurs, as the generator wrote them that
# wrote the text of the released weights.
READ = {
    "FIRST_STAGE": "0f5a258251b252a7d803160cee8055f227143cc3f8ff8dff79e194a842b69122",
    "SECOND_STAGE": "71564df94fe3a90d76579d30cafe07b6778f7e7570bef5f6950703345cc42440",
    "HEALING": "340829d281ed8d132e5ef94fad716eec016f439c71762dfbda6c3e1d41b0c045",
}


def run_script(folder, name, *arguments):
    """Run a script of the recipe; its exit code and what it said on stderr."""
    out, err = folder / "out", folder / "err"
    process = forked.script(TINYMATH / "recipe" / f"{name}.py", *arguments, out=out, err=err)
    return forked.ended(process), err.read_text()


@pytest.mark.parametrize("stage", READ)
def test_equal_seeds_give_the_text_that_the_weights_have_read(stage):
    mix = getattr(solutions, stage)
    text = "\n".join(solutions.document(Random(seed), mix) for seed in range(300))
    assert hashlib.sha256(text.encode()).hexdigest() == READ[stage]


def test_the_sets_are_written_again_with_the_same_bytes_and_are_what_the_card_says(tmp_path):
    assert set(CARD["abilities"]["can"]) == set(KINDS["known"][0])
    assert set(CARD["abilities"]["half_can"]) == set(KINDS["hard"][0])
    assert run_script(tmp_path, "make_questions", "--folder", tmp_path / "sets")[0] == 0
    assert {file.name for file in (tmp_path / "sets").iterdir()} == {s.file for s in SHIPPED}
    for wanted in SHIPPED:
        data, told = (tmp_path / "sets" / wanted.file).read_bytes(), CARD["files"][wanted.file]
        assert data == (TINYMATH / wanted.file).read_bytes()
        records = [json.loads(line) for line in data.splitlines()]
        assert len(records) == told["count"]
        keys = {"family", "id", "question"} | ({"answer"} if told["answers"] else set())
        assert all(record.keys() == keys for record in records)


@pytest.mark.parametrize("name", ["tinymath", "tinymath-small"])
def test_a_card_agrees_with_its_files(name):
    folder = TINYMATH.parent / name
    card = tomllib.loads((folder / "card.toml").read_text(encoding="utf-8"))
    for file, told in card["files"].items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == told["sha256"]
    reader, facts = GGUFReader(folder / card["file"]), card["architecture"]
    assert sum(int(tensor.n_elements) for tensor in reader.tensors) == facts["parameters"]
    for fact, field in (("layers", "block_count"), ("context", "context_length")):
        assert reader.fields[f"llama.{field}"].contents() == facts[fact]
    for file in (card["questions"], *card["tests"]):
        assert (folder / file).is_file()


def test_heads_are_interleaved_for_llama_cpp():
    from to_gguf import interleave

    rows = np.arange(8).reshape(8, 1)  # two heads of four rows
    assert interleave(rows, heads=2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    import torch
    from pretrain import SMOKE, make_model, windows
    from train_loop import Machine, Plan, Trainer

    plan = Plan(6 * 32, 6 * 32, 2, 16, 1e-3, "half", 2, 0.1, 5)
    pool = np.random.default_rng(0).integers(50, size=400, dtype=np.uint16)

    def trainer(folder):
        return Trainer(make_model(SMOKE, 50, plan.seed), plan, Machine("cpu", False, 3), folder)

    whole = trainer(tmp_path / "whole")
    whole.run(lambda step: windows(pool, plan, step))
    stopped = trainer(tmp_path / "stopped")
    stopped.run(lambda step: islice(windows(pool, plan, step), 4))  # saved after the third step
    resumed = trainer(tmp_path / "stopped")
    resumed.resume()
    assert resumed.step == 3
    resumed.run(lambda step: windows(pool, plan, step))
    for left, right in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.slow
def test_the_whole_recipe_runs_small(tmp_path):
    tokenizer, base, hard = tmp_path / "tokenizer.json", tmp_path / "base", tmp_path / "hard"
    out, small = tmp_path / "model.gguf", tmp_path / "small"
    for command in (
        ("train_tokenizer", "--smoke", "--out", tokenizer),
        ("pretrain", "--smoke", "--out", base, "--tokenizer", tokenizer, "--device", "cpu"),
        ("continue_hard", "--smoke", "--base", base, "--out", hard, "--device", "cpu"),
        ("to_gguf", hard, "--out", out, "--type", "q8_0"),
        ("prune", "--smoke", "--base", hard, "--out", small, "--layers", 1, "--soft", 0.5,
         "--tokenizer", tokenizer, "--device", "cpu"),
    ):  # fmt: skip
        code, err = run_script(tmp_path, *command)
        assert code == 0, err
    reader = GGUFReader(out)
    assert len(reader.tensors) == 2 + 2 * 9
    assert reader.fields["general.architecture"].contents() == "llama"
    assert reader.fields["tokenizer.ggml.pre"].contents() == "smollm"
    assert json.loads((small / "config.json").read_text())["num_hidden_layers"] == 1
    again = ("pretrain", "--smoke", "--out", base, "--tokenizer", tokenizer)
    assert "finished already" in run_script(tmp_path, *again)[1]
