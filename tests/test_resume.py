"""Keys of drawn paths as bits: what a set of tuples would say, in a fraction of its memory."""

import random
import tracemalloc

from lmsi_cli.resume import MOST, DrawnPaths


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
    for q in [*drawn.questions, "other"]:
        lacking = [i for i in range(40) if (q, i) not in keys]
        assert list(drawn.lacks(q, 40)) == lacking
        assert drawn.lacking(q, 40) == len(lacking)
        assert drawn.lacking(q, 9) == len([i for i in lacking if i < 9])


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
    for number in range(2000 * 32):
        drawn.add(f"q-{number // 32:012x}", number % 32, parsed=True)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert drawn.paths == 64_000
    assert held < 8 * drawn.paths  # tuples in a dict: some 160
