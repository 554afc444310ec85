"""The recipe of the embedded model: problems, solutions, question sets and the card.

The golden problems come from the generator that wrote the released model's training text. While
they hold, equal seeds still give the text that the weights have read.
"""

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from random import Random

import pytest
import solutions
from families import KNOWN
from make_questions import KINDS, SHIPPED
from stories import Problem, Step

TINYMATH = Path(__file__).parents[2] / "models" / "tinymath"
RECIPE = TINYMATH / "recipe"
GOLDEN = json.loads(Path(__file__).with_name("golden_recipe.json").read_text(encoding="utf-8"))
CARD = tomllib.loads((TINYMATH / "card.toml").read_text(encoding="utf-8"))
MIXES = {"FIRST_STAGE": solutions.FIRST_STAGE, "SECOND_STAGE": solutions.SECOND_STAGE}


def draw(kind, family, seed):
    return KINDS[kind][1](Random(seed), family)


def read_set(name):
    lines = (TINYMATH / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def run_script(name, *arguments):
    command = [sys.executable, str(RECIPE / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# --- problems and solutions ---------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN["problems"], ids=lambda c: f"{c['family']}-{c['seed']}")
def test_equal_seeds_give_the_problems_the_weights_have_read(case):
    problem = draw(case["kind"], case["family"], case["seed"])
    assert problem == Problem(
        case["family"],
        case["question"],
        tuple(Step(*step) for step in case["steps"]),
        case["combined"],
    )
    assert problem.answer == case["answer"]


@pytest.mark.parametrize("case", GOLDEN["solutions"], ids=lambda c: f"{c['family']}-{c['style']}")
def test_a_style_words_a_solution_as_it_always_did(case):
    kind = "known" if case["family"] in KNOWN else "hard"
    problem = draw(kind, case["family"], case["seed"])
    assert solutions.solve(problem, case["style"], Random(case["seed"])) == case["text"]


@pytest.mark.parametrize("case", GOLDEN["documents"], ids=lambda c: f"{c['stage']}-{c['seed']}")
def test_equal_seeds_give_the_documents_the_weights_have_read(case):
    assert solutions.document(Random(case["seed"]), MIXES[case["stage"]]) == case["text"]


# --- question sets ------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", SHIPPED, ids=lambda wanted: wanted.file)
def test_a_shipped_set_is_what_its_recipe_and_the_card_say(wanted):
    records = read_set(wanted.file)
    card = CARD["files"][wanted.file]
    assert len(records) == wanted.count == card["count"]
    assert {"answer" in record for record in records} == {wanted.answers} == {card["answers"]}
    keys = {"family", "id", "question"} | ({"answer"} if wanted.answers else set())
    assert all(set(record) == keys for record in records)


def test_the_sets_are_written_again_with_the_same_bytes(tmp_path):
    assert run_script("make_questions", "--folder", tmp_path).returncode == 0
    for wanted in SHIPPED:
        assert (tmp_path / wanted.file).read_bytes() == (TINYMATH / wanted.file).read_bytes()
    assert len(list(tmp_path.iterdir())) == len(SHIPPED)


# --- the card -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tinymath", "tinymath-small"])
def test_a_card_agrees_with_its_files(name):
    gguf = pytest.importorskip("gguf")
    folder = TINYMATH.parent / name
    card = tomllib.loads((folder / "card.toml").read_text(encoding="utf-8"))
    for file, told in card["files"].items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == told["sha256"]
    reader, facts = gguf.GGUFReader(folder / card["file"]), card["architecture"]
    fields = {
        "layers": "llama.block_count",
        "width": "llama.embedding_length",
        "heads": "llama.attention.head_count",
        "kv_heads": "llama.attention.head_count_kv",
        "feed_forward": "llama.feed_forward_length",
        "vocabulary": "llama.vocab_size",
        "context": "llama.context_length",
    }
    found = {key: reader.fields[field].contents() for key, field in fields.items()}
    assert found == {key: facts[key] for key in fields}
    assert sum(int(tensor.n_elements) for tensor in reader.tensors) == facts["parameters"]
    for file in (card["questions"], *card["tests"]):
        assert (folder / file).is_file()


def test_the_card_names_the_families():
    assert set(CARD["abilities"]["can"]) == set(KINDS["known"][0])
    assert set(CARD["abilities"]["half_can"]) == set(KINDS["hard"][0])
