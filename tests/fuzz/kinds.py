"""What is fed to lmsi, and where: each kind makes good files once and gives a function of chance.

Such a function spoils a file, reads it as a command would, and returns the exit code that this
would have had, and what is wrong with it.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import chat_models
import feeding
import msgspec
from mutations import spoiled
from typer.testing import CliRunner
from whole_run import SHORT

from lmsi_cli.cli.main import app
from lmsi_cli.cli.options import read_tables
from lmsi_cli.engine.metadata import read_metadata
from lmsi_cli.engine.template import ChatTemplate
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Message
from lmsi_cli.splits import readers, tensors
from lmsi_cli.tasks.harness import read_samples
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.readers import read_labelled, read_questions
from lmsi_cli.tasks.wording import read_wordings
from lmsi_cli.training.header import read_meta

ROOT = Path(__file__).parent.parent.parent


def read(function, given, *names):
    """The exit code of a command that reads no more than this."""
    try:
        function(given)
        return 0, ""
    except LmsiError as e:
        return feeding.refused(e, *names)


def one_of(rng, files):
    """Pick a file: its name, its content, and all contents that may take its place."""
    name = rng.choice(sorted(files))
    return name, files[name], list(files.values())


# -- questions -------------------------------------------------------------------------------------

ROWS = [
    {"id": "a", "question": "What is 1 + 1?", "answer": 2, "family": "sums"},
    {"question": "Which is wet?\n(A) sand\n(B) the sea", "answer": "B", "context": "It rains."},
    {"id": 7, "question": "Is it?", "answer": True, "group": "g"},
]
PUBLISHED = {
    "gsm8k": {"question": "6 * 7?", "answer": "6 * 7 = <<6*7=42>>42\n#### 42"},
    "svamp": {"ID": "c1", "Body": "Dan has 4.", "Question": "How many?", "Answer": 4.0},
    "aqua": {"question": "Which is wet?", "options": ["A)sand", "B)the sea"], "correct": "B"},
    "strategyqa": {"qid": "s", "question": "Is it?", "answer": False},
    "boolq": {"question": "is it wet", "title": "Rain", "answer": True, "passage": "It rains."},
    "arc": {"id": "1", "question": "Which?", "answerKey": "1",
            "choices": {"text": ["sand", "the sea"], "label": ["1", "2"]}},
    "drop": {"p": {"passage": "In 1918.", "qa_pairs": [
        {"query_id": "q", "question": "?", "answer": {"number": "3", "date": {}, "spans": []}}]}},
    "anli": {"uid": "u", "context": "It rains.", "hypothesis": "It is wet.", "label": "e"},
    "mnli": {"pairID": "1", "sentence1": "It rains.", "sentence2": "Wet.", "gold_label": "neutral"},
    "rte": {"index": 1, "sentence1": "It rains.", "sentence2": "Wet.", "label": "entailment"},
    "math": {"problem": "x?", "solution": r"$\boxed{\frac12}$", "type": "Algebra"},
}  # fmt: skip
SAMPLE = {
    "doc": {"question": "1 + 1?", "answer": "2"},
    "resps": [["2"]],
    "filter": "none",
    "metrics": ["exact_match"],
    "exact_match": 1.0,
    "arguments": {"g": {"a": "Q"}},
}


def lines(values):
    return "".join(json.dumps(v) + "\n" for v in values).encode()


def questions(place):
    """Question files of every kind, and samples of lm-evaluation-harness."""
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({k: [str(r.get(k)) for r in ROWS] for k in ("id", "question", "answer")})
    parquet.write_table(table, place / "t.parquet")
    for name, writer in (("t.arrow", pa.ipc.new_file), ("s.arrow", pa.ipc.new_stream)):
        with writer(str(place / name), table.schema) as file:
            file.write_table(table)
    files = {name: (place / name).read_bytes() for name in ("t.parquet", "t.arrow", "s.arrow")}
    files |= {
        "q.jsonl": lines(ROWS),
        "q.json": json.dumps(ROWS).encode(),
        "samples.jsonl": lines([SAMPLE]),
    }
    files |= {"q.csv": b'id,question,answer\na,"1, 2?",3\nb,x,4\n', "q.txt": b"1 + 1?\n2 + 2?\n"}
    files |= {
        "q.json": json.dumps(ROWS).encode(),
        "q.tsv": b"question\tanswer\n1?\t2\n3?\t4\n",
        "q": b"question;answer\n1?;2\n",
    }
    files |= {f"{name}:{name}.json": lines([row]) for name, row in PUBLISHED.items()}

    def target(rng):
        name, data, others = one_of(rng, files)
        file = name.rpartition(":")[2]
        Path(file).write_bytes(spoiled(rng, data, others))
        reader = read_samples if file == "samples.jsonl" else rng.choice((read_questions, sound))
        return read(reader, name, file)

    def sound(name):
        """What is read is sound: it can be written down, and each question has its answer."""
        found = read_labelled(name)
        msgspec.json.encode(found)
        assert all(q.id and q.question and q.answer for q in found)

    return target


# -- tasks, wordings, settings ---------------------------------------------------------------------


def tables(place):
    """Tasks, wordings and config files."""
    tasks = ROOT / "lmsi_cli" / "tasks"
    files = {f.name: f.read_bytes() for f in tasks.glob("*.toml")}
    files |= {f"w-{f.name}": f.read_bytes() for f in (tasks / "wordings").glob("*.toml")}
    files["lmsi.toml"] = (
        b"[sample]\npaths = 3\ntemperature = 0.5\nprompt = 'boxed'\ntemplate_var = ['a=1']\n"
        b"[vote]\nformats = ['cot-few']\nmin_share = 0.5\n[train]\nlr = 1e-4\ninit = 'x'\n"
        b"[eval]\nmodes = ['cot']\n"
    )

    def target(rng):
        name, data, others = one_of(rng, files)
        Path("f.toml").write_bytes(spoiled(rng, data, others))
        kind = {"lmsi.toml": read_tables, "w-": read_wordings}
        reader = kind.get(name) or kind.get(name[:2]) or load_task
        given = "./f.toml" if reader is load_task else Path("f.toml")
        return read(reader, given, "f.toml")

    return target


# -- run folders -----------------------------------------------------------------------------------

COMMANDS = [
    ("vote", "r", "-q"), ("report", "r"), ("show", "r", "--question", "q1"), ("show", "r"),
    ("watch", "r", "--once"), ("compare", "r", "r"), ("eval", "r", "--import", "s.jsonl"),
    ("export", "r", "--to", "parquet", "--overwrite"), ("export", "r", "--to", "hub"),
    ("sample", "r/questions.jsonl", "-m", "m.gguf", "-o", "r", "-n", "2", "--chat", "off", *SHORT),
]  # fmt: skip


COSTLY = [
    ("train", "r", "-q", "--force", "--set", "max_steps=1"),
    ("eval", "r", "--data", "test.jsonl", "--modes", "cot", *SHORT),
]


OF_ADAPTER = [
    *(("export", "r", "--to", to, "--overwrite") for to in ("adapter", "hub", "gguf", "hf")),
    ("train", "b", "-q", "--force", "--set", "max_steps=1", "--set", "init=r/adapter",
     "--overwrite"),
    COSTLY[1],
]  # fmt: skip


def run_folder(place, trained=False, inside=".", commands=COMMANDS):
    """A run folder of which one file is spoiled, and the commands that read it."""
    from whole_run import whole_run

    whole_run(place, ROOT, trained)
    found = sorted((place / "r" / inside).rglob("*"))
    good = [f for f in found if f.is_file() and f.suffix != ".html"]
    contents = {f: f.read_bytes() for f in good}
    for copy in ("good", "b"):  # what is put back, and a run that starts from r's adapter
        shutil.copytree(place / "r", place / copy)

    def target(rng):
        file = rng.choice(good)
        others = [rng.choice(list(contents.values())), contents[file][::-1]]
        shutil.rmtree("r")
        shutil.copytree("good", "r")
        file.write_bytes(spoiled(rng, contents[file], others))
        return called(*rng.choice(commands))

    return target


def called(*argv):
    """The exit code of a command, and what is wrong with how it ended."""
    done = CliRunner().invoke(app, argv)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if done.exit_code == 1 and not any(w in e for e in errors for w in ("r/", "r:", "q")):
        return 1, f"names no file: {done.stderr[:200]!r}"
    if any(".unfinished" in line for line in errors):
        return 1, f"names a file that is gone by now: {errors}"
    if done.exit_code not in (0, 1):
        return done.exit_code, f"exit code {done.exit_code}: {done.stderr[:200]!r}"
    return done.exit_code, ""


# -- models ----------------------------------------------------------------------------------------


def model(place):
    """GGUF files, as lmsi's own readers meet them."""
    import broken_models
    from whole_run import small_model

    small = small_model(ROOT, place / "g.gguf")
    broken_models.adapter(place / "a.gguf", 32)
    broken_models.bert(place / "b.gguf")
    files = {f.name: f.read_bytes() for f in (small, place / "a.gguf", place / "b.gguf")}

    def target(rng):
        _, data, others = one_of(rng, files)
        Path("m.gguf").write_bytes(spoiled(rng, data, others))
        reader = rng.choice((read_metadata, read_meta, readers, numbers))
        return read(reader, Path("m.gguf"), "m.gguf")

    def numbers(file):
        from lmsi_cli.training import load

        meta = read_meta(file)
        for t in tensors(file):
            assert t.name in meta.shapes
            load.numbers(t, t.data[:2])

    return target


