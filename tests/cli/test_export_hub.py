"""`lmsi export`: the folder of an adapter, as `hf upload` takes it."""

import json

import pytest
from commands import give_answers, refused, works

from lmsi_cli.run_folder import RunDir


@pytest.mark.model
@pytest.mark.slow
def test_an_adapter_s_folder_is_whole_and_names_its_base(lmsi, sampled):
    give_answers(RunDir("r"))
    works("vote", "r")
    works("train", "r", "--max-steps", "1", "--rank", "1", "-q")
    refused(lmsi("export", "r", "--base-name", "../x"), "--base-name: expected OWNER/NAME")
    done = works("export", "r", "--base-name", "me/base", "-q")
    assert "hf upload OWNER/NAME r/export/adapter" in " ".join(done.stdout.split())
    folder = sampled / "r" / "export" / "adapter"
    told = json.loads((folder / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == "me/base"
    assert "base_model: me/base" in (folder / "README.md").read_text()
    names = {file.name for file in folder.iterdir()}
    assert {"README.md", "adapter.gguf", "adapter_model.safetensors"} < names
    weights = RunDir("r").adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    refused(lmsi("export", "r", "-o", "again", "-q"), str(weights))
    assert not (sampled / "again").exists()
