"""The table of bad input: which command meets which files, and the whole of what it says.

Every message is compared as a whole: a change of words is a change of what people see.
"""

from typing import NamedTuple

import broken_models

from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.wording import FORMATS, candidates

ONE = '{"question": "How many?"}\n'
FORMS = (
    'a question file is JSONL ({"question": "..."} a line), CSV with a `question` column, or text '
    "with one question a line"
)
TABLES = "[sample], [vote], [train], [eval], [run], [export], [questions], [exemplars]"
SAMPLE = "sample q.jsonl -m m.gguf -o r --threads 1 -n 2 --max-tokens 8"
CUT = "cut.gguf: this GGUF file of {size} bytes is cut short or damaged: {why}"
STOPS = (
    "none, beta:P with P from 0.5 to below 1 (beta:0.95), "
    "or window:W with W from 2 to 999 (window:5)"
)
AGAIN = "download or copy it again"
EMBEDDER = "e.gguf: this is an embedding model; it cannot write text"
WRITER = "use a model made for text generation"


class Case(NamedTuple):
    """A command, the files it meets, and the message: the error's text and the hint's."""

    argv: str
    files: dict
    told: str
    hint: str = ""


def questions(content, told, hint=FORMS, name="bad.jsonl"):
    return Case(f"sample {name} -m m.gguf -o r", {name: content}, told, hint)


def written(data):
    """A file of these bytes."""

    def make(_source, target):
        target.write_bytes(data)

    return make


def config(content, told, hint=""):
    return Case(f"{SAMPLE} --config c.toml", {"c.toml": content}, f"c.toml{told}", hint)


def cut(keep, why, command="sample q.jsonl -m cut.gguf -o r"):
    def make(source, target):
        broken_models.truncated(source, target, keep)

    return Case(command, {"cut.gguf": make}, CUT.format(size=f"{keep:,}", why=why), AGAIN)


def flag(typed, told, hint=""):
    return Case(f"{SAMPLE} {typed}", {}, told, hint)


def model(make, told, hint, command="sample q.jsonl -m e.gguf -o r"):
    return Case(command, {"e.gguf": make}, told, hint)