def loaded(place):
    """GGUF files, as llama.cpp meets them behind lmsi's own look at them."""
    from whole_run import small_model

    from lmsi_cli.engine.encode import Encoder
    from lmsi_cli.engine.llama import LlamaModel

    data = small_model(ROOT, place / "g.gguf").read_bytes()

    def target(rng):
        Path("m.gguf").write_bytes(spoiled(rng, data))
        return read(load, Path("m.gguf"), "m.gguf")

    def load(file):
        model = LlamaModel(file, vocab_only=True)
        model.encode("Tom has 3 pens.")
        Encoder(model).prompt((Message(role="user", content="Hi"),))
        model.close()
        LlamaModel(file).close()

    return target


def template(place):
    """Chat templates: the habits of those in the field, spoiled."""
    files = [v for v in vars(chat_models).values() if isinstance(v, str) and "{%" in v]
    said = {"system": "Be brief.", "user": "1 + 1?", "assistant": "2"}
    talk = tuple(Message(role=role, content=text) for role, text in said.items())

    def target(rng):
        source = rng.choice(files).encode()
        text = spoiled(rng, source, [f.encode() for f in files]).decode(errors="replace")
        return read(
            lambda t: ChatTemplate(t, "<s>", "</s>", "m.gguf").write(talk, True), text, "m.gguf"
        )

    return target


