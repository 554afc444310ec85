"""Runs as Parquet and in an S3-compatible server on loopback: the commands, kill -9, bad input."""

import json
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("pyarrow")
CALL = [sys.executable, "-c", "from lmsi_cli.cli.main import main; main()"]
PLENTY = ("-n", 3, "--prompt", "cot-zero", "--max-tokens", 8, "--quiet", "--threads", 1)


@pytest.fixture(scope="session")
def server():
    """Moto's server, which keeps everything in memory."""
    pytest.importorskip("moto", reason="needs moto: pip install 'moto[s3]' flask flask-cors")
    pytest.importorskip("flask_cors", reason="needs flask-cors")
    pytest.importorskip("s3fs", reason="needs s3fs: pip install 'lmsi[s3]'")
    from moto.server import ThreadedMotoServer

    served = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    yield f"http://{host}:{port}"
    served.stop()


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    """A fresh bucket; credentials in the environment, as a user has them."""
    import botocore.session

    for name, value in {
        "AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "testing", "AWS_REGION": "us-east-1",
        "AWS_SECRET_ACCESS_KEY": "s3cret-of-nobody", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1", "LMSI_WORK": str(tmp_path / "work"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = botocore.session.Session().create_client("s3")
    name = f"b{time.monotonic_ns()}"
    client.create_bucket(Bucket=name)
    return client, name


def keys(bucket):
    client, name = bucket
    return sorted(o["Key"] for o in client.list_objects_v2(Bucket=name).get("Contents", ()))


def rows(text):
    return [json.loads(line) for line in text.splitlines()]


def by_id(found):
    return sorted(found, key=lambda p: (p["question_id"], p["path"]))


def parquet_rows(folder):
    import pyarrow.parquet as pq

    found = [r for f in sorted(folder.glob("*.parquet")) for r in pq.read_table(f).to_pylist()]
    return by_id({k: v for k, v in r.items() if v is not None} for r in found)


def plain_rows(file):
    return by_id({k: v for k, v in r.items() if v is not None} for r in rows(file.read_text()))


@pytest.mark.model
def test_every_command_reads_both_formats(lmsi, folder):
    """Sampled in either format, shown, converted there and back: the same paths."""
    for out, more in (("a", ()), ("b", ("--format", "parquet"))):
        done = lmsi("sample", "q.jsonl", "-m", "m.gguf", "-o", out, *PLENTY, *more)
        assert done.exit_code == 0, done.stderr
    assert parquet_rows(folder / "b" / "paths") == plain_rows(folder / "a" / "paths.jsonl")
    seen = [json.loads(lmsi("watch", out, "--json").stdout)["stages"][0] for out in ("a", "b")]
    assert seen[0] == seen[1] == {"name": "sample", "there": "6 of 6 paths of 2 questions"}
    shown = [lmsi("show", out, "--json").stdout for out in ("a", "b")]
    assert shown[0] == shown[1]
    assert lmsi("report", "b", "--text").exit_code == 0
    before = (folder / "a" / "paths.jsonl").read_bytes()
    done = lmsi("convert", "a", "--to", "parquet")
    assert done.stdout == "6 paths as parquet; the former ones are in a/paths.jsonl.old\n"
    assert lmsi("convert", "a", "--to", "jsonl", "--remove-old").exit_code == 0
    assert (folder / "a" / "paths.jsonl").read_bytes() == before
    assert not (folder / "a" / "paths").exists()
    more = lmsi("sample", "q.jsonl", "-m", "m.gguf", "-o", "b", *PLENTY, "-n", 5)
    assert more.exit_code == 0
    assert len(parquet_rows(folder / "b" / "paths")) == 10
    refused = lmsi("sample", "q.jsonl", "-m", "m.gguf", "-o", "b", *PLENTY, "--format", "jsonl")
    assert refused.exit_code == 1
    assert "has Parquet shards, and --format jsonl was given" in refused.stderr
    assert "lmsi convert b --to jsonl" in refused.stderr


def test_a_conversion_goes_on_and_deletes_nothing_that_differs(lmsi, folder):
    lines = [
        {
            "question_id": "q", "path": n, "seed": n, "text": "t", "num_generated_tokens": 1,
            "logprob": -1.0, "stop_reason": "eos", "predicted_answer": None, "extract_rule": None,
        }
        for n in range(3)
    ]  # fmt: skip
    run = folder / "r"
    run.mkdir()
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "paths.jsonl").write_text(text)
    assert lmsi("convert", "r", "--to", "parquet").exit_code == 0
    (run / "paths.jsonl.old").rename(run / "paths.jsonl")  # killed before it was put aside
    done = lmsi("convert", "r", "--to", "parquet", "--remove-old")
    assert done.stdout == "3 paths as parquet\n"
    (run / "paths.jsonl").write_text(text.replace('"t"', '"u"', 1))
    refused = lmsi("convert", "r", "--to", "parquet", "--remove-old")
    assert refused.exit_code == 1
    assert "record 1 differs; nothing was deleted" in refused.stderr
    assert (run / "paths.jsonl").exists() and list((run / "paths").glob("*.parquet"))
    assert lmsi("convert", "nothing-here", "--to", "jsonl").exit_code == 1


