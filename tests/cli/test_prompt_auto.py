"""`lmsi sample --prompt auto`: the trial, what is kept of it, and who asks in its wording later."""

import json

import pytest
from commands import give_answers, refused, works

from lmsi_cli.engine import paths
from lmsi_cli.run_folder import RunDir
from lmsi_cli.stages.asking import wording_of
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.wording import AUTO, candidates

pytestmark = pytest.mark.model
ASKED = [f"Tom has {n} pens. Tom gets {n + 1} more. How many pens does Tom have?" for n in range(6)]
AUTO_SET = ("--prompt", AUTO, "--threads", 1, "-n", 2)
CUES = ("Let's think step by step.", "Here it goes:")
FILE = "".join(
    f'[[wordings]]\nname = "{name}"\nchat = false\ncot_cue = "{cue}"\n'
    for name, cue in zip(("usual", "other"), CUES, strict=True)
)


def write(file, questions):
    lines = [json.dumps({"id": f"q{n}", "question": q}) + "\n" for n, q in enumerate(questions)]
    file.write_text("".join(lines))


@pytest.fixture
def place(folder):
    write(folder / "six.jsonl", ASKED)
    write(folder / "four.jsonl", ASKED[:4])
    (folder / "w.toml").write_text(FILE)
    return folder


@pytest.mark.slow
def test_a_trial_is_told_kept_and_held_once(place, lmsi):
    argv = ("sample", "six.jsonl", "-m", "tinymath", "-o", "r", *AUTO_SET, "--json")
    done = works(*argv)
    kept = RunDir("r").load_settings()
    trial, wording = kept["trial"], kept["wording"]
    names = [w.name for w in candidates(AUTO, load_task("tinymath"), False)]
    assert [t["name"] for t in trial["tried"]] == names and len(names) > 1
    best = trial["tried"][trial["best"]]
    assert (best["name"], best["prompt"]) == (wording["name"], wording["prompt"])
    assert f"asked as `{best['name']}` ({best['prompt']}): agreement" in done.stderr
    assert kept["sample"]["prompt"] == best["prompt"] and kept["sample"]["wording"] == best["name"]
    assert kept["sample"]["max_tokens"] == trial["budget"] >= best["longest"]
    assert best["agreement"] > 0.2  # the model can add
    again = lmsi(*argv)
    assert json.loads(again.stdout)["new_paths"] == 0
    assert "asked as" not in again.stderr
    assert RunDir("r").load_settings() == kept
    plain = lmsi("sample", "six.jsonl", "-m", "tinymath", "-o", "r", "--threads", 1, "-n", 3,
                 "--json")  # fmt: skip
    assert json.loads(plain.stdout)["new_paths"] == 6  # as begun, with nothing said of it
    assert {k: RunDir("r").load_settings()[k] for k in ("wording", "trial")} == {
        "wording": wording, "trial": trial,
    }  # fmt: skip


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["draw", "dry"])
def test_too_few_questions_for_a_trial_are_refused(place, lmsi, dry):
    done = lmsi("sample", "six.jsonl", "-m", "m.gguf", "-o", "r", *AUTO_SET, "--limit", 4, *dry)
    refused(done, "--prompt auto: 4 questions are too few to try wordings on")
    assert not RunDir("r").paths.exists()


def test_without_a_wish_few_questions_are_asked_in_the_first_wording(place, lmsi):
    done = lmsi("sample", "four.jsonl", "-m", "m.gguf", "-o", "r", "--max-tokens", 8, "-n", 1)
    assert done.exit_code == 0 and "asked as" not in done.stderr
    assert wording_of(RunDir("r")) == candidates("", load_task("number"), False)[0]
    assert "trial" not in RunDir("r").load_settings()


def test_vote_and_eval_ask_in_the_wording_of_the_run(place, lmsi, monkeypatch):
    done = lmsi("sample", "six.jsonl", "-m", "m.gguf", "-o", "r", "--prompt", "w.toml",
                "--threads", 1, "-n", 2, "--max-tokens", 8)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    run = RunDir("r")
    cue = wording_of(run).cot_cue
    give_answers(run, questions=[f"q{n}" for n in range(len(ASKED))])
    assert lmsi("vote", "r", "--min-votes", 1, "--min-share", 0).exit_code == 0
    examples = [json.loads(line) for line in run.train.read_text().splitlines()]
    zero = [e["prompt"] for e in examples if e["format"] == "cot-zero"]
    assert zero and all(prompt.endswith(cue) for prompt in zero)
    written, render = [], paths.render
    monkeypatch.setattr(paths, "render", lambda *a: written.append(render(*a)) or written[-1])
    ask = ("eval", "r", "--data", "test.jsonl", "--modes", "cot", "--threads", 1, "-q", "--json")
    (told,) = json.loads(lmsi(*ask, "--max-tokens", 4).stdout)
    assert written and all(prompt.endswith(cue) for prompt in written)
    assert told["settings"]["prompt"] == "cot-zero"
    for name, expected in zip(("usual", "other"), CUES, strict=True):  # another one, if wished
        (place / "one.toml").write_text(f'[[wordings]]\nname = "{name}"\ncot_cue = "{expected}"\n')
        written.clear()
        assert lmsi(*ask, "--max-tokens", 4, "--prompt", "one.toml").exit_code == 0
        assert written and all(prompt.endswith(expected) for prompt in written)


def test_a_folder_is_held_to_its_wording(place, lmsi):
    argv = ("sample", "four.jsonl", "-m", "m.gguf", "-o", "r", "--max-tokens", 8, "-n", 1)
    assert lmsi(*argv, "--prompt", "cot-zero").exit_code == 0
    (place / "one.toml").write_text('[[wordings]]\nname = "mine"\nchat = false\n')
    for more, told in (
        (("--prompt", "cot-few"), "prompt: cot-zero in the run folder, cot-few now"),
        (("--prompt", "one.toml"), "in the run folder, mine now"),
        (("--set", "few_shot=message"), "few_shot: turns in the run folder, message now"),
    ):
        done = lmsi(*argv, *more)
        refused(done, "the paths in r had other settings: ")
        assert told in done.stderr
