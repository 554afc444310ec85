"""A run goes on from the paths that are there, and under the same settings alone."""

import random
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmsi_cli.config.sampling import SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.resume import MOST, DrawnPaths, check_same
from lmsi_cli.run_folder import RunDir


def test_bits_say_what_a_set_would():
    rng = random.Random(3)
    drawn, keys = DrawnPaths(), {}
    for _ in range(3000):
        question, path = f"q{rng.randrange(90)}", rng.randrange(40)
        keys.setdefault((question, path), path % 3 == 0)
        drawn.add(question, path, path % 3 == 0)
    assert drawn.paths == len(keys)
    assert drawn.parsed == sum(keys.values())
    assert drawn.questions == {q for q, _ in keys}
    asked = [*drawn.questions, "other"]
    lacking = {q: [i for i in range(40) if (q, i) not in keys] for q in asked}
    assert {q: list(drawn.lacks(q, 40)) for q in asked} == lacking
    few = {q: [i for i in own if i < 9] for q, own in lacking.items()}
    assert {q: list(drawn.lacks(q, 9)) for q in asked} == few


def test_a_number_no_run_uses_is_no_path_but_its_question_is_known():
    drawn = DrawnPaths()
    drawn.add("a", -1, parsed=True)
    drawn.add("a", MOST, parsed=True)
    assert (drawn.paths, drawn.parsed) == (0, 0)
    assert list(drawn.lacks("a", 2)) == [0, 1]
    assert "a" in drawn.questions


def test_a_path_costs_a_few_bytes_at_most():
    tracemalloc.start()
    drawn = DrawnPaths()
    for number in range(500 * 32):
        drawn.add(f"q-{number // 32:012x}", number % 32, parsed=True)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 8 * drawn.paths == 8 * 16_000  # tuples in a dict: some 160


texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | texts
    | st.floats(allow_nan=False)
    | st.tuples(texts, texts)
)


# A known setting has a kind of its own, and is refused with any other.
names = texts.filter(lambda text: text not in SampleConfig.__struct_fields__)


@given(st.dictionaries(names, scalars, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_saved_settings_are_the_same(tmp_path, values):
    run = RunDir(tmp_path)
    run.save_settings("sample", values)
    check_same(run.load_settings()["sample"], values, "the run")  # raises where one is another


OTHER_SETTINGS = {
    "left out": ({"t": 0.7}, {}, ["t: 0.7 in the run folder, not set now"]),
    "new": ({}, {"t": "x"}, ["t: not set in the run folder, x now"]),
    "list": ({"f": ["a"]}, {"f": ("b",)}, ["f: ['a'] in the run folder, ['b'] now"]),
}  # fmt: skip


@pytest.mark.parametrize(("saved", "now", "told"), OTHER_SETTINGS.values(), ids=OTHER_SETTINGS)
def test_other_settings_are_refused_with_their_names(saved, now, told):
    with pytest.raises(LmsiError, match="the paths in r had other settings") as e:
        check_same(saved, now, "the paths in r")
    assert [part for part in told if part not in str(e.value)] == []
    assert "--overwrite" in e.value.hint


def test_an_empty_list_is_not_set_and_a_moved_file_is_the_same():
    check_same({}, {"f": ()}, "the paths in r")
    check_same({"f": []}, {}, "the paths in r")
    with pytest.raises(LmsiError, match=r"f: \['a'\] in the run folder, not set now"):
        check_same({"f": ["a"]}, {"f": ()}, "the paths in r")
    # a file may be moved
    moved = ({"model": "a.gguf", "model_sha256": "1"}, {"model": "b.gguf", "model_sha256": "1"})
    check_same(*moved, "the paths in r")
