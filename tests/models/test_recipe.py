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

import make_questions
import pytest
import solutions
from families import KNOWN
from hypothesis import given, settings
from hypothesis import strategies as st
from make_questions import KINDS, SHIPPED, QuestionSet, same_words
from stories import Problem, Step, exact_value

TINYMATH = Path(__file__).parents[2] / "models" / "tinymath"
RECIPE = TINYMATH / "recipe"
GOLDEN = json.loads(Path(__file__).with_name("golden_recipe.json").read_text(encoding="utf-8"))
CARD = tomllib.loads((TINYMATH / "card.toml").read_text(encoding="utf-8"))
FAMILIES = [(kind, family) for kind, (families, _) in KINDS.items() for family in families]
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


@pytest.mark.parametrize(("kind", "family"), FAMILIES, ids=lambda value: value)
@settings(max_examples=60)
@given(seed=st.integers(min_value=0))
def test_every_step_and_the_combined_expression_are_right(kind, family, seed):
    problem = draw(kind, family, seed)
    assert problem.family == family
    assert [exact_value(step.expression) for step in problem.steps] == [
        step.result for step in problem.steps
    ]
    assert exact_value(problem.combined) == problem.answer == problem.steps[-1].result
    assert 0 < problem.answer < 20_000


@pytest.mark.parametrize("style", solutions.STYLES)
@settings(max_examples=60)
@given(seed=st.integers(min_value=0), case=st.sampled_from(FAMILIES))
def test_every_equation_of_a_solution_is_true(style, seed, case):
    problem = draw(*case, seed)
    text = solutions.solve(problem, style, Random(seed))
    rationale, answer = text.split(" The answer is ")
    assert answer == f"{problem.answer}."
    for left, right in equations(rationale):
        assert exact_value(left) == exact_value(right)


def equations(rationale):
    """``That is 5. It is 2 + 3 = 5.`` -> ``("2 + 3", "5")``: the numbers around an equals sign."""
    words = rationale.split()
    for at, word in enumerate(words):
        if word == "=":
            start = at
            while start and set(words[start - 1]) <= set("0123456789+-*/()"):
                start -= 1
            yield " ".join(words[start:at]), words[at + 1].rstrip(".,")


def test_exact_value_counts_without_eval():
    assert exact_value("( 3 * 12 - 6 ) / 2") == 15


@pytest.mark.parametrize(
    "text", ["7 / 2", "1 / 0", "2 ** 3", "-1", "True", "1.5", "__import__('os')", "1 +", ""]
)
def test_exact_value_refuses_everything_else(text):
    with pytest.raises(ValueError, match=r"not an expression|only whole numbers|no whole-number"):
        exact_value(text)


# --- question sets ------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", SHIPPED, ids=lambda wanted: wanted.file)
def test_a_shipped_set_is_what_its_recipe_and_the_card_say(wanted):
    records = read_set(wanted.file)
    card = CARD["files"][wanted.file]
    assert len(records) == wanted.count == card["count"]
    assert {"answer" in record for record in records} == {wanted.answers} == {card["answers"]}
    keys = {"family", "id", "question"} | ({"answer"} if wanted.answers else set())
    assert all(set(record) == keys for record in records)


@pytest.mark.parametrize("wanted", SHIPPED, ids=lambda wanted: wanted.file)
def test_a_shipped_set_is_balanced_over_its_families(wanted):
    families = [record["family"] for record in read_set(wanted.file)]
    counts = [families.count(family) for family in KINDS[wanted.kind][0]]
    assert sum(counts) == wanted.count
    assert max(counts) - min(counts) <= 1


def test_no_question_and_no_id_occurs_twice_in_the_shipped_sets():
    records = [record for wanted in SHIPPED for record in read_set(wanted.file)]
    assert len({same_words(record["question"]) for record in records}) == len(records) == 860
    assert len({record["id"] for record in records}) == len(records)


def test_no_shipped_question_is_in_the_text_of_the_second_stage():
    # 8,000 documents hold more than the two million tokens that either seed was read for.
    shipped = {record["question"] for wanted in SHIPPED for record in read_set(wanted.file)}
    for seed in (77, 78):
        rng = Random(seed)
        for _ in range(8_000):
            document = solutions.document(rng, solutions.SECOND_STAGE)
            questions = {part[3:].split("\nA:")[0] for part in document.split("\n\n")}
            assert not shipped & questions


