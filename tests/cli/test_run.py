"""`lmsi run` on the embedded model, small: its single steps, a second call, and two rounds."""

import json

import commands
import pytest
from builders import tree

from lmsi_cli.catalog import cards
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Question, TrainExample
from lmsi_cli.stages import rounds

pytestmark = [pytest.mark.model, pytest.mark.slow]

SMALL = """
sample = {threads = 1, paths = 3, max_tokens = 128}
vote = {min_votes = 1, formats = ["cot-zero", "direct-zero"]}
train = {max_steps = 1, batch_size = 2, rank = 4}
eval = {threads = 1, limit = 1, max_tokens = 128, modes = ["cot"]}
"""
MODELS = cards()["tinymath"].parent
ALL = ("run", "-o", "all", "--set", "sample.limit=4")
PROBE, OTHERS = 10, 5
RUN = ("run", "q.jsonl", "-o", "two", "--probe", "probe.jsonl", "--data", "exam.jsonl",
       "--set", "round_temperature=0.7,1.0", "--rounds", "2", "--force")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Stand beside questions, a probe and an exam; tests build on one another's runs."""
    folder = tmp_path_factory.mktemp("run")
    probe = (MODELS / "probe.jsonl").read_text().splitlines(True)[:PROBE]
    others = (MODELS / "questions.jsonl").read_text().splitlines(True)[:OTHERS]
    (folder / "probe.jsonl").write_text("".join(probe))
    (folder / "q.jsonl").write_text("".join(probe + others))
    (folder / "exam.jsonl").write_text((MODELS / "test.jsonl").read_text())
    (folder / "small.toml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as m:
        m.chdir(folder)
        yield folder


def call(*argv, code=0):
    done = commands.call(*argv, "--config", "small.toml", "--json", "--quiet")
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def everything(folder):
    """All files but those that say when and how fast somebody worked there."""
    apart = ("status.json", "rounds.json", ".result.json")
    files = {p.relative_to(folder).as_posix(): data for p, data in tree(folder).items()}
    return {name: data for name, data in files.items() if not name.endswith(apart)}


def test_one_command_does_it_all_and_a_second_call_nothing_again(place):
    test, unseen = call(*ALL)
    assert (test["data"], unseen["data"]) == ("test", "out_of_domain")
    assert [v["name"] for v in test["variants"]] == ["base", "adapter"]
    assert [(p["line"], p["change"]["n"]) for p in test["pairs"]] == [("CoT greedy", 1)]
    before = everything(place / "all")
    assert "adapter/checkpoint.safetensors" not in before
    assert len(before["paths.jsonl"].splitlines()) == 4 * 3
    for name in ("questions.jsonl", "paths.jsonl", "train.jsonl"):  # no right answer anywhere
        lines = before[name].splitlines()
        assert lines and not any(json.loads(line).get("answer") for line in lines), name
    call(*ALL)
    assert everything(place / "all") == before


def test_single_commands_make_the_same_run(place):
    """Same seeds, same calls: the same paths, votes, examples and adapter, to the last byte."""
    call("sample", MODELS / "questions.jsonl", "--limit", 4, "-o", "steps")
    assert call("vote", "steps")["paths"] == 4 * 3
    trained = call("train", "steps")
    assert trained["proof"]["ok"] and trained["proof"]["moved"] > 0.001
    for name in ("paths.jsonl", "votes.jsonl", "train.jsonl", "adapter/adapter.gguf"):
        assert (place / "steps" / name).read_bytes() == (place / "all" / name).read_bytes(), name


# -- rounds --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(place):
    """What a run of two rounds tells that was interrupted between them and given again."""
    opened = rounds.opened

    def stop(job, folder, *more, **other):
        if folder.root.name == "round-2":
            raise KeyboardInterrupt
        return opened(job, folder, *more, **other)

    with pytest.MonkeyPatch.context() as m:
        m.setattr(rounds, "opened", stop)
        assert "interrupted" in call(*RUN, code=130)
    assert json.loads((place / "two/rounds.json").read_text())["best"]["number"] == 1
    first = everything(place / "two")
    first.pop("run.toml")  # what a later command settles is written there, too
    told = call(*RUN)
    assert everything(place / "two").items() >= first.items()
    return told


def test_the_second_round_draws_otherwise_with_the_first_ones_adapter(place, told):
    book = told["rounds"]["rounds"]
    assert [(r["drawn_by"], r["temperature"]) for r in book] == [(0, 0.7), (1, 1.0)]
    assert book[1]["started_from"] == 0
    seeds = [{p["seed"] for p in commands.paths_in(f)} for f in ("two", "two/round-2")]
    assert len(seeds[0]) == len(seeds[1]) == 3 * (PROBE + OTHERS) and not seeds[0] & seeds[1]
    assert commands.settings("two/round-2")["adapter"] == str(place / "two/adapter/adapter.gguf")


def test_the_probe_decides_and_is_not_trained_on_and_all_rounds_are_measured(place, told):
    ids = {q.id for q in read_records(place / "probe.jsonl", Question)}
    for file in ("two/train.jsonl", "two/round-2/train.jsonl"):
        trained = {e.question_id for e in read_records(place / file, TrainExample)}
        assert trained and not trained & ids
    book = told["rounds"]
    assert (book["by"], book["questions"], book["best"]["by"]) == ("probe", PROBE, "probe")
    found = [book["base"], *(r["figures"] for r in book["rounds"])]
    assert [f["model"] for f in found] == ["base", "adapter", "round-2"]
    means = [sum(f["scores"]) / PROBE for f in found[1:]]
    assert book["best"]["number"] == 1 + means.index(max(means))
    (changes,), (evaluation,) = told["changes"].values(), told["evaluations"]
    pairs = [(c["before"], c["after"]) for c in changes if c["line"] == "CoT greedy"]
    assert pairs == [("base", "adapter"), ("adapter", "round-2")]
    assert [v["name"] for v in evaluation["variants"]] == ["base", "adapter", "round-2"]
    shown = commands.call("report", "two", "--markdown").stdout
    assert f"Round {book['best']['number']} is kept" in shown and "| round-2 |" in shown
    (evaluation,) = call("eval", "two", "--data", "exam.jsonl")  # of the round that is kept
    kept = "adapter" if book["best"]["number"] == 1 else "round-2"
    assert [v["name"] for v in evaluation["variants"]] == ["base", kept]


def test_changed_rounds_are_refused_and_fewer_change_nothing(place):
    warmer = [x.replace("0.7,1.0", "0.7,1.2") for x in RUN]
    assert "temperature: 1.0 in the run folder, 1.2 now" in call(*warmer, code=1)
    assert "init: none in the run folder" in call(*RUN, "--set", "continue_from_last=true", code=1)
    before = (place / "two/rounds.json").read_bytes()
    one = [x for x in RUN if x not in ("--set", "round_temperature=0.7,1.0")]
    fewer = call(*("1" if x == "2" else x for x in one))
    assert [v["name"] for v in fewer[0]["variants"]] == ["base", "adapter"]
    assert (place / "two/rounds.json").read_bytes() == before
