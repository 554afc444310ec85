"""A model in several files through the commands: drawn, trained and known as one."""

import json

import broken_models
import pytest
from commands import SAMPLE, give_answers, refused

from lmsi_cli.run_folder import RunDir, sha256_file

pytestmark = pytest.mark.model


@pytest.fixture
def parts(folder):
    return broken_models.split((folder / "m.gguf").resolve(), folder / "s.gguf")


def sample(model, *more):
    return [*SAMPLE.replace("m.gguf", model.name).split(), "--json", *more]


def test_it_is_sampled_trained_and_merged_as_one(lmsi, parts):
    assert lmsi(*sample(parts[0])).exit_code == 0
    run = RunDir("r")
    assert run.load_settings()["sample"]["model_sha256"] == sha256_file(parts[0])
    give_answers(run)
    assert lmsi("vote", "r").exit_code == 0
    told = lmsi("train", "r", "--max-steps", "1", "--rank", "1", "--json", "--quiet")
    assert told.exit_code == 0, told.stderr
    told = lmsi("export", "r", "--to", "gguf", "--json", "--quiet")
    assert told.exit_code == 0, told.stderr
    assert [n for n in json.loads(told.stdout)["files"] if n.startswith("s-lmsi-")]


def test_another_second_part_is_another_model(lmsi, parts):
    lmsi(*sample(parts[0]))
    data = bytearray(parts[1].read_bytes())
    data[-1] ^= 1
    parts[1].write_bytes(data)
    refused(lmsi(*sample(parts[0])), f"{parts[0].name} has changed since")


@pytest.mark.parametrize("command", ["models show {}", "sample q.jsonl -o r -m {}"])
def test_what_is_no_model_is_one_line(lmsi, parts, folder, command):
    vision = broken_models.vision(folder / "mmproj-s.gguf")
    for file, told in ((parts[1], "part 2 of 3"), (vision, "(mmproj)")):
        refused(lmsi(*command.format(file.name).split()), f"{file.name}: ", told, hint="give the ")
    assert not RunDir("r").paths.exists()
