"""Bad input of `lmsi eval` and `lmsi compare`: one clear line, before a model is loaded."""

import json

import broken_models
import pytest
from bad_input_cases import SAMPLE, Case
from test_bad_input import refused

from lmsi_cli.run_folder import RunDir

pytestmark = pytest.mark.model
EVAL = "eval r --data test.jsonl --modes cot --threads 1 --max-tokens 4 --quiet"
TRAINED = (
    '{"id": "t", "question": "tom has 3 pens, tom gets 4 more: how many pens now", "answer": 7}\n'
)
SAMPLES = "eval i --import s.jsonl"
OURS = "give a samples_*.jsonl that lm-evaluation-harness wrote with --log_samples"


def sample(**fields):
    told = {"doc": {"question": "1 + 1?", "answer": "2"}, "resps": [["2"]], **fields}
    return json.dumps({k: v for k, v in told.items() if v is not None}) + "\n"


CASES = {
    "no data": Case("eval r", {}, "no questions to measure on", "give --data FILE"),
    "a file twice": Case(
        f"{EVAL} --data test.jsonl", {}, "test.jsonl: --data names it twice", "name each file once"
    ),
    "two sets of one name": Case(
        f"{EVAL} --data ./test.jsonl",
        {},
        "./test.jsonl: another --data file is called test too",
        "rename one",
    ),
    "an id for two answers": Case(
        "eval r --data twice.jsonl",
        {
            "twice.jsonl": '{"id": "t", "question": "1 + 1?", "answer": 2}\n'
            '{"id": "t", "question": "1 + 1?", "answer": 3}\n'
        },
        "twice.jsonl:2: id 't' is also at twice.jsonl:1, with another answer",
        "give each question its own id, or none at all",
    ),
    "an answer of another kind": Case(
        "eval r --data who.jsonl",
        {"who.jsonl": '{"id": "w", "question": "Who?", "answer": "Anna"}\n'},
        "question 'w': its answer 'Anna' is not a number (1 of 1 questions)",
        "correct the answer, or choose another --task",
    ),
    "dates that were fractions": Case(
        "eval r --data shares.csv --task number",
        {"shares.csv": "id,question,answer\r\na,How much?,2-Jan\r\nb,Which?,4-Mar\r\n"},
        "question 'a': its answer '2-Jan' is not a number (2 of 2 questions)",
        "a spreadsheet takes 1/2 for a date: format the column as text there, and type it again",
    ),
    "an answer that is NaN": Case(
        "eval r --data gap.jsonl",
        {"gap.jsonl": '{"question": "x", "answer": 1}\n{"question": "y", "answer": NaN}\n'},
        "gap.jsonl:2: no 'answer': it is NaN (1 of 2 questions have none)",
        "every question needs its right answer here",
    ),
    "an entry without a box": Case(
        "eval r --data math:m.jsonl",
        {
            "m.jsonl": '{"problem": "x", "solution": "$\\\\boxed 2$"}\n'
            '{"problem": "y", "solution": "3"}\n'
        },
        "m.jsonl:2: no 'answer': its solution has no \\boxed{} (1 of 2 questions have none)",
        "every question needs its right answer here",
    ),
    "yes for a number": Case(
        "eval r --data true.jsonl",
        {"true.jsonl": '{"id": "w", "question": "Is it?", "answer": true}\n'},
        "question 'w': its answer 'yes' is not a number (1 of 1 questions)",
        "correct the answer, or choose another --task",
    ),
    "no adapter to gain by": Case(
        f"{EVAL} --require-gain",
        {"r/adapter/adapter.gguf": None},
        "r: no adapter to require a gain of",
        "`lmsi train` it",
    ),
    "no such adapter": Case(
        f"{EVAL} --adapter none.gguf",
        {},
        "none.gguf: no such adapter",
        "give a GGUF adapter or a run folder",
    ),
    "trained on": Case(
        "eval r --data seen.jsonl",
        {"seen.jsonl": TRAINED},
        "seen holds 1 of the 2 questions that the adapter was trained on: a",
        "take them out of the set: an answer that was learned shows nothing; "
        "--allow-overlap measures all the same",
    ),
    "a temperature": Case(
        f"{EVAL} --temperature 0.7,hot",
        {},
        "--temperature: expected one or more, each a number, at least 0 and at most 10, "
        "got '0.7,hot'",
    ),
    "a scale": Case(
        f"{EVAL} --adapter-scale 0",
        {},
        "--adapter-scale: expected one or more, each a number, above 0 and at most 100, got '0'",
    ),
    "no samples": Case(SAMPLES, {"s.jsonl": "\n"}, "s.jsonl: no samples in it", OURS),
    "other lines": Case(
        SAMPLES, {"s.jsonl": sample(resps=None)}, "s.jsonl:1: no field 'resps'", OURS
    ),
    "likelihoods": Case(
        SAMPLES,
        {"s.jsonl": sample(resps=[[[-1.5, False]], [[-2.5, True]]])},
        "s.jsonl:1: its answers are likelihoods of given choices, not texts",
        "import a task that generates its answers",
    ),
    "samples without right answers": Case(
        SAMPLES,
        {"s.jsonl": sample(doc={"question": "1 + 1?"})},
        "s.jsonl:1: no right answer in its doc",
        "name the layout of its data set: --import gsm8k:FILE",
    ),
    "samples of two runs": Case(
        SAMPLES,
        {"s.jsonl": sample() + sample(resps=[["3"]])},
        "s.jsonl:2: question 'q-{id}' was there before, with another text or answer",
        "give the samples of one task and one run",
    ),
    "nothing to compare": Case(
        "compare r r", {}, "r: no evaluation in it", "run `lmsi eval r --data FILE` first"
    ),
    "no result": Case(
        "compare x.json x.json",
        {"x.json": '{"variants": 3}'},
        "x.json: not a result of `lmsi eval`: Expected `array`, got `int` - at `$.variants`",
        "give a file that ends in .result.json, or a run folder",
    ),
}  # fmt: skip


