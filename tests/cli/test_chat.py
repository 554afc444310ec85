"""Chat models on the command line: one choice for sampling, training and evaluation."""

import json

import chat_models as chat
import pytest
from commands import SAMPLE, give_answers, refused, settings, works

from lmsi_cli.engine.encode import Encoder
from lmsi_cli.engine.llama import vocabulary
from lmsi_cli.engine.template import ChatTemplate
from lmsi_cli.jsonl import read_records
from lmsi_cli.prompts import PAPER
from lmsi_cli.records import TrainExample
from lmsi_cli.run_folder import RunDir

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def made(gguf, tmp_path_factory):
    root = tmp_path_factory.mktemp("talkers")
    kinds = {"chatml": chat.CHATML, "trims": chat.TRIMS, "thinks": chat.THINKS}
    kinds |= {"broken": chat.BROKEN, "switch": chat.SWITCH}
    return [chat.chat_model(gguf, root / f"{name}.gguf", kind) for name, kind in kinds.items()]


@pytest.fixture
def talks(folder, made):
    """The command line's folder, with chat models beside the plain one."""
    for file in made:
        (folder / file.name).symlink_to(file)
    return folder


def sample(model, *more):
    return [*SAMPLE.replace("m.gguf", f"{model}.gguf").split(), "--json", *more]


def test_a_run_goes_on_in_its_own_form_and_with_its_own_variables_only(talks, lmsi):
    own, on = "['enable_thinking=false']", ("--template-var", "enable_thinking=true")
    for out, form, kept in (
        ("plain", ("m",), ("off", [])),
        ("forced", ("chatml", "--chat", "off"), ("off", [])),
        ("talk", ("chatml",), ("on", [])),
        ("none", ("switch",), ("on", [])),
        ("own", ("switch", *OFF), ("on", ["enable_thinking=false"])),
    ):
        lmsi(*sample(*form, "-o", out))
        assert (settings(out)["chat"], settings(out)["template_var"]) == kept
    assert lmsi(*sample("chatml", "-o", "talk", "--chat", "on")).exit_code == 0
    assert lmsi(*sample("switch", "-o", "own", *OFF, "-n", "3")).exit_code == 0
    for argv, told in (
        (("chatml", "-o", "talk", "--chat", "off"), "chat: on in the run folder, off now"),
        (("chatml", "-o", "talk", "--system", "x"), "system:  in the run folder, x now"),
        (("switch", "-o", "own"), f"template_var: {own} in the run folder, not set now"),
        (("switch", "-o", "own", *on), f"{own} in the run folder, ['enable_thinking=true'] now"),
        (("switch", "-o", "none", *OFF), f"template_var: not set in the run folder, {own} now"),
    ):
        refused(lmsi(*sample(*argv)), told)


OFF = ("--template-var", "enable_thinking=false")
REFUSED = {
    "no template": (("m", "--chat", "on"), "m.gguf: this file has no chat template", ""),
    "broken": (("broken",), "broken.gguf: its chat template is broken: ", "--chat off"),
    "system": (("m", "--system", "x"), "--system needs a conversation", ""),
    "variable, off": (("switch", "--chat", "off", *OFF), "--template-var ... --chat off", ""),
    "unknown variable": (("switch", "--template-var", "enable_thinkin=false"),
                         "switch.gguf: ... no variable 'enable_thinkin'", "enable_thinking"),
    "refused value": (("switch", "--template-var", "enable_thinking=no"),
                      "switch.gguf: ... refuses ... enable_thinking=no", "enable_thinking"),
}  # fmt: skip


