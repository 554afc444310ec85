"""The whole loop on the embedded model, small: one command, its single steps, and a second call."""

import json

import pytest

from lmsi_cli.cli.run import _plan
from lmsi_cli.config import RunConfig

pytestmark = [pytest.mark.model, pytest.mark.slow]

SMALL = """
[sample]
threads = 1
paths = 4
limit = 4
max_tokens = 128
[vote]
min_votes = 1
[train]
max_steps = 3
batch_size = 4
rank = 4
[eval]
threads = 1
paths = 2
limit = 3
max_tokens = 128
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small configuration; the tests of this file build on one another's runs."""
    folder = tmp_path_factory.mktemp("loop")
    (folder / "small.toml").write_text(SMALL)
    return folder


@pytest.fixture
def call(place, lmsi, monkeypatch):
    monkeypatch.chdir(place)

    def run(*argv):
        quiet = [] if argv[0] == "vote" else ["--quiet"]  # there is nothing to watch
        done = lmsi(*argv, "--config", "small.toml", "--json", *quiet)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    return run


def contents(folder):
    """All files but the one that says when somebody last worked there."""
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name != "status.json"]
    return {p.name: p.read_bytes() for p in files}


def test_one_command_does_it_all(call, place):
    test, unseen = call("run", "-o", "all")
    assert (test["data"], unseen["data"]) == ("test", "out_of_domain")
    names = ["direct", "CoT greedy", "one sampled path", "majority of 2", "any of 2"]
    assert [v["name"] for v in test["variants"]] == ["base", "adapter"]
    for variant in test["variants"]:
        assert [f["name"] for f in variant["figures"]] == names
    assert [p["line"] for p in test["pairs"]] == names
    assert all(p["change"]["n"] == 3 for p in test["pairs"])
    written = {p.relative_to(place / "all").as_posix() for p in (place / "all").rglob("*")}
    assert {
        "run.toml", "questions.jsonl", "paths.jsonl", "votes.jsonl", "train.jsonl", "adapter",
        "adapter/adapter.gguf", "adapter/adapter_model.safetensors", "adapter/adapter_config.json",
        "adapter/log.jsonl", "adapter/lmsi.json", "eval",
    } <= written  # fmt: skip
    assert "adapter/checkpoint.safetensors" not in written
    assert len((place / "all" / "paths.jsonl").read_text().splitlines()) == 4 * 4


def test_a_second_call_does_nothing_again(call, place):
    before = contents(place / "all"), contents(place / "all" / "adapter")
    test, _ = call("run", "-o", "all")
    after = contents(place / "all"), contents(place / "all" / "adapter")
    assert after == before
    files = [place / "all" / "eval" / name for name in test["variants"][1]["answers"]]
    assert sum(len(f.read_text().splitlines()) for f in files) == 3 * (1 + 1 + 2)


def test_single_commands_make_the_same_run(call, place):
    """Same seeds, same calls: the same paths, votes, examples and adapter, to the last byte."""
    from lmsi_cli.catalog import cards

    models = cards()["tinymath"].parent
    call("sample", models / "questions.jsonl", "-o", "steps")
    summary = call("vote", "steps")
    assert summary["paths"] == 4 * 4
    trained = call("train", "steps")
    assert trained["proof"]["ok"] and trained["proof"]["moved"] > 0.001
    (test,) = call("eval", "steps", "--data", models / "test.jsonl")
    one, many = place / "steps", place / "all"
    for name in ("paths.jsonl", "votes.jsonl", "train.jsonl", "adapter/adapter.gguf"):
        assert (one / name).read_bytes() == (many / name).read_bytes(), name
    again, _ = call("run", "-o", "all")
    figures, same = (
        {f["name"]: f["accuracy"] for f in e["variants"][1]["figures"]} for e in (test, again)
    )
    assert figures == same


def test_no_gold_answer_enters_training(place):
    for name in ("questions.jsonl", "paths.jsonl", "train.jsonl"):
        for line in (place / "all" / name).read_text().splitlines():
            assert json.loads(line).get("answer") is None


def test_other_settings_are_refused_until_overwrite(call, lmsi, place):
    done = lmsi("train", "steps", "--rank", "2", "--config", "small.toml")
    assert done.exit_code == 1
    assert "rank: 4 in the run folder, 2 now" in done.stderr
    trained = call("train", "steps", "--rank", "2", "--max-steps", "2", "--overwrite")
    assert trained["summary"]["steps"] == 2


def test_the_second_round_samples_with_the_first_adapter_and_trains_the_base(call, place):
    call("run", "-o", "all", "--rounds", "2")
    second = place / "all" / "round-2"
    settings = (second / "run.toml").read_text()
    assert str(place / "all" / "adapter" / "adapter.gguf") in settings
    first = json.loads((place / "all" / "adapter" / "lmsi.json").read_text())
    again = json.loads((second / "adapter" / "lmsi.json").read_text())
    assert first["base_sha256"] == again["base_sha256"]


def test_what_is_given_to_run_beats_the_sample_table():
    table = {"sample": {"stop": "beta:0.9", "paths": 8}}
    plan = _plan(RunConfig(paths=4), table, None, None, None)
    sample = plan.settings.sample
    assert (sample.stop, sample.paths) == ("beta:0.9", 4)
