"""A run folder with everything in it, made by the commands themselves: seconds of work."""

import json

import broken_models
import chat_models
import gguf
import numpy as np
from typer.testing import CliRunner

from lmsi_cli.cli.main import app
from lmsi_cli.run_folder import RunDir

TEXTS = ["Tom has 3 pens. Tom gets 4 more. How many pens now?", "Anna has 2 boxes. How many?"]
ROUND = {
    "number": 1, "folder": ".", "temperature": 0.7, "drawn_by": 0, "started_from": 0,
    "verdict": "train", "kept_questions": 2, "kept_paths": 4, "mean_share": 1.0,
    "trained": True,
}  # fmt: skip
ROUNDS = {"asked": 2, "rounds": [ROUND], "best": {"number": 1, "by": "nothing", "why": "first"}}
WORDS = 1165  # of the embedded model
SHORT = ("--threads", "1", "--max-tokens", "8", "-q")


def small_model(root, target):
    """A Llama of one narrow layer with the embedded model's words and a chat template."""
    reader = gguf.GGUFReader(root / "models" / "tinymath" / "tinymath-f16.gguf")
    writer = gguf.GGUFWriter(target, "llama")
    sizes = {"embedding_length": 32, "feed_forward_length": 32, "rope.dimension_count": 8,
             "attention.head_count": 4, "attention.head_count_kv": 4}  # fmt: skip
    tensors, reader.tensors = reader.tensors, []
    broken_models.copied(reader, writer, 1, own={f"llama.{k}": n for k, n in sizes.items()})
    writer.add_chat_template(chat_models.CHATML)
    rng = np.random.default_rng(0)
    for t in tensors:
        shape = [n if n == WORDS else 32 for n in reversed(t.shape.tolist())]
        if not t.name.startswith("blk.") or t.name.startswith("blk.0."):
            writer.add_tensor(t.name, rng.normal(0, 0.1, shape).astype(np.float32))
    return broken_models.finish(writer, target)


def whole_run(place, root, trained):
    """Sample and vote in a folder ``r``, or train and measure, too; with a file of rounds."""
    small_model(root, place / "m.gguf")
    asked = [{"id": f"q{i}", "question": text} for i, text in enumerate(TEXTS)]
    (place / "q.jsonl").write_text("".join(json.dumps(q) + "\n" for q in asked))
    (place / "test.jsonl").write_text(
        '{"id": "t", "question": "Sam has 6. How many?", "answer": 8}\n'
    )
    sample = {"doc": {"question": "1 + 1?", "answer": "2"}, "resps": [["2"]]}
    (place / "s.jsonl").write_text(json.dumps(sample) + "\n")
    run = RunDir("r")
    _call("sample", "q.jsonl", "-m", "m.gguf", "-o", "r", "-n", "2", "--chat", "off", *SHORT)
    _answered(run)
    _call("vote", "r", "-q")
    if trained:
        _call("train", "r", "-q", "--force", "--set", "max_steps=1")
        _call("eval", "r", "--data", "test.jsonl", "--modes", "cot", *SHORT)
    run.rounds.write_text(json.dumps(ROUNDS))
    for left in (run.lock, run.lock_owner):
        left.unlink(missing_ok=True)


def _answered(run):
    lines = [json.loads(line) for line in run.paths.read_text().splitlines()]
    said = {
        "text": " 3 + 4 = 7. The answer is 7.",
        "predicted_answer": "7",
        "extract_rule": "marker",
        "stop_reason": "answer",
    }
    run.paths.write_text("".join(json.dumps(line | said) + "\n" for line in lines))


def _call(*argv):
    done = CliRunner().invoke(app, argv)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, (argv, done.stderr)