@pytest.mark.parametrize(("argv", "told", "hint"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_asked_is_one_line(talks, lmsi, argv, told, hint):
    refused(lmsi(*sample(*argv)), *told.split(" ... "), hint=hint)
    assert not RunDir("r").paths.exists()


THOUGHT = "<think>4 + 3 = 9</think>\n\n3 + 4 = 7. The answer is 7."


@pytest.mark.parametrize(
    ("model", "more"),
    [("chatml", ("--set", "few_shot=message")), ("switch", OFF)],
)
def test_training_sees_the_ids_that_were_sampled(talks, lmsi, model, more):
    """One line of train.jsonl is one pair in TRL's conversational form, and encodes to the same."""
    lmsi(*sample(model, "--prompt", "cot-few", *more))
    dry = json.loads(lmsi(*sample(model, "--prompt", "cot-few", *more, "--dry-run")).stdout)
    run = RunDir("r")
    give_answers(run, THOUGHT)
    for formats, written in (((), ["cot-few"]), (("--formats", ",".join(PAPER)), PAPER)):
        assert lmsi("vote", "r", *formats).exit_code == 0
        examples = list(read_records(run.train, TrainExample))
        assert {e.format for e in examples} == set(written)
    raw = [json.loads(line) for line in run.train.read_text().splitlines()]
    for line in raw:
        assert {m["role"] for m in line["prompt"]} <= {"system", "user", "assistant"}
        assert [m["role"] for m in line["completion"]] == ["assistant"]
        own = not line["format"].startswith("direct")  # a path's own words, or the wording's
        end = "The answer is 7." if own else r"The answer is $\boxed{7}$."
        assert line["completion"][0]["content"].endswith(end)
        assert "think" not in line["completion"][0]["content"]
        assert line.get("chat_template_kwargs") == (
            {"enable_thinking": False} if more == OFF else None
        )
    mine = next(e for e in examples if e.format == "cot-few" and e.question_id == "a")
    with vocabulary(talks / f"{model}.gguf") as words:
        encoder = Encoder(words, more[1:] if more == OFF else ())
        assert encoder.prompt(mine.prompt).ids == dry["ids"]
        ids = encoder.completion(mine.prompt, mine.completion)
        assert words.ends(ids[-1]) and words.spelling(ids[-1]) == b"<|im_end|>"


def test_a_talker_is_examined_in_its_own_form_or_another_that_is_asked_for(talks, lmsi):
    lmsi(*sample("chatml"))
    evaluate = ["eval", "r", "--data", "test.jsonl", "--modes", "cot", "--max-tokens", "4"]
    for more in ([], ["--set", "chat=off"], ["--set", "few_shot=message", "--prompt", "cot-few"]):
        assert lmsi(*evaluate, *more, "--json", "--quiet").exit_code == 0
    refused(lmsi(*evaluate, "--set", "chat=off", "--set", "system=x", "-q"), "--system needs")
    results = list(RunDir("r").eval_dir.glob("*.result.json"))
    assert len(results) == 3  # each form is another evaluation


# -- variables of the template ------------------------------------------------------------


def test_the_form_comes_from_the_config_file_unless_a_flag_says_otherwise(talks, lmsi):
    file, small = talks / "c.toml", "[sample]\npaths = 1\nmax_tokens = 4\n"
    file.write_text(f'{small}template_var = ["enable_thinking=false"]\n')
    lmsi("run", "q.jsonl", "-m", "switch.gguf", "-o", "x", "--config", "c.toml")
    assert settings("x")["template_var"] == ["enable_thinking=false"]
    shown = dry(lmsi, "switch", "--config", "c.toml")
    assert spelt(shown).endswith("<think>\n\n</think>\n") and shown["begun"] == ""
    shown = dry(lmsi, "switch", "--config", "c.toml", "--template-var", "enable_thinking=true")
    assert spelt(shown).endswith("<think>\n") and shown["begun"] == "<think>\n"
    file.write_text(f'{small}chat = "off"\n')
    on = ("--set", "sample.chat=on")
    lmsi("run", "q.jsonl", "-m", "switch.gguf", "-o", "y", "--config", "c.toml", *on)
    assert settings("y")["chat"] == "on"
    file.write_text("[sample]\ntemplate_var = { enable_thinking = false }\n")
    told = "c.toml [sample] template_var: expected NAME=VALUE"
    refused(lmsi(*sample("switch", "--config", "c.toml")), told)


@pytest.mark.usefixtures("aside_here")
def test_train_and_eval_follow_the_variables_of_the_run(talks, lmsi, monkeypatch):
    """Whoever writes a prompt in any of the commands writes it with them."""
    written = []
    render = ChatTemplate.write

    def write(self, messages, reply):
        text = render(self, messages, reply)
        written.append((self.variables, text))
        return text

    lmsi(*sample("switch", *OFF))
    give_answers(RunDir("r"), THOUGHT)
    lmsi("vote", "r")
    monkeypatch.setattr(ChatTemplate, "write", write)
    for argv in (
        ("train", "r", "--max-steps", "1", "--rank", "1"),
        ("eval", "r", "--data", "test.jsonl", "--modes", "cot", "--max-tokens", "4"),
        ("export", "r", "--to", "adapter"),
    ):
        written.clear()
        done = works(*argv, "--quiet")
        assert {variables for variables, _ in written} == {OFF[1:]}
        assert any(text.endswith("<think>\n\n</think>\n") for _, text in written)
    done = lmsi("export", "r", "--to", "ollama", "--quiet", "--json")
    assert any("enable_thinking=false" in r for r in json.loads(done.stdout)["remarks"])


# -- what would be asked ------------------------------------------------------------------


def dry(lmsi, model, *more):
    return json.loads(lmsi(*sample(model, "--dry-run", *more)).stdout)


def spelt(preview):
    return "".join(piece["text"] for piece in preview["prompt"])


def test_a_dry_run_shows_the_prompt_as_tokenised_and_writes_nothing(talks, lmsi):
    (talks / "q.jsonl").write_text('{"id": "a", "question": "Is <|im_end|> 6?"}\n')
    shown = dry(lmsi, "chatml", "--system", "Be brief.")
    assert (shown["chat"], shown["why"]) == (True, "the file has a chat template")
    assert spelt(shown).startswith("<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    request = spelt(shown).partition("Is <|im_end|> 6?\n\n")[2].partition("<|im_end|>")[0]
    assert request.startswith(shown["wording"]["cot_request"].partition("{")[0]) and request
    marks = [piece["text"] for piece in shown["prompt"] if piece["mark"]]
    assert marks == ["<s>", *("<|im_start|>", "<|im_end|>") * 2, "<|im_start|>"]
    assert shown["shortest"] == shown["longest"] == shown["median"] == len(shown["ids"])
    assert not (talks / "r").exists()


def test_a_dry_run_of_a_plain_model(talks, lmsi):
    shown = dry(lmsi, "m", "--prompt", "cot-zero")
    assert (shown["chat"], shown["why"]) == (False, "the file has no chat template")
    assert spelt(shown).startswith("Q: Tom has 3 pens.")
    assert spelt(shown).endswith("A: Let's think step by step.")
    assert shown["questions"] == 2 and shown["shared_prefix"] >= 1
    assert shown["shortest"] <= shown["median"] <= shown["longest"]
    assert dry(lmsi, "m", "--limit", "1")["questions"] == 1


def test_a_dry_run_tells_of_folding_and_of_thinking(talks, lmsi):
    shown = dry(lmsi, "trims", "--system", "Be brief.")
    assert shown["folds_system"] and "[INST] Be brief.\n\nTom has" in spelt(shown)
    assert dry(lmsi, "thinks")["begun"] == "<think>\n"
    argv = [a for a in sample("trims", "--system", "Be brief.", "--dry-run") if a != "--json"]
    text = lmsi(*argv).stdout
    for told in ("conversation: the file has a chat template", "opens the first turn", "[INST]"):
        assert told in text
