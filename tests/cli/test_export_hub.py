"""`lmsi export`: the real `huggingface_hub` uploads the folder to a hub on loopback."""

import json

import pytest
from commands import give_answers, refused
from servers import Front

from lmsi_cli.run_folder import RunDir


def hub(seen):
    """What the hub answers while a folder is uploaded; it validates a card as its docs say."""
    from huggingface_hub import ModelCard
    from huggingface_hub.utils import validate_repo_id

    if seen.path.endswith("/validate-yaml"):
        data = ModelCard(seen.body["content"]).data  # a model-index without its fields is refused
        validate_repo_id(data.base_model)
        return 200, {}, {"errors": [], "warnings": []}
    if "/preupload/" in seen.path:
        plain = {"uploadMode": "regular", "shouldIgnore": False}
        return 200, {}, {"files": [{"path": f["path"], **plain} for f in seen.body["files"]]}
    url = f"http://{seen.headers['Host']}/me/lora/commit/{'a' * 40}"
    return 200, {}, {"commitUrl": url, "commitOid": "a" * 40, "url": url.rpartition("/commit")[0]}


@pytest.mark.model
@pytest.mark.slow
def test_a_folder_for_the_hub_is_uploaded_as_it_is(lmsi, sampled, monkeypatch):
    from huggingface_hub import HfApi

    give_answers(RunDir("r"))
    lmsi("vote", "r")
    lmsi("train", "r", "--max-steps", "1", "--rank", "1", "-q")
    refused(lmsi("export", "r", "--base-name", "../x"), "--base-name: expected OWNER/NAME")
    done = lmsi("export", "r", "--base-name", "me/base", "-q")
    assert "hf upload OWNER/NAME r/export/adapter" in " ".join(done.stdout.split()), done.stderr
    folder = sampled / "r" / "export" / "adapter"
    told = json.loads((folder / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == "me/base"
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with Front(hub, base="") as front:
        HfApi(endpoint=front.url, token="hf_x").upload_folder(repo_id="me/lora", folder_path=folder)
    *_, commit = front.posts
    sent = {line["value"]["path"] for line in commit if line["key"] == "file"}
    assert sent == {file.name for file in folder.iterdir()}
    assert {"README.md", "adapter.gguf", "adapter_model.safetensors"} < sent
    weights = RunDir("r").adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    refused(lmsi("export", "r", "-o", "again", "-q"), str(weights))
    assert not (sampled / "again").exists()
