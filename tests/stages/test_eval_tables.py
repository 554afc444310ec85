"""What a person sees of an evaluation and of a comparison."""

import io

from rich.console import Console
from test_evaluate import LABELLED, examined, variants

from lmsi_cli.records import Question
from lmsi_cli.reporting.evaluation import eval_parts
from lmsi_cli.reporting.pairwise import flip_texts, opposed_section
from lmsi_cli.reporting.text import rendered
from lmsi_cli.stages.compare import compare


def shown(parts):
    console = Console(file=io.StringIO(), width=200, highlight=False)
    for part in rendered(*parts):
        console.print(part)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_base_and_adapter_stand_side_by_side_and_the_deciding_line_has_a_star(tmp_path):
    lines = shown(eval_parts(examined(tmp_path, modes=("cot", "sc"))))
    assert lines[0] == "test: 4 questions, % right [95% interval]"
    assert lines[1].split() == ["base", "adapter", "change,", "paired", "p"]
    greedy = next(line for line in lines if line.startswith("CoT greedy *"))
    assert greedy.split()[3:5] == ["50.0", "[15,"] and greedy.endswith("1.000")
    assert any(line.startswith("one sampled path") and "37.5 [" in line for line in lines)
    assert not any("seeds" in line or "temperature of" in line for line in lines)
    text = "\n".join(lines)
    assert "CoT greedy on test: adapter is not clearly different from base" in text
    assert "50.0% to 50.0% of 4 questions right, +0.0 points" in text


def test_sweeps_have_tables_of_their_own(tmp_path):
    config = {"temperature": (0.7, 1.2), "seed": (0, 1), "modes": ("sc",)}
    text = "\n".join(shown(eval_parts(examined(tmp_path, **config))))
    assert "The figures are of seed 0, the changes of all seeds." in text
    assert "by temperature, over 2 seeds of the paths" in text
    assert "a little too good" in text
    rows = [line for line in text.splitlines() if ", t 1.2" in line]
    assert rows and rows[0].startswith("one sampled path, t 1.2")


def test_many_models_go_below_one_another(tmp_path):
    base, adapter = variants()
    models = [base, *(adapter._replace(name=f"adapter x{s}", scale=s) for s in (0.5, 1))]
    lines = shown(eval_parts(examined(tmp_path, models=models, modes=("cot",))))
    rows = [line.split("  ")[0] for line in lines[2:5]]
    assert rows == ["CoT greedy *", "", ""]
    assert "adapter x0.5" in lines[3] and "adapter x1" in lines[4]
    assert "Of 2 comparisons none is clear" in "\n".join(lines)


def test_a_comparison_tells_settings_first_and_flips_with_their_texts(tmp_path):
    examined(tmp_path / "a", modes=("cot", "sc"))
    examined(tmp_path / "b", modes=("cot", "sc"), temperature=(1.0,))
    text = "\n".join(shown([opposed_section(compare(tmp_path / "a", tmp_path / "b"))]))
    assert text.index("what differs") < text.index("4 questions, % right")
    itself = tmp_path / "a", tmp_path / "a"  # its base and its adapter
    found = compare(*itself)
    lines = shown([opposed_section(found)])
    assert "CoT greedy, of 4 questions: better 1, worse 1" in lines
    assert [line.split()[:2] for line in lines[-2:]] == [["t2", "better"], ["t0", "worse"]]
    told = "\n".join(shown(flip_texts(found)))
    assert (
        "better in B: t2, right is 4\nWhat is 2 + 2?\nA wrong, 99:\n  The answer is 99.\nB " in told
    )
    votes = shown(flip_texts(compare(*itself, line="any of 2")))
    assert "A right, 0 2 times:" in votes


def test_markup_in_a_question_is_only_text(tmp_path):
    hostile = Question(id="t0", question="[red]What[/] is 0 + 0?\x1b[2J", answer="0")
    asked = [hostile, *LABELLED[1:]]
    result = examined(tmp_path, sets={"[b]x": asked}, modes=("cot",))
    assert "[b]x: 4 questions" in shown(eval_parts(result))[0]
    found = compare(tmp_path, tmp_path)
    told = "\n".join(shown(flip_texts(found)))
    assert "[red]What[/] is 0 + 0?" in told and "\x1b" not in told
