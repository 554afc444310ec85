"""The table of bad input: a command, the files it meets, and what its one line must tell.

What is told names the file, the line, the field and the setting; `` ... `` stands for the words in
between. A hint is held to the command or the flag that it gives.
"""

import json
import struct
from typing import NamedTuple

import broken_models
import chat_models
from commands import SAMPLE

ONE = '{"question": "How many?"}\n'
NAMED = "[red]" + "x" * 120 + "[/].txt"
SEEDS = "".join(f'{{"id": "s{n}", "question": "Tom has {n} pens and 4 cups. How many?"}}\n'
                for n in range(3))  # fmt: skip
QUESTIONS = "questions s.jsonl -m m.gguf -o r --threads 1 --seeds 3 -n 2 --set max_tokens=8 --quiet"
EXEMPLARS = "exemplars s.jsonl -m m.gguf -o e.toml --paths 2 --shots 1 --templates 2 --threads 1"
EVAL = "eval r --data test.jsonl --modes cot --threads 1 --max-tokens 4 --quiet"
MEASURE = "eval r --data t.jsonl"
ROUNDS = "run q.jsonl -m m.gguf -o r --rounds 2"
SEEN = (
    '{"id": "t", "question": "tom has 3 pens, tom gets 4 more: how many pens now", "answer": 7}\n'
)
SAME = '{"id": "x", "question": "Sam has 6 pens; sam gets 2 more: how many", "answer": 8}\n'
PROBE = SEEDS.splitlines()[0].replace("}", ', "answer": 4}')
ANNA = '{"id": "w", "question": "Who?", "answer": "Anna"}\n'


class Case(NamedTuple):
    """A command, what its error tells, what its hint gives, and files: text, bytes or a maker."""

    argv: str
    told: str
    hint: str = ""
    files: dict = {}  # noqa: RUF012 - never changed


def case(argv, told, hint="", **files):
    """A case whose files have short names: ``t_toml`` is t.toml."""
    return Case(argv, told, hint, {name.replace("_", "."): file for name, file in files.items()})


def model(make, told, hint="", command="sample q.jsonl -m e.gguf -o r"):
    return case(command, f"e.gguf: {told}", hint, e_gguf=make)


def talker(template, told, hint="", flags=""):
    """The embedded model under a chat template."""
    command = f"{SAMPLE.replace('m.gguf', 'e.gguf')} {flags}"
    return case(command, told, hint, e_gguf=lambda a, b: chat_models.chat_model(a, b, template))


def cut(keep):
    told = f"this GGUF file of {keep:,} bytes is cut short or damaged"
    return model(lambda a, b: broken_models.truncated(a, b, keep), told, "again")


def claiming(body=b"", **claims):
    return model(lambda _, b: broken_models.header(b, body=body, **claims), "this GGUF", "again")


def alike(told, hint, *named, **more):
    """The embedded model under other labels."""
    return model(lambda a, b: broken_models.relabelled(a, b, *named, **more), told, hint)


def adapter(told, hint, width=512, arch="llama", **files):
    make = {"a_gguf": lambda _, b: broken_models.adapter(b, width, arch=arch)}
    return case(f"{SAMPLE} --set adapter=a.gguf", f"a.gguf: {told}", hint, **make, **files)


def config(content, told, hint=""):
    return case(f"{SAMPLE} --config c.toml", f"c.toml{told}", hint, c_toml=content)


def setting(table, line, told):
    """One line of a config file."""
    name = line.partition(" =")[0]
    return config(f"[{table}]\n{line}\n", f" [{table}] {name}: ... {told}")


def flag(typed, told, hint="", command=SAMPLE):
    return Case(f"{command} {typed}", told, hint)


def imported(told, hint="--log_samples", before="", **fields):
    """A file of lm-evaluation-harness with one sample, some fields of it otherwise."""
    line = json.dumps({k: v for k, v in {**REPLY, **fields}.items() if v is not None}) + "\n"
    return case("eval r --import s.jsonl", f"s.jsonl{told}", hint, s_jsonl=before + line)


