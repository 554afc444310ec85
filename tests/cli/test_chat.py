"""Chat models on the command line: one choice for sampling, training and evaluation."""

import json

import chat_models as chat
import pytest
from bad_input_cases import SAMPLE

from lmsi_cli import aside
from lmsi_cli.engine.base import path_seed
from lmsi_cli.engine.encode import Encoder
from lmsi_cli.engine.llama import vocabulary
from lmsi_cli.engine.template import ChatTemplate
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.records import Path, TrainExample
from lmsi_cli.run_folder import RunDir

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def talkers(gguf, tmp_path_factory):
    root = tmp_path_factory.mktemp("talkers")
    kinds = {"chatml": chat.CHATML, "trims": chat.TRIMS, "thinks": chat.THINKS}
    kinds |= {"broken": chat.BROKEN, "refuses": chat.REFUSES, "switch": chat.SWITCH}
    kinds |= {"listens": chat.LISTENS, "lists": chat.LISTS}
    return {k: chat.chat_model(gguf, root / f"{k}.gguf", t) for k, t in kinds.items()}


@pytest.fixture
def talks(folder, talkers):
    """The command line's folder, with chat models beside the plain one."""
    for name, file in talkers.items():
        (folder / f"{name}.gguf").symlink_to(file)
    return folder


def sample(model, *more):
    return [*SAMPLE.replace("m.gguf", f"{model}.gguf").split(), "--json", *more]


def settings(root="r"):
    return RunDir(root).load_settings()["sample"]


def test_the_choice_is_the_files_and_is_written_down(talks, lmsi):
    lmsi(*sample("chatml"))
    assert settings()["chat"] == "on"
    lmsi(*sample("m"), "-o", "plain")
    assert settings("plain")["chat"] == "off"
    lmsi(*sample("chatml"), "-o", "off", "--chat", "off")
    assert settings("off")["chat"] == "off"


def test_a_run_goes_on_in_its_own_form_only(talks, lmsi):
    lmsi(*sample("chatml"))
    assert lmsi(*sample("chatml", "--chat", "on")).exit_code == 0
    done = lmsi(*sample("chatml", "--chat", "off"))
    assert "chat: on in the run folder, off now" in done.stderr
    done = lmsi(*sample("chatml", "--system", "Be brief."))
    assert "system:  in the run folder, Be brief. now" in done.stderr


