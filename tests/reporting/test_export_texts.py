"""The model card: a stranger's text stays text, in the header and in the page."""

import re

import msgspec
import pytest

from lmsi_cli.config import SamplingConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Chat, Task
from lmsi_cli.records import Exemplar
from lmsi_cli.reporting.export_texts import Card, card_text, modelfile, template
from lmsi_cli.reporting.results import read_evaluation

HOSTILE = (
    'x"\n---\nlicense: mit\n# Owned | <img src=x onerror=alert(1)> '
    "[a](javascript:b) `c` \u202e\x1b[31m"
)
SIX = Exemplar(question="2 * 3?", rationale="2 * 3 = 6.", answer="6")
TASK = Task(name="n", kind="number", exemplars=(SIX,))


def card(**changed):
    told = {
        "to": "gguf", "title": "m", "use": "Use it.", "base": "m.gguf", "base_sha256": "aa",
        "base_name": "", "licence": "", "checks": (("apart", "1%"),), "remarks": (),
    }  # fmt: skip
    return Card(**{**told, **changed})


def header(text):
    return text.split("---\n")[1]


@pytest.mark.parametrize("field", ["title", "base", "base_name", "licence"])
def test_hostile_metadata_breaks_neither_header_nor_page(field):
    text = card_text(card(**{field: HOSTILE}))
    lines = text.splitlines()
    assert [n for n, x in enumerate(lines) if x == "---"] == [0, 1 + len(header(text).splitlines())]
    assert not any(x.startswith("license:") for x in lines)
    page = text.partition("\n---\n")[2]
    assert "\x1b" not in text and "\u202e" not in text
    assert "<img" not in page.replace(r"\<img", "") and "[a](" not in page
    # one heading for the title, the rest are the card's own; no row has more cells than two
    assert sum(x.startswith("# ") for x in lines) == 1
    assert all(x.replace(r"\|", "").count("|") == 3 for x in lines if x.startswith("|"))


def test_the_hub_finds_the_base_and_people_what_was_measured(run):
    from huggingface_hub import ModelCard

    measured = (read_evaluation(run.eval_result("test")),)
    text = card_text(card(title=HOSTILE, repository="a/b", licence="mit", measured=measured))
    data = ModelCard(text).data
    assert (data.base_model, data.license, data.pipeline_tag) == ("a/b", "mit", "text-generation")
    assert data.library_name == "gguf" and "CoT greedy" in text
    assert "<script" not in text.replace("\\<", "")


def test_figures_and_addresses_stay_readable_long_texts_are_cut_and_gaps_told():
    text = card_text(card(checks=(("12.5% (-3 to +4)", "https://x.y or www.x.y"), ("a" * 999, ""))))
    assert r"| 12.5% \(-3 to +4\) | https\://x.y or www\.x.y |" in text
    assert len(text) < 1500
    # what is not known is said
    assert "license" not in header(text) and "not stated" in text and "Nothing was measured" in text


# Ollama's grammar: a command, then a value up to its line's end or between three quotes.
COMMAND = re.compile(r'^(?:PARAMETER )?(\w+) (?:"""(.*?)"""|([^\n]*))\n', re.MULTILINE | re.DOTALL)


def parse(text):
    assert COMMAND.sub("", text) == ""
    return [(name, quoted or plain) for name, quoted, plain in COMMAND.findall(text)]


def test_the_modelfile_says_how_the_paths_were_drawn():
    found = parse(modelfile("./m.gguf", TASK, SamplingConfig(temperature=0.5)))
    assert found[0] == ("FROM", "./m.gguf")
    assert {("temperature", "0.5"), ("repeat_penalty", "1"), ("stop", "\nQ:")} < set(found)
    assert found[-1] == ("TEMPLATE", "Q: {{ .Prompt }}\nA: Let's think step by step.")


def test_a_conversation_has_no_template_of_ours_and_its_system_message_does_not_end_early():
    def talking(system):
        task = msgspec.structs.replace(TASK, chat=Chat(few_shot="turns", system=system))
        return modelfile("./m.gguf", task, SamplingConfig())

    found = parse(talking('Say "7".\nAlways.'))
    assert found[-1] == ("SYSTEM", 'Say "7".\nAlways.')
    assert "TEMPLATE" not in dict(found)
    for system in ('a """ b', 'ends with "'):
        with pytest.raises(LmsiError, match="no place in a Modelfile"):
            talking(system)


def test_exemplars_are_part_of_the_template():
    few = msgspec.structs.replace(TASK, prompt="cot-few")
    text = template(few)
    assert text.startswith("Q: 2 * 3?\nA: 2 * 3 = 6. The answer is 6.\n\nQ: {{ .Prompt }}\nA:")
    system = Exemplar(question="{{ .System }}?", rationale="", answer="6")
    with pytest.raises(LmsiError, match="Ollama template"):
        template(msgspec.structs.replace(few, exemplars=(system,)))