@pytest.fixture
def sampled(folder, lmsi):
    """A run folder ``r`` with paths and an adapter."""
    assert lmsi(*SAMPLE.split(), "--quiet").exit_code == 0
    run = RunDir("r")
    run.adapter.mkdir()
    broken_models.adapter(run.adapter_gguf, 512)
    return folder


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_input_gets_one_clear_line(sampled, lmsi, case):
    for name, content in case.files.items():
        file = sampled / name
        if content is None:
            file.unlink()
        else:
            file.write_text(content)
    done = lmsi(*case.argv.split())
    told = case.told
    if "{id}" in told:
        told = told.replace("{id}", done.stderr.partition("'q-")[2][:12])
    refused(done, told, case.hint)
    assert not list(sampled.glob("*/eval/*.result.json"))


def test_overlap_is_allowed_by_name_and_a_gain_is_required_by_exit_code(sampled, lmsi):
    (sampled / "seen.jsonl").write_text(TRAINED)
    argv = EVAL.replace("test.jsonl", "seen.jsonl").split()
    done = lmsi(*argv, "--allow-overlap", "--require-gain")
    assert done.exit_code == 3
    assert "CoT greedy *" in done.stdout
    assert done.stderr == "no significant gain: CoT greedy decides.\n"
    assert lmsi(*argv, "--allow-overlap").exit_code == 0


def test_only_questions_with_kept_paths_count_as_trained_on(sampled, lmsi):
    example = {"prompt": "Q: 1 + 1?\nA:", "completion": " The answer is 2.",
               "format": "direct-zero", "question_id": "b", "path": None}  # fmt: skip
    RunDir("r").train.write_text(json.dumps(example) + "\n")
    (sampled / "seen.jsonl").write_text(TRAINED)
    assert lmsi(*EVAL.replace("test.jsonl", "seen.jsonl").split()).exit_code == 0


def test_a_dry_run_tells_what_the_set_can_show_and_writes_nothing(sampled, lmsi):
    questions = [{"question": f"{i} + 1?", "answer": i + 1, "group": i // 2} for i in range(20)]
    (sampled / "many.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    argv = EVAL.replace("test.jsonl", "many.jsonl").split()
    done = lmsi(
        *argv, "--dry-run", "--json", "--modes", "cot,sc", "-n", "3", "--temperature", "1,2"
    )
    (plan,) = json.loads(done.stdout)
    assert (plan["questions"], plan["groups"], plan["models"]) == (20, 10, 2)
    assert plan["answers"] == 2 * 20 * (1 + 3 + 3)
    assert 0 < plan["tokens"] <= 4 * plan["answers"]
    assert 0.3 < plan["smallest_visible"] < 0.9
    assert not RunDir("r").eval_dir.exists()
    assert "smallest difference it can show" in lmsi(*argv, "--dry-run").stdout
