"""The recipe of the embedded model at work: training, pruning, export, and all of it small."""

import json
from itertools import islice
from pathlib import Path

import forked
import numpy as np
import pytest

TINYMATH = Path(__file__).parents[2] / "models" / "tinymath"
RECIPE = TINYMATH / "recipe"


def run_script(folder, name, *arguments):
    """Run a script; its exit code and what it said on stderr."""
    err = folder / "err"
    process = forked.script(RECIPE / f"{name}.py", *arguments, out=folder / "out", err=err)
    return forked.ended(process), err.read_text()


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
    gguf = pytest.importorskip("gguf")
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
    reader = gguf.GGUFReader(out)
    assert len(reader.tensors) == 2 + 2 * 9
    assert reader.fields["general.architecture"].contents() == "llama"
    assert reader.fields["tokenizer.ggml.pre"].contents() == "smollm"
    assert json.loads((small / "config.json").read_text())["num_hidden_layers"] == 1
    again = ("pretrain", "--smoke", "--out", base, "--tokenizer", tokenizer)
    assert "finished already" in run_script(tmp_path, *again)[1]