QUESTION_FILES = {
    "missing": questions(None, "bad.jsonl: no such file", "give a question file, or `-`"),
    "empty": questions("", "bad.jsonl: no questions in it"),
    "blank": questions("\n \n", "bad.jsonl: no questions in it"),
    "line 17": questions(
        "".join(f'{{"question": "{i}?"}}\n' for i in range(16)) + '{"text": "x"}\n',
        "bad.jsonl:17: missing field 'question'",
    ),
    "no JSON": questions(
        ONE + "How many?\n", "bad.jsonl:2: not valid JSON: invalid character (byte 0)"
    ),
    "duplicate id": questions(
        '{"id": "a", "question": "x"}\n{"id": "a", "question": "y"}\n',
        "bad.jsonl:2: id 'a' is also at bad.jsonl:1, with another question",
        "give each question its own id, or none at all",
    ),
    "CSV without the column": questions(
        "text\nx\n", "bad.csv:1: no column 'question' in the header", name="bad.csv"
    ),
    "carriage returns": questions(
        "id,question\ra,x\rb,y,z\r",
        "bad.csv:3: 3 columns, the header has 2",
        'text with a comma or a line break needs quotes: "..."',
        name="bad.csv",
    ),
    "UTF-16": questions(
        written("1 + 1?\n".encode("utf-16-le")),
        "bad.txt: UTF-16LE text, not UTF-8",
        "iconv -f UTF-16LE -t UTF-8 bad.txt > utf8.txt",
        name="bad.txt",
    ),
    "a NUL byte": questions(
        f"{ONE}\0\n",
        "bad.jsonl:2: holds a NUL byte",
        "text has none: look with `file` what this is, or delete them with `tr -d '\\0'`",
    ),
    "an id that is NaN": questions(
        '{"question": "x", "id": NaN}',
        "bad.jsonl:1: field 'id': expected text or a whole number, got NaN",
        "",
    ),
    "a passage that is no text": questions(
        '{"question": "x", "context": {"y": 1}}',
        "bad.jsonl:1: field 'context': expected text, got an object",
        "",
    ),
    "Parquet by name alone": questions(
        "",
        "bad.parquet: not a Parquet or Arrow table: Tried reading schema message, was null or "
        "length 0",
        "write it again, or save it as JSONL",
        name="bad.parquet",
    ),
    "several splits": Case(
        "sample d -m m.gguf -o r",
        {"d/dataset_dict.json": '{"splits": ["train", "test"]}'},
        "d: holds several splits",
        "name one: d/train, d/test",
    ),
    "a folder": Case("sample . -m m.gguf -o r", {}, ".: is a folder", "name a file in it"),
    "markup in the name": questions("", "[red]x[/].txt: no questions in it", name="[red]x[/].txt"),
    "a long name": questions("", f"{'x' * 120}.txt: no questions in it", name=f"{'x' * 120}.txt"),
    "no answers": Case(
        "eval r --data q.jsonl",
        {},
        "r: not a run folder (no [sample] in run.toml)",
        "run `lmsi sample QUESTIONS -o r` first",
    ),
}
MODELS = {
    "missing": Case(
        "sample q.jsonl -m none.gguf -o r",
        {},
        "none.gguf: no such model file, and no model of that name",
        "names: tinymath, tinymath-small; or give the path of a GGUF file",
    ),
    "text": model(
        "Hello, I am a model.",
        "e.gguf: not a GGUF file",
        "convert it with llama.cpp's converter",
    ),
    "Git LFS": model(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "e.gguf: a pointer of Git LFS, not the model",
        "run `git lfs pull`",
    ),
    "cut in the first header": cut(20, "failed to read header"),
    "cut in the vocabulary": cut(3000, "failed to read key-value pairs"),
    "cut before the weights": cut(
        40_000,
        "tensor 'token_embd.weight' data is not within the file bounds, "
        "model is corrupted or incomplete",
    ),
    "cut in the last weights": cut(
        7_000_000,
        "tensor 'blk.0.attn_q.weight' data is not within the file bounds, "
        "model is corrupted or incomplete",
    ),
    "cut, shown": cut(
        40_000, "its header or its tensors are not whole", command="models show cut.gguf"
    ),
    "cut in the header, shown": cut(
        100, "its header or its tensors are not whole", command="models show cut.gguf"
    ),
    "BERT": model(lambda _, target: broken_models.bert(target), EMBEDDER, WRITER),
    "not causal": model(
        lambda source, target: broken_models.relabelled(source, target, attention__causal=False),
        EMBEDDER,
        WRITER,
    ),
    "pooled": model(
        lambda source, target: broken_models.relabelled(source, target, pooling_type=3),
        EMBEDDER,
        WRITER,
    ),
    "unknown architecture": model(
        lambda source, target: broken_models.relabelled(source, target, "nonesuch"),
        "e.gguf: llama.cpp cannot load it: unknown model architecture: 'nonesuch'",
        "upgrade llama-cpp-python, or use another model",
    ),
    "unknown to models show": Case(
        "models show none",
        {},
        "none: no such model file, and no model of that name",
        "names: tinymath, tinymath-small; or give the path of a GGUF file",
    ),
}
ADAPTERS = {
    "other shapes": Case(
        f"{SAMPLE} --set adapter=a.gguf",
        {"a.gguf": lambda _, target: broken_models.adapter(target, 64)},
        "a.gguf: no adapter for m.gguf: tensor 'blk.0.attn_q.weight' has incorrect shape "
        "(hint: maybe wrong base model?)",
        "an adapter fits only the base it was trained on; train one for this base",
    ),
    "other architecture": Case(
        f"{SAMPLE} --set adapter=a.gguf",
        {"a.gguf": lambda _, target: broken_models.adapter(target, 512, "qwen2")},
        "a.gguf: no adapter for m.gguf: model arch and LoRA arch mismatch",
        "an adapter fits only the base it was trained on; train one for this base",
    ),
    "of another base": Case(
        f"{SAMPLE} --set adapter=a.gguf",
        {
            "a.gguf": lambda _, target: broken_models.adapter(target, 512),
            "lmsi.json": '{"base_sha256": "00", "base_file": "other.gguf"}',
        },
        "a.gguf: this adapter was trained on another model, other.gguf",
        "use it with that one, or train this one with `lmsi train`",
    ),
    "no adapter": Case(
        f"{SAMPLE} --set adapter=q.jsonl",
        {},
        "q.jsonl: not a GGUF file",
        "convert it with llama.cpp's converter",
    ),
}
SETTINGS = {
    "unknown setting": config(
        "[sample]\npats = 3\n", " [sample]: unknown setting 'pats'", "did you mean 'paths'?"
    ),
    "unknown table": config(
        "[sampel]\npaths = 3\n", ": unknown table [sampel]", f"tables: {TABLES}"
    ),
    "no table": config(
        "paths = 3\n", ": setting 'paths' is in no table", f"put it below one of {TABLES}"
    ),
    "out of range": config(
        "[sample]\npaths = 0\n", " [sample] paths: expected a whole number, at least 1, got 0"
    ),
    "another command's": config(
        "[train]\nlr = -1\n", " [train] lr: expected a number, above 0 and at most 1, got -1"
    ),
    "wrong type": config(
        "[sample]\npaths = 'x'\n", " [sample] paths: expected a whole number, at least 1, got 'x'"
    ),
    "wrong choice": config(
        "[vote]\nformats = ['cot-few', 'x']\n",
        " [vote] formats: expected one or more of cot-few, cot-zero, direct-few, direct-zero, "
        "got 'cot-few,x'",
    ),
    "wrong truth value": config(
        "[vote]\ncheck_equations = 'often'\n",
        " [vote] check_equations: expected true or false, got 'often'",
    ),
    "no TOML": config(
        "[sample\n",
        ": not a TOML file: Expected ']' at the end of a table declaration (at line 1, column 8)",
        f"tables: {TABLES}",
    ),
    "no file": config(
        None, ": cannot be read: No such file or directory", "--config takes a TOML file"
    ),
    "flag below": flag(
        "--temperature -1", "--temperature: expected a number, at least 0 and at most 10, got -1.0"
    ),
    "flag above": flag(
        "--set parallel=241",
        "--set parallel: expected auto or a whole number, at least 0 and at most 240, got '241'",
    ),
    "no criterion": flag("--stop beta:2", f"--stop: expected {STOPS}, got 'beta:2'"),
    "no number": flag("--top-p nan", "--top-p: expected a number, above 0 and at most 1, got nan"),
    "more threads than llama.cpp survives": flag(
        "--threads 513",
        "--threads: expected auto or a whole number, at least 0 and at most 512, got '513'",
    ),
    "GPU layers": flag(
        "-ngl some", "--gpu-layers: expected all, none or a whole number, at least 0, got 'some'"
    ),
    "GPU layers in a file": config(
        "[sample]\ngpu_layers = -1\n",
        " [sample] gpu_layers: expected all, none or a whole number, at least 0, got -1",
    ),
    "flag choice": flag("--set kv=x", "--set kv: expected one of auto, unified, split, got 'x'"),
    "wording": flag(
        "--prompt x",
        "--prompt x: no such format or wording",
        f"auto; a format: {', '.join(FORMATS)}; a wording for plain text: "
        f"{', '.join(w.name for w in candidates('auto', load_task('number'), False))}; "
        "or FILE.toml",
    ),
    "flag of a list": Case(
        "eval r --data test.jsonl --modes cot,x",
        {},
        "--modes: expected one or more of direct, cot, cot-few, sc, got 'cot,x'",
    ),
    "empty list": Case(
        "eval r --data test.jsonl --modes=",
        {},
        "--modes: expected one or more of direct, cot, cot-few, sc, got ''",
    ),
    "flag of run": Case(
        "run q.jsonl -m m.gguf --paths 0",
        {},
        "--paths: expected a whole number, at least 1, got 0",
    ),
    "choices without letters": Case(
        f"{SAMPLE} --task arc",
        {"q.jsonl": ONE + '{"id": "q7", "question": "Which?\\n(A) sand\\n(B) sea"}\n'},
        "question 'q-ba352e24c64c' lists no options, and arc is a task of choices"
        " (1 of 2 questions)",
        "write (A) ..., (B) ... below the question, one a line; or choose another --task",
    ),
    "a labelled set of another kind, told before sampling": Case(
        "run q.jsonl -m m.gguf --data t.jsonl -o r",
        {"t.jsonl": '{"id": "t1", "question": "Who?", "answer": "Anna"}\n'},
        "question 't1': its answer 'Anna' is not a number (1 of 1 questions)",
        "correct the answer, or choose another --task",
    ),
    "criterion of run": Case(
        "run q.jsonl -m m.gguf --set sample.stop=x", {}, f"--set stop: expected {STOPS}, got 'x'"
    ),
    "unknown task": Case(
        f"{SAMPLE} --task x",
        {},
        "no task 'x'",
        "tasks: anli, aqua, arc, boolq, drop, gsm8k, math, mnli, number, openbookqa, rte, "
        "strategyqa, svamp, text, tinymath; or give the path of a .toml file",
    ),
}
FOLDERS = {
    "a file in the way": Case(
        "sample q.jsonl -m m.gguf -o q.jsonl",
        {},
        "q.jsonl: cannot make this folder: File exists",
        "choose another one",
    ),
    "vote without a run": Case(
        "vote r",
        {},
        "r: not a run folder (no [sample] in run.toml)",
        "run `lmsi sample QUESTIONS -o r` first",
    ),
    "train without a run": Case(
        "train r",
        {},
        "r: not a run folder (no [sample] in run.toml)",
        "run `lmsi sample QUESTIONS -o r` first",
    ),
    "run without questions": Case(
        "run -m m.gguf", {}, "no questions given", "lmsi run QUESTIONS -m MODEL"
    ),
    "two sets of one name": Case(
        "run q.jsonl -m m.gguf --data test.jsonl --data ./test.jsonl",
        {},
        "./test.jsonl: another --data file is called test too",
        "rename one",
    ),
    "a criterion that run does not know": Case(
        "run q.jsonl -m m.gguf --set sample.stop=beta:2",
        {},
        f"--set stop: expected {STOPS}, got 'beta:2'",
    ),
    "trained on and measured on": Case(
        "run more.jsonl -m m.gguf --data test.jsonl -o r",
        {
            "more.jsonl": '{"question": "Who?"}\n'
            '{"id": "x", "question": "Sam has 6 pens; sam gets 2 more: how many"}\n'
        },
        "test holds 1 of the 2 questions to train on: x",
        "what is trained on cannot be measured on: take them out of one of the two; "
        "--force goes on",
    ),
    "a broken run.toml": Case(
        "vote r",
        {"r/run.toml": "[sample"},
        "r/run.toml: Expected ']' at the end of a table declaration (at end of document)",
        "mend it, or use another folder",
    ),
}
ROUNDS = {
    "none": Case(
        "run q.jsonl -m m.gguf --rounds 0",
        {},
        "--rounds: expected a whole number, at least 1, got 0",
    ),
    "more temperatures than rounds": Case(
        "run q.jsonl -m m.gguf -o r --rounds 2 --set round_temperature=0.7,1,1.2",
        {},
        "--set round_temperature: 3 temperatures for 2 rounds",
        "give one per round at most; the last one goes on",
    ),
    "a temperature that is none": Case(
        "run q.jsonl -m m.gguf -o r --rounds 2 --set round_temperature=0.7,hot",
        {},
        "--set round_temperature: expected one or more, each a number, at least 0 and at most 10, "
        "got '0.7,hot'",
    ),
    "a probe in an exam": Case(
        "run both.jsonl -m m.gguf -o r --rounds 2 --probe test.jsonl --data exam.jsonl --force",
        {
            "both.jsonl": '{"id": "t", "question": "Sam has 6 pens. Sam gets 2 more. How many?"}\n',
            "exam.jsonl": '{"question": "Sam has 6 pens; sam gets 2 more: how many", '
            '"answer": 8}\n',
        },
        "exam holds 1 of the 1 questions of the probe: t",
        "a probe decides what is trained on and kept, so an exam must not hold its questions: "
        "take them out of one of the two",
    ),
    "a probe of other questions": Case(
        "run q.jsonl -m m.gguf -o r --rounds 2 --probe test.jsonl",
        {},
        "--probe: 1 of 1 questions are not in the questions: t",
        "a probe gives right answers to questions that were sampled: sample them with the others, "
        "under the same ids",
    ),
    "a file of rounds that names none": Case(
        "eval r --data test.jsonl",
        {
            "r/run.toml": "[sample]\nmodel = 'm.gguf'\ntask = 'number'\ntask_name = 'number'\n",
            "r/rounds.json": '{"best": {"number": "x"}}',
        },
        "r/rounds.json: names no round to keep",
        "run `lmsi run` again",
    ),
}
CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "questions": QUESTION_FILES,
        "model": MODELS,
        "adapter": ADAPTERS,
        "settings": SETTINGS,
        "folder": FOLDERS,
        "rounds": ROUNDS,
    }.items()
    for name, case in cases.items()
}