def test_the_sets_are_written_again_with_the_same_bytes(tmp_path):
    assert run_script("make_questions", "--folder", tmp_path).returncode == 0
    for wanted in SHIPPED:
        assert (tmp_path / wanted.file).read_bytes() == (TINYMATH / wanted.file).read_bytes()
    assert len(list(tmp_path.iterdir())) == len(SHIPPED)


def test_more_questions_repeat_none_of_the_excluded_ones(tmp_path):
    # The seed of test.jsonl: without --exclude it would give the very same questions.
    out = tmp_path / "more.jsonl"
    shared = ("--count", 50, "--seed", 40_003, "--out", out)
    assert run_script("make_questions", *shared).returncode == 0
    again = {json.loads(line)["question"] for line in out.read_text().splitlines()}
    taken = {record["question"] for record in read_set("test.jsonl")}
    assert len(again & taken) > 40
    result = run_script("make_questions", *shared, "--exclude", TINYMATH / "test.jsonl")
    assert result.returncode == 0
    fresh = {json.loads(line)["question"] for line in out.read_text().splitlines()}
    assert len(fresh) == 50
    assert not fresh & taken


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--smoke"], "--smoke would shorten the shipped sets"),
        (["--count", "5"], "--count, --seed and --out go together"),
        (["--count", "0", "--seed", "1", "--out", "x.jsonl"], "--count must be at least 1, not 0"),
    ],
)
def test_options_that_do_harm_or_miss_a_part_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as refusal:
        make_questions.parse_arguments(arguments)
    assert refusal.value.code == 2
    assert message in capsys.readouterr().err


def test_the_check_names_a_question_that_occurs_twice():
    record = {"id": "a-1", "question": "How many eggs?", "family": "chain"}
    other = {"id": "b-1", "question": " how many  EGGS? ", "family": "chain"}
    with pytest.raises(SystemExit, match="b-1 occurs twice"):
        make_questions.check_disjoint([record, other])


def test_a_broken_excluded_file_is_named_with_its_line(tmp_path):
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question": "One?"}\n{"text": "Two?"}\n')
    with pytest.raises(SystemExit, match=r"broken.jsonl:2: no JSON with a question"):
        make_questions.read_taken([broken])


def test_a_family_that_has_nothing_new_is_named():
    def always_the_same(rng, family):
        return draw("hard", "units", 1)

    wanted = make_questions.make_records(QuestionSet("x", "x", "hard", 1, 1, True), set())
    assert wanted[0]["id"] == "x-000001"
    taken = {same_words(always_the_same(None, None).question)}
    with pytest.raises(SystemExit, match="units: 1000 draws in a row"):
        make_questions.draw_new(Random(1), always_the_same, "units", taken)


# --- the card -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CARD["files"])
def test_the_card_has_the_hash_of_every_file(name):
    digest = hashlib.sha256((TINYMATH / name).read_bytes()).hexdigest()
    assert digest == CARD["files"][name]["sha256"]


def test_the_small_model_s_card_agrees_with_its_file():
    gguf = pytest.importorskip("gguf")
    folder = TINYMATH.parent / "tinymath-small"
    card = tomllib.loads((folder / "card.toml").read_text(encoding="utf-8"))
    weights = (folder / card["file"]).read_bytes()
    assert hashlib.sha256(weights).hexdigest() == card["files"][card["file"]]["sha256"]
    assert len(weights) <= 28_000_000  # the wheel carries it
    reader = gguf.GGUFReader(folder / card["file"])
    facts = card["architecture"]
    assert reader.fields["llama.block_count"].contents() == facts["layers"]
    assert sum(int(tensor.n_elements) for tensor in reader.tensors) == facts["parameters"]
    for name in (card["questions"], *card["tests"]):
        assert (folder / name).is_file()


def test_the_card_names_the_families():
    assert set(CARD["abilities"]["can"]) == set(KINDS["known"][0])
    assert set(CARD["abilities"]["half_can"]) == set(KINDS["hard"][0])


def test_the_card_agrees_with_the_weights():
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(TINYMATH / CARD["file"])
    facts = CARD["architecture"]
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
