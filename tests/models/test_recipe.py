"""The recipe of the embedded model: training text, question sets and the card."""

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from random import Random

import pytest
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


@pytest.mark.parametrize("stage", READ)
def test_equal_seeds_give_the_text_that_the_weights_have_read(stage):
    mix = getattr(solutions, stage)
    text = "\n".join(solutions.document(Random(seed), mix) for seed in range(300))
    assert hashlib.sha256(text.encode()).hexdigest() == READ[stage]


def test_the_sets_are_written_again_with_the_same_bytes_and_are_what_the_card_says(tmp_path):
    assert set(CARD["abilities"]["can"]) == set(KINDS["known"][0])
    assert set(CARD["abilities"]["half_can"]) == set(KINDS["hard"][0])
    script = TINYMATH / "recipe" / "make_questions.py"
    subprocess.run([sys.executable, script, "--folder", tmp_path], check=True, capture_output=True)
    assert {file.name for file in tmp_path.iterdir()} == {wanted.file for wanted in SHIPPED}
    for wanted in SHIPPED:
        data, told = (tmp_path / wanted.file).read_bytes(), CARD["files"][wanted.file]
        assert data == (TINYMATH / wanted.file).read_bytes()
        records = [json.loads(line) for line in data.splitlines()]
        assert len(records) == told["count"]
        keys = {"family", "id", "question"} | ({"answer"} if told["answers"] else set())
        assert all(record.keys() == keys for record in records)


@pytest.mark.parametrize("name", ["tinymath", "tinymath-small"])
def test_a_card_agrees_with_its_files(name):
    gguf = pytest.importorskip("gguf")
    folder = TINYMATH.parent / name
    card = tomllib.loads((folder / "card.toml").read_text(encoding="utf-8"))
    for file, told in card["files"].items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == told["sha256"]
    reader, facts = gguf.GGUFReader(folder / card["file"]), card["architecture"]
    assert sum(int(tensor.n_elements) for tensor in reader.tensors) == facts["parameters"]
    for fact, field in (("layers", "block_count"), ("context", "context_length")):
        assert reader.fields[f"llama.{field}"].contents() == facts[fact]
    for file in (card["questions"], *card["tests"]):
        assert (folder / file).is_file()