@pytest.mark.model
@pytest.mark.s3
def test_a_run_in_a_bucket(lmsi, folder, bucket, monkeypatch):
    """Sampled and reported there, and gone on with from another machine."""
    client, name = bucket
    url = f"s3://{name}/runs/a"
    done = lmsi("sample", "q.jsonl", "-m", "m.gguf", "-o", url, *PLENTY)
    assert done.exit_code == 0, done.stderr
    lmsi("sample", "q.jsonl", "-m", "m.gguf", "-o", "local", *PLENTY, "-n", 5)
    base = "runs/a/"
    assert [k.removeprefix(base) for k in keys(bucket)] == [
        "paths/part-000000.parquet", "questions.jsonl", "run.toml", "status.json",
    ]  # fmt: skip
    monkeypatch.setenv("LMSI_WORK", str(folder / "other"))
    more = lmsi("sample", "q.jsonl", "-m", "m.gguf", "-o", url, *PLENTY, "-n", 5)
    assert more.exit_code == 0, more.stderr
    assert lmsi("report", url).exit_code == 0
    copy = next((folder / "other").glob("*/a"))
    assert parquet_rows(copy / "paths") == plain_rows(folder / "local" / "paths.jsonl")
    there = [k.removeprefix(base) for k in keys(bucket)]
    assert {"report.html", "paths/part-000001.parquet"} <= {*there}
    assert "run.lock" not in there and "run.lease" not in there
    for key in keys(bucket):
        body = client.get_object(Bucket=name, Key=key)["Body"].read()
        assert b"s3cret-of-nobody" not in body


@pytest.mark.model
@pytest.mark.s3
@pytest.mark.slow
def test_kill_9_and_the_same_command_goes_on(folder, bucket):
    """Every path that was in the journal at a kill is in the store at the end, as it was."""
    url = f"s3://{bucket[1]}/runs/k"
    command = [*CALL, "sample", "q.jsonl", "-m", "m.gguf", "-o", url, *map(str, PLENTY)]
    command += ["-n", "60", "--parallel", "2", "--max-tokens", "12"]
    seen: list[dict] = []
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(journal(folder)) < len(seen) + 3:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = journal(folder)
        assert now[: len(seen)] == seen
        seen = now
    assert seen
    subprocess.run(command, check=True, capture_output=True)
    copy = next((folder / "work").glob("*/k"))
    found = parquet_rows(copy / "paths")
    assert len(found) == len({(p["question_id"], p["path"]) for p in found}) == 120
    plain = [{k: v for k, v in p.items() if v is not None} for p in seen]
    assert all(p in found for p in plain)
    assert "runs/k/paths/part-000000.parquet" in keys(bucket)
    assert "runs/k/run.lease" not in keys(bucket)


def journal(folder):
    files = list(folder.glob("work/*/k/paths/_open-*.jsonl"))
    data = files[0].read_bytes() if files else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


@pytest.mark.s3
def test_no_bucket_no_right_no_server(lmsi, folder, bucket, monkeypatch):
    nobody = "s3://no-such-bucket-here/runs/a"
    ask = ("sample", "q.jsonl", "-m", "m.gguf", "-o")
    done = lmsi(*ask, nobody, *PLENTY)
    assert done.exit_code == 1
    assert f"error: {nobody}: cannot be written: not found" in done.stderr
    assert "does the bucket exist? lmsi makes none" in done.stderr
    assert lmsi("vote", f"s3://{bucket[1]}/none").stderr.startswith(
        f"error: s3://{bucket[1]}/none: no run is there"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    done = lmsi(*ask, f"s3://{bucket[1]}/a", *PLENTY)
    assert done.exit_code == 1
    assert "127.0.0.1:9" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.s3
def test_a_secret_that_the_server_refuses(lmsi, folder, bucket, monkeypatch):
    import s3fs

    async def refuse(self, method, *args, **kwargs):
        raise PermissionError("The request signature we calculated does not match")

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", refuse)
    done = lmsi("sample", "q.jsonl", "-m", "m.gguf", "-o", f"s3://{bucket[1]}/a", *PLENTY)
    assert done.exit_code == 1
    assert "access denied (The request signature" in done.stderr
    assert "are the credentials right" in done.stderr


def test_without_s3fs_the_line_to_type(lmsi, folder, monkeypatch):
    import fsspec

    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    done = lmsi("vote", "s3://bucket/a")
    assert done.exit_code == 1
    assert "pip install 'lmsi[s3]'" in done.stderr


def test_a_password_in_the_name_is_not_repeated(lmsi, folder):
    done = lmsi("vote", "s3://key:s3cret@bucket/a")
    assert done.exit_code == 1
    assert "must not hold a password" in done.stderr and "s3cret" not in done.stderr
