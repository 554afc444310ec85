"""A run goes on from the paths that are there, and under the same settings alone."""

import tracemalloc

import pytest

from lmsi_cli.errors import LmsiError
from lmsi_cli.resume import MOST, DrawnPaths, check_same
from lmsi_cli.run_folder import RunDir


def test_each_path_counts_once_and_lacks_no_more():
    drawn = DrawnPaths()
    for question, path in (("a", 0), ("a", 5), ("a", 5), ("b", 39), ("c", -1), ("c", MOST)):
        drawn.add(question, path, parsed=path != 5)
    assert (drawn.paths, drawn.parsed) == (3, 2)  # no run uses the numbers of c,
    assert drawn.questions == {"a", "b", "c"}  # but it is known
    assert drawn.lacks("a", 7) == (1, 2, 3, 4, 6)
    assert drawn.lacks("a", 2) == (1,)
    assert drawn.lacks("b", 2) == drawn.lacks("c", 2) == drawn.lacks("other", 2) == (0, 1)


def test_a_path_costs_a_few_bytes_at_most():
    tracemalloc.start()
    drawn = DrawnPaths()
    for number in range(500 * 32):
        drawn.add(f"q-{number // 32:012x}", number % 32, parsed=True)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 8 * drawn.paths == 8 * 16_000  # tuples in a dict: some 160


def test_what_was_saved_is_the_same_and_so_is_an_empty_list_and_a_moved_file(tmp_path):
    odd = {"t": 0.1 + 0.2, "n": -(2**60), "f": ("a", "b"), "none": None, "empty": (), "on": True}
    odd |= {'key "½"': '"""\n\\ \x7f½', "": "\r\n'''"}
    RunDir(tmp_path).save_settings("sample", odd)
    check_same(RunDir(tmp_path).load_settings()["sample"], odd, "the run")  # raises if not
    check_same({}, {"f": ()}, "the paths in r")
    check_same({"f": []}, {}, "the paths in r")
    moved = ({"model": "a.gguf", "model_sha256": "1"}, {"model": "b.gguf", "model_sha256": "1"})
    check_same(*moved, "the paths in r")


@pytest.mark.parametrize(
    ("saved", "now", "told"),
    [
        ({"t": 0.7}, {}, "t: 0.7 in the run folder, not set now"),
        ({}, {"t": "x"}, "t: not set in the run folder, x now"),
        ({"f": ["a"]}, {"f": ("b",)}, "f: ['a'] in the run folder, ['b'] now"),
        ({"f": ["a"]}, {"f": ()}, "f: ['a'] in the run folder, not set now"),
    ],
    ids=["left out", "new", "list", "empty"],
)
def test_other_settings_are_refused_with_their_names(saved, now, told):
    with pytest.raises(LmsiError, match="the paths in r had other settings") as e:
        check_same(saved, now, "the paths in r")
    assert told in str(e.value)
    assert "--overwrite" in e.value.hint