def replies(place):
    """What a server replies; the run is begun anew for each."""
    from servers import Front, Model

    from lmsi_cli.engine.server import client

    client.FIRST = 0.001
    good, chance = Model(), []
    front = Front(lambda seen: (200, {}, one_spoiled(seen))).__enter__()
    Path("q.jsonl").write_bytes(lines([{"id": "q", "question": "What is 1 + 1?"}]))
    argv = (
        "sample",
        "q.jsonl",
        "-o",
        "r",
        "-q",
        "--engine",
        "openai",
        "--base-url",
        front.url,
        "--model",
        "tiny",
        "--paths",
        "2",
        "--set",
        "retries=1",
        "--set",
        "timeout=5",
    )

    def one_spoiled(seen):
        data = json.dumps(good(seen)[2]).encode()
        return spoiled(chance[0], data) if chance[0].random() < 0.5 else data

    def target(rng):
        chance[:] = [rng]
        shutil.rmtree("r", ignore_errors=True)
        return called(*argv, "--chat", rng.choice(("on", "off")), "--prompt", "cot-zero")

    return target


KINDS = {
    "questions": questions, "tables": tables, "run": run_folder,
    "trained": partial(run_folder, trained=True, commands=COMMANDS + COSTLY),
    "adapter": partial(run_folder, trained=True, inside="adapter", commands=OF_ADAPTER),
    "model": model, "loaded": loaded,
    "template": template, "replies": replies,
}  # fmt: skip
