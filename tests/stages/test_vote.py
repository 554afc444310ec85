"""The voting stage and its verdict: what is written, left out, refused, forced, and shown."""

import json
import random
from collections import Counter

import msgspec
import pytest
from builders import path, tree
from commands import call, refused, works
from msgspec.structs import replace
from stage_helpers import QUESTIONS, examples_of, sampled, voted

from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.base import path_seed
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Path, Preference, Question, Vote
from lmsi_cli.run_folder import RunDir, discard
from lmsi_cli.stages.vote import nothing_kept, permit
from lmsi_cli.verdict.rules import CARE, Verdict

LOOSE = {"min_votes": 1, "min_share": 0.0, "max_paths_per_question": 0}


@pytest.fixture
def run(tmp_path):
    """A run folder whose four questions have four paths each."""
    sampled(tmp_path, SampleConfig(paths=4))
    return RunDir(tmp_path)


def rewrite(run, change):
    """Give every path the fields that ``change`` says."""
    paths = list(read_records(run.paths, Path))
    write_records(run.paths, [replace(p, **change(p)) for p in paths])


def votes_of(run):
    return {v.question_id: v for v in read_records(run.votes, Vote)}


def test_votes_examples_in_all_four_formats_and_pairs_are_written(run):
    summary, votes, examples = voted(run.root, **LOOSE), votes_of(run), examples_of(run)
    winners = {q: v.predicted_answer for q, v in votes.items()}
    assert winners == {"q0": "0", "q1": "2", "q2": "4", "q3": None}
    # "I do not know", "1 + 1 = 2, so two" and "2 + 2 = 5"
    assert (votes["q1"].no_answer, votes["q1"].truncated, votes["q2"].refuted) == (1, 1, 1)
    assert votes["q3"].tie
    assert (summary.questions, summary.kept_questions, summary.pairs) == (4, 3, 2)
    kept = [(q, path) for q, v in votes.items() for path in v.kept]
    for form in ("cot-few", "cot-zero"):
        assert sorted((e.question_id, e.path) for e in examples if e.format == form) == sorted(kept)
    direct = Counter(e.format for e in examples if e.path is None)
    assert direct == {"direct-few": 3, "direct-zero": 3}
    texts = {q.id: q.question for q in QUESTIONS}
    assert all(texts[e.question_id] in e.prompt for e in examples)
    pairs = list(read_records(run.pairs, Preference))
    # q1 has one answer, and q3 a tie
    wanted = {(q, form) for q in ("q0", "q2") for form in ("cot-few", "cot-zero")}
    assert len(pairs) == 4 and {(p.question_id, p.format) for p in pairs} == wanted
    learned = {(e.prompt, e.completion) for e in examples}
    for p in pairs:
        assert (p.prompt, p.chosen) in learned  # as plain training would learn it
        assert (p.question_id, p.chosen_path) in kept
        assert (p.question_id, p.rejected_path) not in kept
    everything = b"".join(tree(run.root).values())
    assert b"What is 1 + 1?" in everything and b"g0ld" not in everything  # from the first path on


def each(**fields):
    return lambda run: rewrite(run, lambda path: fields)


NOBODY = "none of 16 paths can vote: .*"
REFUSED = {
    "not read": (each(predicted_answer=None), f"{NOBODY}15 without an answer, 1 cut off"),
    "false": (each(text=" 1 + 1 = 3. The answer is 3."), f"{NOBODY}14 with a false equation"),
    "twice": (lambda run: run.paths.write_bytes(run.paths.read_bytes() * 2),
              r"paths.jsonl: path \d of question 'q\d' is there twice"),
    "unknown": (lambda run: write_records(run.questions, QUESTIONS[1:]),
                "questions.jsonl: question 'q0' is not there"),
    "of another run": (each(seed=1), "path 0 of question 'q0' is of another run: .* seed 0"),
    "no file": (lambda run: run.paths.unlink(), "paths.jsonl: no such file"),
    "torn": (lambda run: run.paths.write_bytes(b'{"question_id"'), "paths.jsonl: holds no paths"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "told"), REFUSED.values(), ids=REFUSED)
def test_paths_that_cannot_vote_together_are_refused_and_nothing_is_written(run, spoil, told):
    spoil(run)
    with pytest.raises(LmsiError, match=told) as e:
        voted(run.root)
    assert e.value.hint
    assert not run.votes.exists() and not run.train.exists()


def test_what_leaves_nothing_or_little_to_train_on_is_named(run):
    assert nothing_kept(run, voted(run.root, **LOOSE)) is None
    done = call("vote", run.root, "-q", "--min-votes", 9)
    assert done.exit_code == 1 and "kept paths" in done.stdout
    assert f"error: {run.paths}: nothing to train on" in done.stderr
    assert "min-votes removed 9 of 16" in done.stderr
    rewrite(run, lambda p: {} if p.path else {"stop_reason": "length"})
    (warning,) = voted(run.root).warnings
    assert "31% of 16 paths are cut off" in warning and "--max-tokens" in warning
    said = {"text": " So.", "stop_reason": "answer"}
    rewrite(run, lambda p: {"predicted_answer": str(p.path % 2), **said})
    summary = voted(run.root)
    assert (summary.ties, summary.kept_paths, examples_of(run)) == (4, 0, [])
    assert "tie removed 16 of 16" in str(nothing_kept(run, summary))


