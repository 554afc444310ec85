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
OFF = ("--template-var", "enable_thinking=false")
ON = ("--template-var", "enable_thinking=true")
EVAL = ("eval", "r", "--data", "test.jsonl", "--modes", "cot", "--max-tokens", "4")


@pytest.fixture(scope="module")
def made(gguf, tmp_path_factory):
    root = tmp_path_factory.mktemp("talkers")
    kinds = {"chatml": chat.CHATML, "trims": chat.TRIMS, "switch": chat.SWITCH}
    return [chat.chat_model(gguf, root / f"{name}.gguf", kind) for name, kind in kinds.items()]


@pytest.fixture
def talks(folder, made):
    """The command line's folder, with chat models beside the plain one."""
    for file in made:
        (folder / file.name).symlink_to(file)
    return folder


def sample(model, *more):
    return [*SAMPLE.replace("m.gguf", f"{model}.gguf").split(), "--json", *more]


def dry(model, *more):
    return json.loads(works(*sample(model, "--dry-run", *more)).stdout)


def spelt(preview):
    return "".join(piece["text"] for piece in preview["prompt"])


def test_a_run_goes_on_in_its_own_form_and_with_its_own_variables_only(talks, lmsi):
    own = "['enable_thinking=false']"
    for out, form, kept in (
        ("plain", ("m",), ("off", [])),
        ("forced", ("chatml", "--chat", "off"), ("off", [])),
        ("talk", ("chatml",), ("on", [])),
        ("own", ("switch", *OFF), ("on", ["enable_thinking=false"])),
    ):
        works(*sample(*form, "-o", out))
        assert (settings(out)["chat"], settings(out)["template_var"]) == kept
    works(*sample("chatml", "-o", "talk", "--chat", "on"))
    works(*sample("switch", "-o", "own", *OFF, "-n", "3"))
    for argv, told in (
        (("chatml", "-o", "talk", "--chat", "off"), "chat: on in the run folder, off now"),
        (("switch", "-o", "own"), f"template_var: {own} in the run folder, not set now"),
        (("switch", "-o", "own", *ON), f"{own} in the run folder, ['enable_thinking=true'] now"),
    ):
        refused(lmsi(*sample(*argv)), told)
    # it is examined in its own form, or in another that is asked for
    examine, plain = ("eval", "talk", *EVAL[2:], "-q"), ("--set", "chat=off")
    for more in ((), plain, ("--set", "few_shot=message", "--prompt", "cot-few")):
        works(*examine, *more)
    assert len(list(RunDir("talk").eval_dir.glob("*.result.json"))) == 3
    refused(lmsi(*examine, *plain, "--set", "system=x"), "--system needs")


THOUGHT = "<think>4 + 3 = 9</think>\n\n3 + 4 = 7. The answer is 7."


@pytest.mark.parametrize(
    ("model", "more", "variables"),
    [
        ("chatml", ("--set", "few_shot=message"), {}),
        ("switch", OFF, {"enable_thinking": False}),
    ],
)
def test_training_sees_the_ids_that_were_sampled(talks, model, more, variables):
    few = ("--prompt", "cot-few", *more)
    works(*sample(model, *few))
    run = RunDir("r")
    give_answers(run, THOUGHT)
    for formats, written in (((), ["cot-few"]), (("--formats", ",".join(PAPER)), PAPER)):
        works("vote", "r", *formats)
        examples = list(read_records(run.train, TrainExample))
        assert {e.format for e in examples} == set(written)
    for e in examples:
        assert {m.role for m in e.prompt} <= {"system", "user", "assistant"}
        (reply,) = e.completion
        own = not e.format.startswith("direct")  # a path's own words, or the wording's
        assert reply.content.endswith("The answer is 7." if own else r"is $\boxed{7}$.")
        assert reply.role == "assistant" and "think" not in reply.content
        assert e.chat_template_kwargs == variables
    mine = next(e for e in examples if e.format == "cot-few" and e.question_id == "a")
    with vocabulary(talks / f"{model}.gguf") as words:
        encoder = Encoder(words, more[1:] if variables else ())
        assert encoder.prompt(mine.prompt).ids == dry(model, *few)["ids"]
        ids = encoder.completion(mine.prompt, mine.completion)
        assert words.ends(ids[-1]) and words.spelling(ids[-1]) == b"<|im_end|>"


@pytest.mark.usefixtures("aside_here")
def test_train_and_eval_follow_the_variables_of_the_run(talks, monkeypatch):
    """Whoever writes a prompt in any of the commands writes it with them."""
    written, render = [], ChatTemplate.write

    def write(self, messages, reply):
        text = render(self, messages, reply)
        written.append((self.variables, text))
        return text

    works(*sample("switch", *OFF))
    give_answers(RunDir("r"), THOUGHT)
    works("vote", "r")
    monkeypatch.setattr(ChatTemplate, "write", write)
    train, export = ("train", "r", "--max-steps", "1", "--rank", "1"), ("export", "r", "--to")
    for argv in (train, EVAL, (*export, "adapter")):
        written.clear()
        works(*argv, "-q")
        assert {variables for variables, _ in written} == {OFF[1:]}
        assert any(text.endswith("<think>\n\n</think>\n") for _, text in written)
    assert "enable_thinking=false" in works(*export, "ollama", "-q", "--json").stdout


# -- what would be asked ------------------------------------------------------------------


def test_a_variable_comes_from_the_config_file_unless_a_flag_says_otherwise(talks):
    (talks / "c.toml").write_text('[sample]\ntemplate_var = ["enable_thinking=false"]\n')
    for more, end, begun in (((), "<think>\n\n</think>\n", ""), (ON, "<think>\n", "<think>\n")):
        shown = dry("switch", "--config", "c.toml", *more)
        assert spelt(shown).endswith(end) and shown["begun"] == begun


def test_a_dry_run_shows_the_prompt_as_tokenised_and_writes_nothing(talks):
    shown = dry("m", "--prompt", "cot-zero")
    assert (shown["chat"], shown["why"]) == (False, "the file has no chat template")
    assert spelt(shown).startswith("Q: Tom has 3 pens.")
    assert spelt(shown).endswith("A: Let's think step by step.")
    assert shown["questions"] == 2 and shown["shared_prefix"] >= 1
    argv = sample("trims", "--system", "Be brief.", "--dry-run", "--limit", "1")
    text = works(*[a for a in argv if a != "--json"]).stdout
    assert "opens the first turn" in text and "[INST] Be brief." in text
    (talks / "q.jsonl").write_text('{"id": "a", "question": "Is <|im_end|> 6?"}\n')
    shown = dry("chatml", "--system", "Be brief.")
    assert (shown["chat"], shown["why"]) == (True, "the file has a chat template")
    assert spelt(shown).startswith("<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    request = spelt(shown).partition("Is <|im_end|> 6?\n\n")[2].partition("<|im_end|>")[0]
    assert request.startswith(shown["wording"]["cot_request"].partition("{")[0]) and request
    marks = [piece["text"] for piece in shown["prompt"] if piece["mark"]]
    assert marks == ["<s>", *("<|im_start|>", "<|im_end|>") * 2, "<|im_start|>"]
    assert shown["shortest"] == shown["longest"] == shown["median"] == len(shown["ids"])
    assert not (talks / "r").exists()
