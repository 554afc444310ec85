"""What is fed to lmsi, and where: each kind makes good files once and gives a function of chance.

Such a function spoils a file, reads it as a command would, and returns what is wrong with what came
of it: nothing, if it was read or refused in a line that names the file.
"""

import json
import shutil
from pathlib import Path

import broken_models
import chat_models
import msgspec
from commands import QUESTIONS, call, give_answers
from mutations import spoiled

from lmsi_cli.cli.options import read_tables
from lmsi_cli.engine.template import ChatTemplate
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Message
from lmsi_cli.run_folder import RunDir
from lmsi_cli.splits import read_metadata, readers, tensors
from lmsi_cli.stages.importing import read_samples
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.readers import read_labelled, read_questions
from lmsi_cli.tasks.wording import read_wordings
from lmsi_cli.training.header import read_meta
from tests.tasks.published_rows import DROP, ROWS
from tests.tasks.task_helpers import table

ROOT = Path(__file__).parent.parent.parent


def read(function, given, name):
    """What is wrong with how a reader ends."""
    try:
        function(given)
    except LmsiError as e:
        return "" if name in str(e) else f"names no file: {str(e)[:200]}"
    return ""


def called(*argv):
    """What is wrong with how a command ends."""
    done = call(*argv)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    named = any(word in line for line in errors for word in ("r/", "r:", "q"))
    sound = done.exit_code == 0 or (done.exit_code == 1 and named)
    return "" if sound else f"exit code {done.exit_code}: {done.stderr[:200]!r}"


def lines(values):
    return "".join(json.dumps(v) + "\n" for v in values).encode()


# -- questions, tasks, settings --------------------------------------------------------------------

OWN = [
    {"id": "a", "question": "What is 1 + 1?", "answer": 2, "family": "sums"},
    {"question": "Which is wet?\n(A) sand\n(B) the sea", "answer": "B", "context": "It rains."},
    {"id": 7, "question": "Is it?", "answer": True, "group": "g"},
]
SAMPLE = {
    "doc": {"question": "1 + 1?", "answer": "2"}, "resps": [["2"]], "filter": "none",
    "metrics": ["exact_match"], "exact_match": 1.0, "arguments": {"g": {"a": "Q"}},
}  # fmt: skip
TEXTS = {
    "q.jsonl": lines(OWN),
    "q.json": json.dumps(OWN).encode(),
    "samples.jsonl": lines([SAMPLE]),
    "q.csv": b'id,question,answer\na,"1, 2?",3\nb,x,4\n',
    "q.txt": b"1 + 1?\n2 + 2?\n",
    "q.tsv": b"question\tanswer\n1?\t2\n3?\t4\n",
    "q": b"question;answer\n1?;2\n",
    "drop:drop.json": lines([DROP]),
    **{f"{name}:{name}.json": lines([row]) for name, row, _ in reversed(ROWS)},
}
CONFIG = (
    b"[sample]\npaths = 3\ntemperature = 0.5\nprompt = 'boxed'\ntemplate_var = ['a=1']\n"
    b"[vote]\nformats = ['cot-few']\nmin_share = 0.5\n[train]\nlr = 1e-4\ninit = 'x'\n"
    b"[eval]\nmodes = ['cot']\n"
)


def questions(place):
    """Question files of every kind, and samples of lm-evaluation-harness."""
    columns = {k: [str(row.get(k)) for row in OWN] for k in ("id", "question", "answer")}
    writers = {"t.parquet": "", "t.arrow": "new_file", "s.arrow": "new_stream"}
    files = {name: table(columns, writer) for name, writer in writers.items()} | TEXTS

    def target(rng):
        name = rng.choice(sorted(files))
        file = name.rpartition(":")[2]
        Path(file).write_bytes(spoiled(rng, files[name], list(files.values())))
        reader = read_samples if file == "samples.jsonl" else rng.choice((read_questions, sound))
        return read(reader, name, file)

    return target


def sound(name):
    """What is read is sound: it can be written down, and each question has its answer."""
    found = read_labelled(name)
    msgspec.json.encode(found)
    assert all(q.id and q.question and q.answer for q in found)


def tables(place):
    """Tasks, wordings and config files."""
    tasks = ROOT / "lmsi_cli" / "tasks"
    files = [(f.read_bytes(), load_task) for f in sorted(tasks.glob("*.toml"))]
    wordings = sorted((tasks / "wordings").glob("*.toml"))
    files += [(f.read_bytes(), read_wordings) for f in wordings]
    files.append((CONFIG, read_tables))

    def target(rng):
        data, reader = rng.choice(files)
        Path("f.toml").write_bytes(spoiled(rng, data, [other for other, _ in files]))
        return read(reader, "./f.toml" if reader is load_task else Path("f.toml"), "f.toml")

    return target


# -- run folders -----------------------------------------------------------------------------------

SHORT = ("--threads", "1", "--max-tokens", "8", "-q")
DRAW = ("-m", "m.gguf", "-o", "r", "-n", "2", "--chat", "off", *SHORT)
STEP = ("-q", "--force", "--set", "max_steps=1")
MEASURE = ("eval", "r", "--data", "test.jsonl", "--modes", "cot", *SHORT)
COMMANDS = [
    ("vote", "r", "-q"), ("report", "r"), ("show", "r", "--question", "q1"), ("show", "r"),
    ("watch", "r", "--once"), ("compare", "r", "r"), ("eval", "r", "--import", "s.jsonl"),
    ("sample", "q.jsonl", *DRAW), ("export", "r", "--to", "parquet", "--overwrite"),
]  # fmt: skip
OF_ADAPTER = [
    *(("export", "r", "--to", to, "--overwrite") for to in ("adapter", "gguf", "hf")),
    ("train", "b", *STEP, "--set", "init=r/adapter", "--overwrite"),
    MEASURE,
]
ROUND = {
    "number": 1, "folder": ".", "temperature": 0.7, "seed": 0, "drawn_by": 0, "started_from": 0,
    "verdict": "train", "questions": 2, "kept_questions": 2, "kept_paths": 4, "mean_share": 1.0,
    "trained": True,
}  # fmt: skip
ROUNDS = {"asked": 2, "rounds": [ROUND], "best": {"number": 1, "by": "nothing", "why": "first"}}