TRUE, FALSE = " 2 * 2 = 4. The answer is 4.", " 2 * 2 = 5. The answer is 4."
SLIP, REPEATED = " 2 * 2 = 3. The answer is 3.", " 2 * 2 = 6. The answer is 6."
SAID = [(TRUE, "4")] * 3 + [(FALSE, "4"), (SLIP, "3")] + [(REPEATED, "6")] * 3


@pytest.fixture
def disputed(run):
    """Of two questions three sound paths each, a false step to the winner, four wrong answers."""
    paths = [
        path(i, answer, text, question_id=q, seed=path_seed(0, q, i))
        for q in ("q1", "q2") for i, (text, answer) in enumerate(SAID)
    ]  # fmt: skip
    write_records(run.paths, paths)
    return run


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("", (0, 1, 2)),
        ("--preset paper", (0, 1, 2, 3)),
        ("--config {}", (0,)),
        ("--config {} --preset paper", (0, 1, 2, 3)),
    ],
)
def test_flags_beat_the_config_file_and_say_what_is_kept(disputed, words, kept):
    config = disputed.root / "c.toml"
    config.write_text("[vote]\npreset = 'paper'\nmax_paths_per_question = 1\n")
    assert works("vote", disputed.root, "-q", *words.format(config).split()).stderr == ""
    assert [v.kept for v in votes_of(disputed).values()] == [kept, kept]


def test_questions_kept_for_measuring_are_refused_unless_forced(disputed):
    files = other, seen = [disputed.root / name for name in ("other.jsonl", "seen.jsonl")]
    write_records(other, [Question(id="x", question="How many legs has a cow?")])
    write_records(seen, [Question(id="x", question="what is 1 + 1")])
    argv = ("vote", disputed.root, "-q", *(word for file in files for word in ("--exclude", file)))
    refused(call(*argv), f"{seen} holds 1 of the 4 questions to train on: q1", hint="--force")
    assert not disputed.votes.exists() and not disputed.train.exists()
    assert "false-equation 10" in " ".join(works(*argv, "--force").stdout.split())


# -- the verdict -----------------------------------------------------------------------------------


RIGHT = [replace(q, answer=str(2 * i)) for i, q in enumerate(QUESTIONS)]
STRANGERS = [Question(id=f"x{i}", question="?", answer="1") for i in range(5)]


def test_neither_a_probe_nor_the_order_of_finishing_changes_votes_and_examples(run):
    voted(run.root)
    before = run.votes.read_bytes(), run.train.read_bytes()
    lines = run.paths.read_text().splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    run.paths.write_text("".join(lines))
    voted(run.root, probe=[replace(q, answer="987654321") for q in RIGHT])
    verdict = msgspec.json.decode(run.verdict.read_bytes(), type=Verdict)
    assert verdict.evidence.questions == verdict.evidence.probe.questions == 4
    assert (run.votes.read_bytes(), run.train.read_bytes()) == before
    assert b"987654321" not in b"".join(tree(run.root).values())
    discard(run)
    assert not run.verdict.exists()


@pytest.mark.parametrize(
    ("questions", "told"),
    [
        ([*RIGHT, *STRANGERS], "5 of 9 questions are not in {0}, or in other words: x0, x1"),
        ([replace(RIGHT[1], question="What?")], "1 of 1 questions are not in {0}, or in other"),
        ([replace(RIGHT[2], answer="maybe")], "question 'q2': its answer"),
        ([Question(id="q1", question="?")], "{1}:1: no 'answer'"),
    ],
    ids=["ids", "words", "kind", "no answer"],
)
def test_a_probe_that_does_not_fit_is_refused_and_nothing_is_written(run, questions, told):
    probe = run.root / "probe.jsonl"
    write_records(probe, questions)
    done = call("vote", run.root, "--probe", probe)
    refused(done, told.format(run.root, probe), hint="hint: ", notes=1)
    assert not run.votes.exists() and not run.verdict.exists()


def test_training_against_the_verdict_needs_force(run):
    voted(run.root, min_votes=5)
    told = f"{run.root}: the verdict is not to train: no path of 4 questions is kept"
    refused(call("train", run.root), told, hint=f"`lmsi train {run.root} --force`")
    past = "a.gguf: the model of"  # past the verdict: the script has no model
    assert past in call("train", run.root, "--force").stderr
    voted(run.root)
    assert past in call("train", run.root).stderr
    run.verdict.write_text('{"verdict": "perhaps"}')
    with pytest.raises(LmsiError, match=r"verdict.json: .*perhaps"):
        permit(run, "")
    run.verdict.unlink()
    permit(run, "")  # raises nothing


def test_vote_shows_the_verdict_and_its_figures(run):
    probe = run.root / "probe.jsonl"
    write_records(probe, RIGHT)
    shown = works("vote", run.root, "--probe", probe)
    assert "maj@m" in shown.stdout
    assert shown.stdout.index("agreement (share") < shown.stdout.index("verdict: train with care")
    told = json.loads(works("vote", run.root, "--probe", probe, "--json").stdout)
    assert (told["questions"], told["verdict"]["verdict"]) == (4, CARE)
    assert told["verdict"] == json.loads(run.verdict.read_text())
