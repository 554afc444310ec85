"""`lmsi export --to parquet`: on this machine and to an S3 server on loopback; and back in."""

import json
from pathlib import Path as File

import builders
import msgspec
import pytest
from commands import SAMPLE, refused, works

from lmsi_cli.jsonl import encode_line, write_records
from lmsi_cli.parquet import schema_of
from lmsi_cli.records import Message, Path, TrainExample, Vote
from lmsi_cli.run_folder import RunDir

pq = pytest.importorskip("pyarrow.parquet")

FILES = ("paths.parquet", "train.parquet", "votes.parquet")
PATHS = [
    builders.path(0, None, " ½\n", seed=2**53, logprob=None),
    builders.path(1, "1", " 1 + ½ = 1\n", logprob=-1 / 7),
]
VOTE = builders.vote(share=2 / 3, ballots={"2": 2, "4": 1}, kept=(0, 2))
EXPORT = ("export", "r", "--to", "parquet")


def example(prompt, completion):
    variables = {"enable_thinking": False}
    return builders.example("q0", prompt, completion, chat_template_kwargs=variables)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder in which a vote was taken."""
    monkeypatch.chdir(tmp_path)
    run = RunDir("r")
    run.save_settings("sample", {"task": "auto", "task_name": "number"})
    write_records(run.paths, PATHS)
    write_records(run.votes, [VOTE])
    write_records(run.train, [example("Q: 1 + 1?\nA:", " 2.")])
    return run


@pytest.fixture(scope="module")
def bucket():
    """A client of Moto's server, with a bucket; credentials in the environment, as users do."""
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
        yield client
    served.stop()


def as_json(record):
    """What a reader of the JSON line has, with null for what is left out there."""
    line = msgspec.json.decode(encode_line(record))
    return {**dict.fromkeys(record.__struct_fields__), **line}


def written(folder="out"):
    return sorted(p.name for p in File(folder).iterdir())


def test_rows_are_the_records(run):
    rows = json.loads(works(*EXPORT, "-o", "out", "--json").stdout)["rows"]
    assert rows == dict(zip(FILES, (2, 1, 1), strict=True))
    assert written() == list(FILES)
    assert pq.read_table("out/paths.parquet").to_pylist() == [as_json(p) for p in PATHS]
    (vote,) = pq.read_table("out/votes.parquet").to_pylist(maps_as_pydicts="strict")
    assert vote == as_json(VOTE)
    (trained,) = pq.read_table("out/train.parquet").to_pylist()
    assert trained["prompt"] == "Q: 1 + 1?\nA:"
    assert json.loads(trained["chat_template_kwargs"]) == {"enable_thinking": False}
    talk = Message(role="user", content="What is 1 + 1?")
    reply = Message(role="assistant", content="The answer is 2.")
    write_records(run.train, [example((talk,), (reply,))])  # conversations are lists of messages
    works(*EXPORT)
    (row,) = pq.read_table("r/export/parquet/train.parquet").to_pylist()
    assert row["prompt"] == [{"role": "user", "content": "What is 1 + 1?"}]
    assert row["completion"] == [{"role": "assistant", "content": "The answer is 2."}]


def test_what_is_there_so_far_is_written_and_nothing_is_replaced_unasked(lmsi, run):
    File("out").mkdir()
    File("out/votes.parquet").write_text("mine")
    refused(lmsi(*EXPORT, "-o", "out"), hint="--overwrite")
    assert written() == ["votes.parquet"]
    works(*EXPORT, "-o", "out", "--overwrite")
    assert pq.read_table("out/votes.parquet").num_rows == 1
    run.votes.unlink()
    run.train.unlink()
    works(*EXPORT, "-o", "less")
    assert written("less") == ["paths.parquet"]
    write_records(run.paths, [builders.path(0, seed=2**64)])
    refused(lmsi(*EXPORT), "r/paths.jsonl: cannot be written")
    run.paths.unlink()
    refused(lmsi(*EXPORT), hint="lmsi sample")
    refused(lmsi("export", "typo", "--to", "parquet"), "not a run folder")
    assert not File("typo").exists()


RECORDS = {"paths": Path, "votes": Vote, "train": TrainExample}


@pytest.mark.parametrize("name", RECORDS)
def test_the_columns_are_as_documented(name):
    doc = (File(__file__).parents[2] / "docs" / "run-folder.md").read_text()
    part = doc.partition(f"`{name}.parquet`:\n\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in part.splitlines()[2:]]
    columns = schema_of(RECORDS[name])
    assert len(columns) > 3
    assert rows == [[f"`{f.name}`", f"{f.type}", "yes" if f.nullable else "no"] for f in columns]


@pytest.mark.s3
def test_to_a_bucket(lmsi, run, bucket):
    url = ("-o", "s3://runs/runs/a")
    works(*EXPORT, *url)
    there = bucket.list_objects_v2(Bucket="runs")["Contents"]
    assert [o["Key"] for o in there] == [f"runs/a/{file}" for file in FILES]
    body = bucket.get_object(Bucket="runs", Key="runs/a/paths.parquet")["Body"].read()
    File("back.parquet").write_bytes(body)
    assert pq.read_table("back.parquet").to_pylist() == [as_json(p) for p in PATHS]
    assert b"s3cret-of-nobody" not in body
    refused(lmsi(*EXPORT, *url), hint="--overwrite")
    works(*EXPORT, *url, "--overwrite")


@pytest.mark.s3
@pytest.mark.model
def test_questions_from_a_bucket(folder, bucket):
    bucket.put_object(Bucket="runs", Key="q.jsonl", Body=(folder / "q.jsonl").read_bytes())
    works(*SAMPLE.replace("q.jsonl", "s3://runs/q.jsonl").split(), "-q")
    assert RunDir("r").questions.read_text().count("Tom has 3 pens.") == 1


NOWHERE = {
    "export r --to parquet -o s3://no-such-bucket-here/a": "no-such-bucket-here",
    "export r --to parquet -o nosuch://bucket/a": "nosuch",
    "export r --to parquet -o s3://key:s3cret@bucket/a": "AWS_PROFILE",
    "sample -o s s3://key:s3cret@bucket/a": "AWS_PROFILE",
}


@pytest.mark.s3
@pytest.mark.parametrize(("command", "told"), NOWHERE.items())
def test_an_unusable_address_is_told(lmsi, run, bucket, command, told):
    done = lmsi(*command.split())
    assert done.exit_code == 1
    assert told in done.stderr and "s3cret" not in done.stderr
