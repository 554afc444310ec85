"""The whole loop on the embedded model, small: one command, its single steps, and a second call."""

import json

import pytest
from commands import refused

pytestmark = [pytest.mark.model, pytest.mark.slow]

SMALL = """
[sample]
threads = 1
paths = 3
limit = 4
max_tokens = 128
[vote]
min_votes = 1
[train]
max_steps = 2
batch_size = 4
rank = 4
[eval]
threads = 1
paths = 2
limit = 2
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
    assert all(p["change"]["n"] == 2 for p in test["pairs"])
    written = {p.relative_to(place / "all").as_posix() for p in (place / "all").rglob("*")}
    assert {
        "run.toml", "questions.jsonl", "paths.jsonl", "votes.jsonl", "train.jsonl", "adapter",
        "adapter/adapter.gguf", "adapter/adapter_model.safetensors", "adapter/adapter_config.json",
        "adapter/log.jsonl", "adapter/lmsi.json", "eval",
    } <= written  # fmt: skip
    assert "adapter/checkpoint.safetensors" not in written
    assert len((place / "all" / "paths.jsonl").read_text().splitlines()) == 4 * 3


def test_a_second_call_does_nothing_again(call, place):
    before = contents(place / "all"), contents(place / "all" / "adapter")
    test, _ = call("run", "-o", "all")
    after = contents(place / "all"), contents(place / "all" / "adapter")
    assert after == before
    files = [place / "all" / "eval" / name for name in test["variants"][1]["answers"]]
    assert sum(len(f.read_text().splitlines()) for f in files) == 2 * (1 + 1 + 2)


def test_single_commands_make_the_same_run(call, place):
    """Same seeds, same calls: the same paths, votes, examples and adapter, to the last byte."""
    from lmsi_cli.catalog import cards

    models = cards()["tinymath"].parent
    call("sample", models / "questions.jsonl", "-o", "steps")
    summary = call("vote", "steps")
    assert summary["paths"] == 4 * 3
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
        lines = (place / "all" / name).read_text().splitlines()
        assert lines and not any(json.loads(line).get("answer") for line in lines), name


def test_other_settings_are_refused(call, lmsi):
    done = lmsi("train", "steps", "--rank", "2", "--config", "small.toml")
    refused(done, "rank: 4 in the run folder, 2 now", hint="--overwrite", notes=1)
