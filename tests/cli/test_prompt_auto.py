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
CUES = {"usual": "Let's think step by step.", "other": "Here it goes:"}
SAMPLE = ("sample", "six.jsonl", "-m", "m.gguf", "-o", "r", "--threads", 1, "--max-tokens", 8)
FOUR = (*SAMPLE, "-n", 1, "--limit", 4)


@pytest.fixture
def place(folder):
    asked = "Tom has {} pens. Tom gets 4 more. How many pens does Tom have?"
    lines = [json.dumps({"id": f"q{n}", "question": asked.format(n)}) + "\n" for n in range(6)]
    (folder / "six.jsonl").write_text("".join(lines))
    for name, cue in CUES.items():
        wording = f'[[wordings]]\nname = "{name}"\nchat = false\ncot_cue = "{cue}"\n'
        (folder / f"{name}.toml").write_text(wording)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_trial_is_told_kept_and_held_once():
    argv = ("sample", "six.jsonl", "-m", "tinymath", "-o", "r", "--threads", 1, "--json")
    auto = (*argv, "--prompt", AUTO, "-n", 2)
    done = works(*auto)
    kept = RunDir("r").load_settings()
    trial, wording = kept["trial"], kept["wording"]
    names = [w.name for w in candidates(AUTO, load_task("tinymath"), False)]
    assert [t["name"] for t in trial["tried"]] == names and len(names) > 1
    best = trial["tried"][trial["best"]]
    assert wording.items() >= {"name": best["name"], "prompt": best["prompt"]}.items()
    assert f"asked as `{best['name']}` ({best['prompt']})" in done.stderr
    assert kept["sample"].items() >= {"prompt": best["prompt"], "wording": best["name"]}.items()
    assert kept["sample"]["max_tokens"] == trial["budget"] >= best["longest"]
    assert best["agreement"] > 0.2  # the model can add
    again = works(*auto)
    assert json.loads(again.stdout)["new_paths"] == 0 and "asked as" not in again.stderr
    assert RunDir("r").load_settings() == kept
    more = works(*argv, "-n", 3)  # as begun, with nothing said of it
    assert json.loads(more.stdout)["new_paths"] == 6
    assert RunDir("r").load_settings().items() >= {"wording": wording, "trial": trial}.items()


@pytest.mark.usefixtures("place")
def test_vote_and_eval_ask_in_the_wording_of_the_run(monkeypatch):
    works(*SAMPLE, "-n", 2, "--prompt", "other.toml")
    run = RunDir("r")
    give_answers(run, questions=[f"q{n}" for n in range(6)])
    works("vote", "r", "--min-votes", 1, "--min-share", 0)
    examples = [json.loads(line) for line in run.train.read_text().splitlines()]
    zero = [e["prompt"] for e in examples if e["format"] == "cot-zero"]
    assert zero and all(prompt.endswith(CUES["other"]) for prompt in zero)
    written, render = [], paths.render
    monkeypatch.setattr(paths, "render", lambda *a: written.append(render(*a)) or written[-1])
    ask = ("eval", "r", "--data", "test.jsonl", "--modes", "cot", "--threads", 1, "-q")
    for wish, name in (((), "other"), (("--prompt", "usual.toml"), "usual")):
        written.clear()
        works(*ask, "--max-tokens", 4, *wish)
        assert written and all(prompt.endswith(CUES[name]) for prompt in written)


@pytest.mark.usefixtures("place")
def test_few_questions_are_asked_in_the_first_wording_and_the_folder_is_held_to_it(lmsi):
    told = "--prompt auto: 4 questions are too few to try wordings on"
    refused(lmsi(*FOUR, "--prompt", AUTO), told)
    assert not RunDir("r").paths.exists()
    assert "asked as" not in works(*FOUR).stderr
    assert wording_of(RunDir("r")) == candidates("", load_task("number"), False)[0]
    assert "trial" not in RunDir("r").load_settings()
    for more, told in (
        ("--prompt cot-zero", "prompt: cot-few in the run folder, cot-zero now"),
        ("--prompt other.toml", "in the run folder, other now"),
        ("--set few_shot=message", "few_shot: turns in the run folder, message now"),
    ):
        refused(lmsi(*FOUR, *more.split()), "the paths in r had other settings: ", told)