HUGE = 2**60
TENSOR = struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0)
LISTS = struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9999
FOREIGN = '{"base_sha256": "0", "base_file": "o.gguf"}'  # the origin of an adapter
REPLY = {"doc": {"question": "1 + 1?", "answer": "2"}, "resps": [["2"]]}
QUESTION_FILES = {
    "line 17": case(SAMPLE, "q.jsonl:17: ... 'question'", q_jsonl=ONE * 16 + '{"text": "x"}\n'),
    "several splits": Case("sample d -m m.gguf -o r", "d: ", "d/train, d/test",
                           {"d/dataset_dict.json": '{"splits": ["train", "test"]}'}),
    "a NUL in a shard's name": Case("sample d -m m.gguf -o r", "d/state.json: ... _data_files", "",
                                    {"d/state.json": r'{"_data_files":[{"filename":"\u0000"}]}'}),
    "markup in a long name": Case(f"sample {NAMED} -m m.gguf -o r", f"{NAMED}: no questions in it",
                                  "", {NAMED: ""}),
}  # fmt: skip
MODELS = {
    "missing": flag("-m none.gguf", "none.gguf: no such model file", "tinymath, tinymath-small"),
    "no name of the hub": flag("-m hf:me", "hf:me: not a name", "hf:OWNER/REPO"),
    "no name, in run": Case("run q.jsonl -o r -m hf:me", "hf:me: not a name"),
    "no name, in questions": Case("questions q.jsonl -o r --seeds 2 -m hf:me", "hf:me: not a name"),
    "no name, in exemplars": Case(EXEMPLARS.replace("m.gguf", "hf:me"), "hf:me: not a name"),
    "text": model("Hello, I am a model.", "not a GGUF file", "convert"),
    "cut in the vocabulary": cut(3000),
    "cut in the last weights": cut(7_000_000),
    "claims 2^60 tensors": claiming(tensors=HUGE, entries=0),
    "claims 2^60 entries": claiming(entries=HUGE),
    "claims a text of 2^60 bytes": claiming(struct.pack("<IQ", 8, HUGE)),
    "claims 2^60 words": claiming(struct.pack("<IIQ", 9, 8, HUGE)),
    "claims a tensor of 2^80 numbers": claiming(TENSOR, tensors=1, entries=0),
    "lists in lists": claiming(LISTS),
    "not causal": alike("this is an embedding model", "generation", attention__causal=False),
    "pooled": alike("this is an embedding model", "generation", pooling_type=3),
    "the second of several parts": case(
        "sample q.jsonl -m e-00002-of-00003.gguf -o r", "e-00002-of-00003.gguf: ... part 2 of 3",
        "give the ", e_gguf=broken_models.split),
    "what sees": alike("... (mmproj)", "give the ", "clip"),
    "unknown architecture": alike("llama.cpp ... 'nonesuch'", "upgrade", "nonesuch"),
    "a broken template": talker(chat_models.BROKEN, "e.gguf: its chat template is", "--chat off"),
    "a variable, and no template": talker(
        chat_models.SWITCH, "--template-var ... --chat off", "",
        "--chat off --template-var enable_thinking=false"),
    "a variable of another template": talker(
        chat_models.SWITCH, "e.gguf: ... no variable 'enable_thinkin'", "enable_thinking",
        "--template-var enable_thinkin=false"),
    "a system text, and no template": flag("--system x", "--system needs a conversation"),
    "adapter of other shapes": adapter("no adapter for m.gguf ... 'blk.0.attn_q", "base", 64),
    "adapter of another architecture": adapter("no adapter for m.gguf", "base", arch="qwen2"),
    "adapter of another base": adapter("... another model, o.gguf", "train", lmsi_json=FOREIGN),
}  # fmt: skip
SETTINGS = {
    "unknown setting": config("[sample]\npats = 3\n", " [sample]: ... 'pats'", "'paths'"),
    "unknown table": config("[sampel]\npaths = 3\n", ": unknown table [sampel]", "[sample]"),
    "no table": config("paths = 3\n", ": setting 'paths'", "[sample], [vote]"),
    "another command's": setting("train", "lr = -1", "above 0 ... got -1"),
    "wrong truth value": setting("vote", "check_equations = 'often'", "true or false, got 'often'"),
    "a table for a list": setting("sample", "template_var = { a = 1 }", "expected NAME=VALUE"),
    "no TOML": config("[sample\n", ": not a TOML file ... line 1", "[sample], [vote]"),
    "nested deep": config("a = " + "[" * 9999, ": not a TOML file", "[sample]"),
    "a value without end": case(f"{SAMPLE} --task ./t.toml", "t.toml: kind: ... ' ... 9",
                                t_toml=f"name = 'x'\nexemplars = []\nkind = '{'9' * 9999}'"),
    "below": flag("--temperature -1", "--temperature: ... at least 0 and at most 10, got -1.0"),
    "more threads than llama.cpp survives": flag("--threads 513", "--threads: ... 512, got '513'"),
    "no letters": case(f"{SAMPLE} --task arc", "question 'q-", "(A)", q_jsonl=ONE),
    "a list": flag("--data test.jsonl --modes cot,x", "--modes: ... got 'cot,x'", command="eval r"),
    "no value": flag("--set paths", "--set paths: expected NAME=VALUE"),
    "of no table": flag("--set nowhere.paths=1", "--set nowhere.paths=1: ", "tables: sample, vote"),
    "a name that is none": flag("--set path=1", "unknown setting 'path'", "'paths'"),
    "without a flag": Case("-q sample q.txt --set=top_k=-1 -o r -v", "--set top_k: ... got '-1'"),
    "of another table": flag("--set vote.min_share=2", "--set min_share: ", command=ROUNDS),
    "a file of them is there": case("init q.jsonl -m m.gguf", "lmsi.toml: is there already", "-o",
                                    lmsi_toml="mine"),
    "nobody to ask for a model": Case("init q.jsonl -o e.toml", "no model given", "-m MODEL"),
    "nobody to ask for questions": Case("init -m m.gguf -o e.toml", "no questions", "QUESTIONS"),
}  # fmt: skip
FOLDERS = {
    "a file in the way": flag("-o q.jsonl", "q.jsonl: cannot make this folder"),
    "a folder of the user's own": case(
        "sample questions.jsonl -m m.gguf -o . --overwrite", "questions.jsonl: ... no run folder",
        "another folder", questions_jsonl=ONE),
    "a file in place of a run": Case("vote q.jsonl", "q.jsonl: a file, not a run", "`lmsi sample"),
    "none to show": Case("show .", ".: not a run folder", "`lmsi sample"),
    "no such format": Case("vote r --formats cot", "--formats: ... cot-zero ... got 'cot'"),
    "a link out of it": Case(SAMPLE, "r/paths.jsonl: a symbolic link", "itself",
                             {"r/paths.jsonl": lambda _, b: b.symlink_to("/dev/null")}),
    "a teacher without a name": Case("vote r", "r/run.toml [teacher] run: ... got 3", "",
                                     {"r/run.toml": "[teacher]\nrun = 3\n"}),
    "settings of another version": Case("vote r", "r/run.toml [sample] flash_attn: ... got 'x'",
                                        "", {"r/run.toml": "[sample]\nflash_attn = 'x'\n"}),
}  # fmt: skip
RUN = {
    "no questions": Case("run -m m.gguf", "no questions given", "lmsi run QUESTIONS"),
    "a set of another kind, told before sampling": case(
        "run q.jsonl -m m.gguf --data t.jsonl -o r", "question 'w': its answer 'Anna'", "--task",
        t_jsonl=ANNA),
    "trained on and measured on": case(
        "run more.jsonl -m m.gguf --data test.jsonl -o r", "test holds 1 of the 2 ... : x",
        "--force", more_jsonl=ONE + SAME),
    "more temperatures than rounds": flag("--set round_temperature=0.7,1,1.2",
                                          "--set round_temperature: 3 ... 2 rounds", "", ROUNDS),
    "a probe in an exam": case(
        "run s.jsonl -m m.gguf -o r --rounds 2 --probe probe.jsonl --data exam.jsonl --force",
        "exam holds 1 of the 1 questions of the probe: s0",
        probe_jsonl=PROBE, exam_jsonl=PROBE.replace("pens", "PENS")),
    "a probe of other questions": flag("--probe test.jsonl", "--probe: 1 of 1 questions ... : t",
                                       "", ROUNDS),
}  # fmt: skip
GENERATION = {
    "fewer seeds than asked for": flag("--seeds 10", "s.jsonl: 3 questions, and --seeds",
                                       "--seeds 3", QUESTIONS),
    "exemplars by the model of [sample]": case(
        EXEMPLARS.replace("-m m.gguf", "--config c.toml"), "nosuch.gguf",
        c_toml="[sample]\nmodel = 'nosuch.gguf'\n"),
    "seeds longer than the context": flag("--set max_tokens=4000", "to write one like ... 2048",
                                          "`--set max_tokens`", QUESTIONS),
    "no task file": Case(EXEMPLARS.replace("e.toml", "e.json"), "e.json: ", "-o e.json.toml"),
    "too few seeds": flag("--templates 20", "s.jsonl: 3 seeds ... 20", "--shots", EXEMPLARS),
    "kept for measuring": case(f"{EXEMPLARS} --exclude exam.jsonl", "exam.jsonl holds 1 ... : s0",
                               exam_jsonl=SEEDS.splitlines()[0]),
}  # fmt: skip
SERVER = "sample q.jsonl -o x --engine openai"
DEAD = f"{SERVER} --base-url http://127.0.0.1:9/v1 --model tiny"  # nobody is asked before
SERVERS = {
    "an address for llama.cpp": flag("--base-url http://gpu/v1", "--base-url: that is a"),
    "no address": Case(SERVER, "needs the server's address", "--base-url"),
    "an adapter's file": flag("--set adapter=a.gguf", "adapters under names", "", DEAD),
    "a name for llama.cpp": flag("--set model=tiny", "--set model: that is", "", MEASURE),
    "a scale": Case("eval run --engine openai --set scale=2", "act as it was told"),
    "no adapter of it": Case("eval run --engine openai --require-gain", "no adapter to require"),
    "a run with rounds": case("run q.jsonl --config c.toml --data test.jsonl",
                              "llama.cpp has to draw", c_toml="[sample]\nengine = 'openai'\n"),
}  # fmt: skip
# Each meets a run folder ``r`` with paths and an adapter.
WITH_A_RUN = {
    "no data": Case("eval r", "no questions", "--data FILE"),
    "a file twice": flag("--data test.jsonl", "test.jsonl: --data", "once", EVAL),
    "two sets of one name": flag("--data ./test.jsonl", "./test.jsonl: ... test", "rename", EVAL),
    "an answer of another kind": case(MEASURE, "question 'w': ... 'Anna' ... (1 of 1", "--task",
                                      t_jsonl=ANNA),
    "no adapter to gain by": Case(f"{EVAL} --require-gain", "r: no adapter", "`lmsi train`",
                                  {"r/adapter/adapter.gguf": None}),
    "no such adapter": flag("--adapter none.gguf", "none.gguf: no such adapter", "", EVAL),
    "a temperature": flag("--temperature 0.7,hot", "--temperature: ... '0.7,hot'", "", EVAL),
    "other lines": imported(":1: no field 'resps'", resps=None),
    "samples without replies": imported(":1: no reply", resps=[]),
    "likelihoods": imported(":1: ... likelihoods", "generates", resps=[[[-1.5, False]]]),
    "samples without right answers": imported(":1: no right answer", "--import gsm8k:FILE",
                                              doc={"question": "1 + 1?"}),
    "samples of two runs": imported(":2: question 'q-", "one run", json.dumps(REPLY) + "\n",
                                    resps=[["3"]]),
    "samples, and more": Case("eval r --import s.jsonl --require-gain", "--import takes", "leave"),
    "an adapter of another base": Case(EVAL, "r/adapter/adapter.gguf: ... o.gguf", "",
                                       {"r/adapter/lmsi.json": FOREIGN}),
    "no name of a student": Case("train r --force --student hf:me", "hf:me: not a name"),
    "training without a vote": Case("train r", "r/train.jsonl: no such file", "`lmsi vote r`"),
    "no pairs": Case("train r --loss scpo", "r/pairs.jsonl: ... --loss scpo", "`lmsi vote r`"),
    "an example without a completion": Case(
        "train r -q", "training example 1, question 'a' (cot-zero)", "`lmsi vote`",
        {"r/train.jsonl": '{"prompt": "Q", "completion": "", "format": "cot-zero", '
                          '"question_id": "a", "path": 0}\n'}),
    "no such question": Case("show r --question c", "no question 'c'", "is a"),
    "no questions yet": Case("show r", "r: no questions in it yet", "`lmsi sample",
                             {"r/questions.jsonl": None}),
    "a question of 1 GB": Case("show r", "r/questions.jsonl:2: a line of over 128 MiB", "", {
        "r/questions.jsonl": lambda _, b: broken_models.sparse(b, "\n", 1 << 30)}),
    "a type of weights for an adapter": Case("export r --type Q8_0", "--type Q8_0: ", "--to gguf"),
    "a torn record of an adapter": Case(
        "export r --to adapter", "r/adapter/lmsi.json: not of this version ... 'steps'",
        "--overwrite", {"r/adapter/lmsi.json": '{"result": {"summary": {}, "proof": {}}}'}),
    "flips of four models": Case("compare r r --distilled --show flips", "--distilled has no"),
    "a setting of a command without any": Case("tasks --set x=1", "--set: `lmsi tasks`"),
    "a config file of none": Case("report r --config c.toml", "--config: `lmsi report`"),
}  # fmt: skip
CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "questions": QUESTION_FILES, "model": MODELS, "settings": SETTINGS, "folder": FOLDERS,
        "run": RUN, "generation": GENERATION, "servers": SERVERS,
    }.items()
    for name, case in cases.items()
}  # fmt: skip


def put(folder, files, source):
    """Write a case's files; what is None is taken away."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        if callable(content):
            content(source, file)
        elif content is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(content)
