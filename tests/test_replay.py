"""The replay of `benchmarks/stopping.py`, on questions small enough to follow by hand."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path as File

from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.lines import write_records
from lmsi_cli.records import Path
from lmsi_cli.stopping import Decision, Stop

SCRIPT = File(__file__).parent.parent / "benchmarks" / "stopping.py"
spec = importlib.util.spec_from_file_location("stopping_benchmark", SCRIPT)
assert spec and spec.loader
benchmark = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = benchmark
spec.loader.exec_module(benchmark)

TWO = Stop("window", 2)
cast = st.lists(st.tuples(st.sampled_from([None, "1", "1", "2"]), st.integers(1, 40)), min_size=1)


def path(i, answer, tokens, question="q", text=" Well."):
    return Path(
        question_id=question, path=i, seed=i, text=text, num_generated_tokens=tokens, logprob=-1.0,
        stop_reason="answer", predicted_answer=answer, extract_rule="marker" if answer else None,
    )  # fmt: skip


def recorded(*pairs):
    return [path(i, answer, tokens) for i, (answer, tokens) in enumerate(pairs)]


def test_one_after_another_spends_nothing_in_vain():
    left = benchmark.replay(recorded(("1", 9), ("1", 9), ("1", 9)), TWO, 1)
    assert ([p.path for p in left.ended], left.late, left.cancelled, left.lost) == ([0, 1], 0, 0, 0)


def test_what_runs_beside_the_deciding_path_is_cancelled_or_late():
    paths = recorded(("1", 10), ("1", 30), ("2", 15), ("1", 40), ("1", 99))
    # 0, 1 and 2 begin at 0; 3 at 10, when 0 ends; 4 waits for 1, which ends at 30 and decides
    left = benchmark.replay(paths, TWO, 3)
    assert [p.path for p in left.ended] == [0, 1, 2]
    assert (left.late, left.cancelled, left.lost) == (1, 1, 20)


@given(cast, st.integers(1, 9))
def test_a_wave_changes_what_is_spent_but_not_what_decides(pairs, wave):
    paths = recorded(*pairs)
    decision = Decision(TWO)
    for p in paths:
        decision.tell(p.path, p.predicted_answer)
    left = benchmark.replay(paths, TWO, wave)
    needed = decision.after or len(paths)
    assert {p.path for p in left.ended} >= set(range(needed))
    assert len(left.ended) == needed + left.late
    assert left.late + left.cancelled < wave
    assert bool(left.lost) <= bool(left.cancelled)


def test_the_whole_script(tmp_path):
    said = [("1", " 1 + 1 = 3."), ("1", " 1 + 1 = 3."), ("2", " 1 + 1 = 2."), ("2", " 2 + 0 = 2.")]
    write_records(
        tmp_path / "paths.jsonl",
        [path(i, a, 10, f"q{q}", text) for q in (0, 1) for i, (a, text) in enumerate(said)],
    )
    gold = tmp_path / "gold.jsonl"
    gold.write_text('{"id": "q0", "answer": 2}\n{"id": "q1", "answer": "9"}\n')

    def run(*more):
        command = [sys.executable, SCRIPT, tmp_path, "--stop", "window:2", "--wave", "1", *more]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout

    full, checked = json.loads(run("--json", "--gold", gold))
    assert (full["paths"], full["tokens"], full["right"]) == (8, 80, 0.5)
    assert (checked["paths"], checked["saved"], checked["changed"]) == (8, 0.0, 0)
    plain = json.loads(run("--json", "--plain"))[1]
    assert (plain["paths"], plain["saved"], plain["stopped"], plain["late"]) == (4, 0.5, 2, 0)
    assert (plain["changed"], plain["at_tie"], plain["right"]) == (2, 2, None)  # from 2 to 2
    assert "window:2" in run()