def run(place):
    """A run folder in which a vote was taken, and the commands that read it."""
    sampled(place)
    return of_folder(place / "r", COMMANDS)


def adapter(place):
    """The adapter's folder in a run that was trained and measured, and who reads it."""
    sampled(place)
    for argv in (("train", "r", *STEP), MEASURE):
        assert not called(*argv)
    return of_folder(place / "r" / "adapter", OF_ADAPTER)


def sampled(place):
    """A run folder ``r`` as `lmsi sample` and `lmsi vote` leave it, with a file of rounds."""
    small_model(place / "m.gguf")
    (place / "q.jsonl").write_text(QUESTIONS)
    (place / "test.jsonl").write_bytes(lines([{"id": "t", "question": "6 + 2?", "answer": 8}]))
    (place / "s.jsonl").write_bytes(lines([SAMPLE]))
    assert not called("sample", "q.jsonl", *DRAW)
    give_answers(RunDir("r"), questions=("q0", "q1", "q2"))
    assert not called("vote", "r", "-q")
    RunDir("r").rounds.write_text(json.dumps(ROUNDS))


def of_folder(folder, commands):
    """Spoil one file below a folder of the run ``r``, and give it to a command that reads it."""
    contents = {f: f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}
    for copy in ("good", "b"):  # what is put back, and a run that starts from r's adapter
        shutil.copytree("r", copy)

    def target(rng):
        file = rng.choice(list(contents))
        shutil.rmtree("r")
        shutil.copytree("good", "r")
        file.write_bytes(spoiled(rng, contents[file], [rng.choice(list(contents.values()))]))
        return called(*rng.choice(commands))

    return target


# -- models ----------------------------------------------------------------------------------------


def small_model(target):
    """The embedded model's first block, with a chat template."""
    source = ROOT / "models" / "tinymath" / "tinymath-f16.gguf"
    return chat_models.chat_model(source, target, chat_models.CHATML)


def model(place):
    """GGUF files, as lmsi's own readers meet them."""
    small_model(place / "g.gguf")
    broken_models.adapter(place / "a.gguf", 32)
    broken_models.bert(place / "b.gguf")
    files = [(place / f"{name}.gguf").read_bytes() for name in "gab"]

    def target(rng):
        Path("m.gguf").write_bytes(spoiled(rng, rng.choice(files), files))
        reader = rng.choice((read_metadata, read_meta, readers, numbers))
        return read(reader, Path("m.gguf"), "m.gguf")

    return target


def numbers(file):
    from lmsi_cli.training import load

    meta = read_meta(file)
    for t in tensors(file):
        assert t.name in meta.shapes
        load.numbers(t, t.data[:2])


def loaded(place):
    """GGUF files, as llama.cpp meets them behind lmsi's own look at them."""
    data = small_model(place / "g.gguf").read_bytes()

    def target(rng):
        Path("m.gguf").write_bytes(spoiled(rng, data))
        return read(load, Path("m.gguf"), "m.gguf")

    return target


def load(file):
    from lmsi_cli.engine.encode import Encoder
    from lmsi_cli.engine.llama import LlamaModel

    model = LlamaModel(file, vocab_only=True)
    model.encode("Tom has 3 pens.")
    Encoder(model).prompt((Message(role="user", content="Hi"),))
    model.close()
    LlamaModel(file).close()


def template(place):
    """Chat templates: the habits of those in the field, spoiled."""
    files = [v.encode() for v in vars(chat_models).values() if isinstance(v, str) and "{%" in v]
    said = {"system": "Be brief.", "user": "1 + 1?", "assistant": "2"}
    talk = tuple(Message(role=role, content=text) for role, text in said.items())

    def write(text):
        ChatTemplate(text, "<s>", "</s>", "m.gguf").write(talk, True)

    def target(rng):
        text = spoiled(rng, rng.choice(files), files).decode(errors="replace")
        return read(write, text, "m.gguf")

    return target


def replies(place):
    """What a server replies; the run is begun anew for each."""
    from servers import Front, Model

    from lmsi_cli.engine.server import client

    client.FIRST = 0.001
    good, chance = Model(), []

    def answer(seen):
        data = json.dumps(good(seen)[2]).encode()
        return 200, {}, spoiled(chance[0], data) if chance[0].random() < 0.5 else data

    front = Front(answer).__enter__()
    Path("q.jsonl").write_bytes(lines([{"id": "q", "question": "What is 1 + 1?"}]))
    server = f"--engine openai --base-url {front.url} --model tiny --paths 2"
    argv = f"sample q.jsonl -o r -q {server} --set retries=1 --set timeout=5 --prompt cot-zero"

    def target(rng):
        chance[:] = [rng]
        shutil.rmtree("r", ignore_errors=True)
        return called(*argv.split(), "--chat", rng.choice(("on", "off")))

    return target


KINDS = {"questions": questions, "tables": tables, "run": run, "adapter": adapter, "model": model,
         "loaded": loaded, "template": template, "replies": replies}  # fmt: skip
