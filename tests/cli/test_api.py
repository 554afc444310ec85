"""lmsi from Python: six functions, their results as a notebook shows them, and mistakes."""

import inspect
import shutil

import commands
import msgspec
import pytest

import lmsi_cli
from lmsi_cli.config import TABLES
from lmsi_cli.errors import LmsiError
from lmsi_cli.run_folder import RunDir

SERVER = {"engine": "openai", "base_url": "http://127.0.0.1:9", "model": "x"}


@pytest.mark.parametrize("name", ["sample", "vote", "train", "evaluate"])
def test_settings_are_those_of_the_command(name):
    parameters = inspect.signature(getattr(lmsi_cli, name)).parameters
    table = TABLES["eval" if name == "evaluate" else name]
    defaults = {f.name: f.default for f in msgspec.structs.fields(table)}
    assert defaults.items() <= {p.name: p.default for p in parameters.values()}.items()


def test_results_show_their_tables(sampled, capfd):
    run, test = RunDir("r"), (sampled / "test.jsonl").rename("te<b>st.jsonl")
    mine = (sampled / "q.jsonl").rename("my q.jsonl")
    drawn = lmsi_cli.sample(mine, "r", model="m.gguf", threads=1, paths=2, max_tokens=8)
    told = msgspec.json.decode(run.status.read_bytes())
    assert told["command"] == f"sample '{mine}' -o r"  # for `lmsi watch`
    commands.give_answers(run, " 3 + 4 = 8. The answer is 7.")
    measured = lmsi_cli.evaluate("r", test, modes=["cot"], threads=1, max_tokens=8, quiet=True)
    assert capfd.readouterr().err == ""
    votes = lmsi_cli.vote("r", check_equations=False, max_paths_per_question=1)
    told = capfd.readouterr()
    shutil.copytree("r", "again")
    results = {
        "paths": drawn,
        "no labels": votes,
        "te&lt;b&gt;st": measured,
        "CoT greedy": lmsi_cli.compare("r", "again"),
        "te&lt;b&gt;st:": lmsi_cli.report("r"),
    }
    for words, result in results.items():
        html = result._repr_html_()
        assert words in html and "<table>" in html and "<b>" not in html
    assert (drawn.paths, votes.summary.kept_paths, measured[0].n) == (4, 2, 1)
    assert told.out == "" and "voting  2/2" in told.err
    assert msgspec.json.decode(run.status.read_bytes())["command"] == "vote r"


def test_a_dry_run_tells_and_leaves_nothing(folder):
    (folder / "q.txt").write_text("".join(f"Tom has {n} pens. How many?\n" for n in range(5)))
    settings = {"model": "m.gguf", "threads": 1, "paths": 2, "max_tokens": 4, "prompt": "auto"}
    told = lmsi_cli.sample("q.txt", "new", dry_run=True, quiet=True, **settings)
    assert told.trial.questions == 5 and told.cost.seconds > 0 and "Tom has" in told.prompt[0].text
    assert "<caption>wordings, tried on 5 questions</caption>" in told._repr_html_()
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("call", "told", "hint"),
    [
        (lambda: lmsi_cli.sample("q.jsonl", "new", path=3), "unknown setting 'path'", "'paths'"),
        (lambda: lmsi_cli.vote("r", min_share=2), "vote() min_share: expected a number", ""),
        (lambda: lmsi_cli.train("r", out="s"), "-o is a student's", "--student"),
        (lambda: lmsi_cli.sample("q.jsonl", "new", dry_run=True, **SERVER), "only the server", ""),
        (lambda: lmsi_cli.evaluate("r", []), "no questions to measure on", "--data"),
        (lambda: lmsi_cli.report("r", "q.jsonl"), "is there already", ""),
    ],
)
def test_a_mistake_is_one_line_in_a_notebook(sampled, call, told, hint):
    with pytest.raises(LmsiError) as e:
        call()
    lines = e.value._render_traceback_()
    assert told in lines[0] and len(lines) <= 2 and hint in lines[-1]
    assert not (sampled / "new").exists()
