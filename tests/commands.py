"""What the command line's tests share: short commands, what came of them, and a refusal's look."""

import json

from builders import path
from typer.testing import CliRunner

from lmsi_cli.cli.main import app
from lmsi_cli.engine.base import path_seed
from lmsi_cli.jsonl import write_records
from lmsi_cli.run_folder import RunDir

SAMPLE = "sample q.jsonl -m m.gguf -o r --threads 1 -n 2 --max-tokens 8"


def call(*argv, stdin=None):
    """Call the command; an unexpected exception is let out."""
    done = CliRunner().invoke(app, [str(a) for a in argv], input=stdin)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def works(*argv):
    """Call the command, which ends well."""
    done = call(*argv)
    assert done.exit_code == 0, done.stderr
    return done


def refused(done, *words, hint="", notes=0):
    """A person's mistake: exit code 1, one line of error with all ``words``, one of hint.

    Where work has begun, at most so many ``notes`` stand above it.
    """
    assert (done.exit_code, done.stdout) == (1, ""), done.stderr
    lines = done.stderr.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("error: "))
    error, rest = lines[at], lines[at + 1 :]
    assert at <= notes, done.stderr
    assert not [word for word in words if word not in error], error
    assert len(rest) <= 1 and all(line.startswith("hint: ") for line in rest)
    assert hint in "".join(rest)


def whole_lines(file):
    """The lines of a file that somebody may still write."""
    data = file.read_bytes() if file.exists() else b""
    return data[: data.rfind(b"\n") + 1].splitlines()


def paths_in(root="r"):
    return [json.loads(line) for line in RunDir(root).paths.read_text().splitlines()]


def give_answers(run, text=" 3 + 4 = 7. The answer is 7.", questions="ab"):
    """A model of one block says nothing; put words into its mouth."""
    places = [(q, i) for q in questions for i in range(2)]
    said = [path(i, "7", text, question_id=q, seed=path_seed(0, q, i)) for q, i in places]
    write_records(run.paths, said)


def settings(root="r", table="sample"):
    return RunDir(root).load_settings()[table]


# -- with a server -----------------------------------------------------------------------------

QUESTIONS = "".join(
    json.dumps({"id": f"q{i}", "question": f"What is {i} + {i}?"}) + "\n" for i in range(3)
)
LABELLED = "".join(
    json.dumps({"id": f"t{i}", "question": f"What is {i} + 1?", "answer": i % 3}) + "\n"
    for i in range(4)
)
ALL = {(f"q{i}", j) for i in range(3) for j in range(4)}


PLAIN = ("--chat", "off", "--prompt", "cot-zero", "--max-tokens", "256")


def options(front, *more):
    return ["--engine", "openai", "--base-url", front.url, "--model", "tiny", *more]


def ask(lmsi, front, *more, code=0):
    """Draw 4 plain paths for each of 3 questions, unless told otherwise."""
    more = [*options(front, *PLAIN), "--paths", "4", *more]
    done = lmsi("sample", "q.jsonl", "-o", "run", "-q", *more)
    assert done.exit_code == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def by_key(root="run"):
    """The paths by question and number, none of them twice."""
    lines = paths_in(root)
    keys = [(p["question_id"], p["path"]) for p in lines]
    assert keys and len(keys) == len(set(keys))
    return dict(zip(keys, lines, strict=True))


def notes(caplog, word):
    return [r.getMessage() for r in caplog.records if word in r.getMessage()]
