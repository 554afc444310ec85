"""`lmsi export --to parquet`: on this machine and to an S3 server on loopback; and back in."""

import json
from pathlib import Path as File

import builders
import msgspec
import pytest
from commands import refused, works

from lmsi_cli.jsonl import encode_line, write_records
from lmsi_cli.parquet import schema_of
from lmsi_cli.records import Message, Path, TrainExample, Vote
from lmsi_cli.run_folder import RunDir

pq = pytest.importorskip("pyarrow.parquet")

FILES = ("paths.parquet", "train.parquet", "votes.parquet")
PATHS = [
    builders.path(
        n // 2, str(n) if n % 3 else None, f" {n} + ½\n", question_id=f"q{n % 2}", seed=2**53 - n,
        num_generated_tokens=n, logprob=-n / 7 if n else None,
    )
    for n in range(6)
]  # fmt: skip
VOTE = builders.vote(
    "q0", "2", majority_votes=2, runner_up_votes=1, total_votes=3, num_paths=3, share=2 / 3,
    share_of_all=2 / 3, margin=1 / 3, ballots={"2": 2, "4": 1}, kept=(0, 2),
)  # fmt: skip


def example(prompt, completion):
    return builders.example(
        "q0", prompt, completion, chat_template_kwargs={"enable_thinking": False}
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder in which a vote was taken."""
    monkeypatch.chdir(tmp_path)
    run = RunDir("r")
    write_records(run.paths, PATHS)
    write_records(run.votes, [VOTE])
    write_records(run.train, [example("Q: 1 + 1?\nA:", " 2.")])
    return run


@pytest.fixture(scope="module")
def bucket():
    """A client and a bucket of Moto's server, with credentials in the environment, as users do."""
    for name in ("moto", "flask_cors", "s3fs"):
        pytest.importorskip(name, reason="needs pip install '.[s3]' 'moto[s3]' flask flask-cors")
    import botocore.session
    from moto.server import ThreadedMotoServer

    served = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "s3cret-of-nobody", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as m:
        for name, value in settings.items():
            m.setenv(name, value)
        client = botocore.session.Session().create_client("s3")
        client.create_bucket(Bucket="runs")
        yield client, "runs"
    served.stop()


def as_json(record):
    """What a reader of the JSON line has, with null for what is left out there."""
    line = msgspec.json.decode(encode_line(record))
    return {**dict.fromkeys(record.__struct_fields__), **line}


def test_rows_are_the_records(run):
    rows = json.loads(export("-o", "out", "--json"))["rows"]
    assert rows == dict(zip(FILES, (6, 1, 1), strict=True))
    assert sorted(p.name for p in File("out").iterdir()) == list(FILES)
    assert pq.read_table("out/paths.parquet").to_pylist() == [as_json(p) for p in PATHS]
    (vote,) = pq.read_table("out/votes.parquet").to_pylist(maps_as_pydicts="strict")
    assert vote == as_json(VOTE)
    (trained,) = pq.read_table("out/train.parquet").to_pylist()
    assert trained["prompt"] == "Q: 1 + 1?\nA:"
    assert json.loads(trained["chat_template_kwargs"]) == {"enable_thinking": False}
    talk = Message(role="user", content="What is 1 + 1?")
    reply = Message(role="assistant", content="The answer is 2.")
    write_records(run.train, [example((talk,), (reply,))])  # conversations are lists of messages
    export()
    (row,) = pq.read_table("r/export/parquet/train.parquet").to_pylist()
    assert row["prompt"] == [{"role": "user", "content": "What is 1 + 1?"}]
    assert row["completion"] == [{"role": "assistant", "content": "The answer is 2."}]


def export(*more):
    return works("export", "r", "--to", "parquet", *more).stdout


def test_nothing_is_replaced_unasked(lmsi, run):
    File("out").mkdir()
    File("out/votes.parquet").write_text("mine")
    refused(lmsi("export", "r", "--to", "parquet", "-o", "out"), hint="--overwrite")
    assert [p.name for p in File("out").iterdir()] == ["votes.parquet"]
    export("-o", "out", "--overwrite")
    assert pq.read_table("out/votes.parquet").num_rows == 1


def test_what_is_there_so_far_is_written(lmsi, run):
    run.votes.unlink()
    run.train.unlink()
    export("-o", "out")
    assert [p.name for p in File("out").iterdir()] == ["paths.parquet"]
    write_records(run.paths, [builders.path(0, seed=2**64)])
    refused(lmsi("export", "r", "--to", "parquet"), "r/paths.jsonl: cannot be written")
    run.paths.unlink()
    refused(lmsi("export", "r", "--to", "parquet"), hint="lmsi sample")


RECORDS = {"paths": Path, "votes": Vote, "train": TrainExample}


@pytest.mark.parametrize("name", RECORDS)
def test_the_columns_are_as_documented(name):
    doc = (File(__file__).parents[2] / "docs" / "run-folder.md").read_text()
    part = doc.partition(f"`{name}.parquet`:\n\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in part.splitlines()[2:]]
    told = [
        [f"`{f.name}`", f"{f.type}", "yes" if f.nullable else "no"]
        for f in schema_of(RECORDS[name])
    ]
    assert told
    assert rows == told


@pytest.mark.s3
def test_to_a_bucket(lmsi, run, bucket):
    client, name = bucket
    url = f"s3://{name}/runs/a"
    export("-o", url)
    there = client.list_objects_v2(Bucket=name)["Contents"]
    assert [o["Key"] for o in there] == [f"runs/a/{file}" for file in FILES]
    body = client.get_object(Bucket=name, Key="runs/a/paths.parquet")["Body"].read()
    File("back.parquet").write_bytes(body)
    assert pq.read_table("back.parquet").to_pylist() == [as_json(p) for p in PATHS]
    assert b"s3cret-of-nobody" not in body
    refused(lmsi("export", "r", "--to", "parquet", "-o", url), hint="--overwrite")
    export("-o", url, "--overwrite")


@pytest.mark.s3
@pytest.mark.model
def test_questions_from_a_bucket(folder, bucket):
    import pyarrow

    client, name = bucket
    table = pyarrow.table({"question": ["What is 2 + 2?"], "answer": [4]})
    pq.write_table(table, "q.parquet")
    client.put_object(Bucket=name, Key="q.parquet", Body=File("q.parquet").read_bytes())
    ask = ("sample", f"s3://{name}/q.parquet", "-m", "m.gguf", "-o", "r", "-n", 1, "-q")
    works(*ask, "--prompt", "cot-zero", "--max-tokens", 8)
    assert json.loads(RunDir("r").questions.read_text())["question"] == "What is 2 + 2?"


EXPORT, PASSWORD = "export r --to parquet -o", "s3://key:s3cret@bucket/a"


@pytest.mark.s3
@pytest.mark.parametrize(
    ("command", "store", "told"),
    [
        (f"{EXPORT} s3://no-such-bucket-here/a", "", "no-such-bucket-here"),
        (f"{EXPORT} s3://b/a", "http://127.0.0.1:9", "127.0.0.1:9"),
        (f"{EXPORT} nosuch://bucket/a", "", "nosuch"),
        (f"{EXPORT} {PASSWORD}", "", "AWS_PROFILE"),
        (f"sample -o s {PASSWORD}", "", "AWS_PROFILE"),
    ],
)
@pytest.mark.usefixtures("run", "bucket")
def test_an_unusable_address_is_told(lmsi, monkeypatch, command, store, told):
    if store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store)
    done = lmsi(*command.split())
    assert done.exit_code == 1
    assert told in done.stderr and "s3cret" not in done.stderr