REFUSED = {
    "no template": (("m", "--chat", "on"), "m.gguf: this file has no chat template"),
    "broken": (("broken",), "broken.gguf: its chat template is broken: "),
    "refuses": (("refuses",), "refuses.gguf: its chat template refuses the prompt: only tools"),
    "system": (("m", "--system", "x"), "--system needs a conversation, and prompts are plain text"),
    "form": (("chatml", "--set", "few_shot=both"), "--set few_shot: expected one of auto, turns"),
    "choice": (("chatml", "--chat", "yes"), "--chat: expected one of auto, on, off"),
    "variable, plain": (
        ("m", "--template-var", "a=1"), "--template-var needs a conversation, and prompts are"
    ),
    "variable, off": (
        ("switch", "--chat", "off", "--template-var", "enable_thinking=false"),
        "--template-var needs a conversation, and prompts are plain text: --chat off",
    ),
    "unknown variable": (
        ("switch", "--template-var", "enable_thinkin=false"),
        "switch.gguf: its chat template has no variable 'enable_thinkin' to set\n"
        "hint: it has: enable_thinking\n",
    ),
    "refused value": (
        ("switch", "--template-var", "enable_thinking=no"),
        "switch.gguf: its chat template refuses the prompt with enable_thinking=no: true or false\n"
        "hint: another value, or none; its variables: enable_thinking\n",
    ),
    "no value": (("switch", "--template-var", "x"), "--template-var: expected NAME=VALUE"),
    "Python's": (
        ("switch", "--template-var", "enable_thinking=False"),
        "--template-var enable_thinking=False: would be the word False",
    ),
    "twice": (
        ("switch", "--template-var", "x=0", "--template-var", "x=1"),
        "--template-var x=1: x is given twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["draw", "dry"])
@pytest.mark.parametrize(("argv", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_asked_is_one_line(talks, lmsi, argv, told, dry):
    done = lmsi(*sample(argv[0], *argv[1:], *dry))
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr.startswith(f"error: {told}")
    assert not RunDir("r").paths.exists()


def give_answers(run):
    """An untrained talker says nothing; put words into its mouth."""
    write_records(
        run.paths,
        [
            Path(
                question_id=q, path=i, seed=path_seed(0, q, i),
                num_generated_tokens=9, logprob=-1.0,
                text="<think>4 + 3 = 9</think>\n\n3 + 4 = 7. The answer is 7.",
                stop_reason="answer", predicted_answer="7", extract_rule="marker",
            )
            for q in "ab" for i in range(2)
        ],
    )  # fmt: skip


OFF = ("--template-var", "enable_thinking=false")


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("chatml", ()),
        ("chatml", ("--set", "few_shot=message")),
        ("chatml", ("--system", "Be brief.")),
        ("listens", ("--system", "/no_think")),
        ("lists", ("--system", "Be brief.")),
        ("switch", OFF),
    ],
)
def test_training_sees_the_ids_that_were_sampled(talks, lmsi, model, more):
    """One line of train.jsonl is one pair in TRL's conversational form, and encodes to the same."""
    lmsi(*sample(model, "--prompt", "cot-few", *more))
    dry = json.loads(lmsi(*sample(model, "--prompt", "cot-few", *more, "--dry-run")).stdout)
    run = RunDir("r")
    give_answers(run)
    assert lmsi("vote", "r").exit_code == 0
    examples = list(read_records(run.train, TrainExample))
    assert {e.format for e in examples} == {"cot-few", "direct-few", "cot-zero", "direct-zero"}
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


def test_a_talker_trains_and_is_examined_in_its_own_form(talks, lmsi):
    lmsi(*sample("chatml"))
    give_answers(RunDir("r"))
    lmsi("vote", "r")
    told = lmsi("train", "r", "--max-steps", "1", "--rank", "1", "--json", "--quiet")
    assert told.exit_code == 0, told.stderr
    evaluate = ["eval", "r", "--data", "test.jsonl", "--modes", "cot", "--max-tokens", "4"]
    for more in ([], ["--set", "chat=off"], ["--set", "few_shot=message", "--prompt", "cot-few"]):
        assert lmsi(*evaluate, *more, "--json", "--quiet").exit_code == 0
    done = lmsi(*evaluate, "--set", "chat=off", "--set", "system=x")
    assert done.stderr.startswith("error: --system needs a conversation")
    results = list(RunDir("r").eval_dir.glob("*.result.json"))
    assert len(results) == 3  # each form is another evaluation


# -- variables of the template ------------------------------------------------------------


def test_a_variable_belongs_to_the_run(talks, lmsi):
    lmsi(*sample("switch", *OFF))
    assert settings()["template_var"] == ["enable_thinking=false"]
    assert lmsi(*sample("switch", *OFF, "-n", "3")).exit_code == 0
    for other, told in (((), "not set"), (("--template-var", "enable_thinking=true"), "true")):
        done = lmsi(*sample("switch", *other))
        assert done.exit_code == 1
        assert "template_var: ['enable_thinking=false'] in the run folder" in done.stderr
        assert told in done.stderr.partition("in the run folder")[2]


def test_a_folder_from_before_there_were_variables_goes_on(talks, lmsi):
    lmsi(*sample("switch"))
    assert "template_var" not in settings()
    done = lmsi(*sample("switch", *OFF))
    assert "template_var: not set in the run folder, ['enable_thinking=false'] now" in done.stderr


def test_a_variable_comes_from_the_config_file_too(talks, lmsi):
    (talks / "c.toml").write_text('[sample]\ntemplate_var = ["enable_thinking=false"]\n')
    shown = dry(lmsi, "switch", "--config", "c.toml")
    assert spelt(shown).endswith("<think>\n\n</think>\n") and shown["begun"] == ""
    shown = dry(lmsi, "switch", "--config", "c.toml", "--template-var", "enable_thinking=true")
    assert spelt(shown).endswith("<think>\n") and shown["begun"] == "<think>\n"
    (talks / "c.toml").write_text("[sample]\ntemplate_var = { enable_thinking = false }\n")
    done = lmsi(*sample("switch", "--config", "c.toml"))
    assert done.stderr.startswith("error: c.toml [sample] template_var: expected NAME=VALUE")


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("", ("--set", "sample.template_var=enable_thinking=false")),
        ('[sample]\ntemplate_var = ["enable_thinking=false"]\n', ()),
    ],
)
def test_run_takes_variables_from_the_flag_and_from_the_file(talks, lmsi, text, more):
    (talks / "c.toml").write_text(f"{text}\n[run]\npaths = 1\n")
    lmsi("run", "q.jsonl", "-m", "switch.gguf", "-o", "x", "--config", "c.toml", *more)
    assert settings("x")["template_var"] == ["enable_thinking=false"]


def test_train_and_eval_follow_the_variables_of_the_run(talks, lmsi, monkeypatch):
    """Whoever writes a prompt in any of the commands writes it with them."""
    written = []
    render = ChatTemplate.write

    def write(self, messages, reply):
        text = render(self, messages, reply)
        written.append((self.variables, text))
        return text

    lmsi(*sample("switch", *OFF))
    give_answers(RunDir("r"))
    lmsi("vote", "r")
    monkeypatch.setattr(ChatTemplate, "write", write)
    # training here, and not in a process of its own, where nobody could listen
    monkeypatch.setattr(
        aside, "run", lambda work, *given, progress, name: work(*given, progress=progress)
    )
    for argv in (
        ("train", "r", "--max-steps", "1", "--rank", "1"),
        ("eval", "r", "--data", "test.jsonl", "--modes", "cot", "--max-tokens", "4"),
        ("export", "r", "--to", "adapter"),
    ):
        written.clear()
        done = lmsi(*argv, "--quiet")
        assert done.exit_code == 0, done.stderr
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


def test_the_forms_of_a_few_shot_prompt(talks, lmsi):
    turns = dry(lmsi, "chatml", "--prompt", "cot-few")
    one = dry(lmsi, "chatml", "--prompt", "cot-few", "--set", "few_shot=message")
    assert spelt(turns).count("<|im_start|>assistant") == 9
    assert spelt(one).count("<|im_start|>assistant") == 1
    assert spelt(one).count("\nA: ") == 8 and "\nA: " not in spelt(turns)
    assert turns["shared_prefix"] > 100 and one["shared_prefix"] > 100


def test_chat_is_taken_from_the_config_file_by_run(talks, lmsi):
    (talks / "c.toml").write_text('[sample]\nchat = "off"\npaths = 1\nmax_tokens = 4\n')
    lmsi("run", "q.jsonl", "-m", "chatml.gguf", "-o", "x", "--config", "c.toml")
    assert settings("x")["chat"] == "off"
    lmsi(
        "run",
        "q.jsonl",
        "-m",
        "chatml.gguf",
        "-o",
        "y",
        "--config",
        "c.toml",
        "--set",
        "sample.chat=on",
    )
    assert settings("y")["chat"] == "on"
