"""Models that Ollama, LM Studio and the hub's cache have here; one in several files, to its end."""

import hashlib
import json
import shutil

import broken_models
import pytest
from commands import SAMPLE, give_answers, refused, settings, works

from lmsi_cli.catalog import ADAPTER, MODEL
from lmsi_cli.run_folder import RunDir, sha256_file

LIBRARY = "registry.ollama.ai/library"


@pytest.fixture
def home(folder, monkeypatch):
    """A home of its own, with an empty cache of the hub."""
    from huggingface_hub import constants

    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("LMSI_CACHE", str(folder / "cache"))
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    return folder


def show(name):
    return json.loads(works("models", "show", name, "--json").stdout)["file"]


def ollama(root, place, data, kinds=(MODEL,), digest=None):
    """Put a model into a store as ``ollama create`` does: a manifest, and blobs by their hashes."""
    digest = digest or f"sha256:{hashlib.sha256(data).hexdigest()}"
    blob, manifest = root / "blobs" / digest.replace(":", "-"), root / "manifests" / place
    for file in (blob, manifest):
        file.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    layers = [{"mediaType": kind, "digest": digest, "size": 1} for kind in kinds]
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": {}, "layers": layers}))
    return digest.removeprefix("sha256:")


NAMES = {
    "latest": ("ollama:small", f"{LIBRARY}/small/latest", "small-latest"),
    "an owner": ("ollama:me/Small", "registry.ollama.ai/me/small/latest", "me-small-latest"),
    "of the hub": ("ollama:hf.co/me/m-GGUF:Q8_0", "hf.co/me/m-GGUF/Q8_0", "hf.co-me-m-GGUF-Q8_0"),
    "in full": ("ollama:registry.ollama.ai/me/x:2b", "registry.ollama.ai/me/x/2b", "me-x-2b"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "place", "called"), NAMES.values(), ids=NAMES.keys())
def test_a_model_of_ollama_is_read_where_it_lies(home, one_block, name, place, called):
    sha256 = ollama(home / ".ollama/models", place, one_block.read_bytes())
    file = home / "cache" / "ollama" / f"sha256-{sha256}" / f"{called}.gguf"
    assert show(name) == str(file)
    assert file.resolve() == home / ".ollama/models/blobs" / f"sha256-{sha256}"


def test_a_run_keeps_the_name_and_finds_the_model_again(lmsi, home, one_block, monkeypatch):
    store = home / "elsewhere"
    evaluate = ("eval", "r", "--data", "test.jsonl", "--modes", "cot", "--max-tokens", "4", "-q")
    sha256 = ollama(store, f"{LIBRARY}/small/latest", one_block.read_bytes())
    monkeypatch.setenv("OLLAMA_MODELS", str(store))
    works(*SAMPLE.replace("m.gguf", "ollama:small").split(), "-q")
    saved = settings()
    assert (saved["model_name"], saved["model_sha256"]) == ("ollama:small:latest", sha256)
    shutil.rmtree(home / "cache" / "ollama")
    works(*evaluate)
    shutil.rmtree(home / "cache" / "ollama")
    shutil.rmtree(store)
    refused(lmsi(*evaluate), "no longer there", hint="-m ollama:small:latest -o r")


def test_what_ollama_has_not_is_one_line(lmsi, home):
    store = home / ".ollama/models"
    ollama(store, f"{LIBRARY}/small/latest", b"x")
    ollama(store, f"{LIBRARY}/tuned/latest", b"x", (MODEL, ADAPTER))
    ollama(store, f"{LIBRARY}/cloud/latest", b"x", ())
    ollama(store, f"{LIBRARY}/odd/latest", b"x", digest="sha256:../../x")
    gone = ollama(store, f"{LIBRARY}/gone/latest", b"gone")
    (store / f"blobs/sha256-{gone}").unlink()
    ollama(store, f"{LIBRARY}/broken/latest", b"x")
    (store / f"manifests/{LIBRARY}/broken/latest").write_text("{")
    for name, told, hint in (
        ("none:1b", "not in Ollama's store", "`ollama pull none:1b`"),
        ("../../blobs", "not in Ollama's store", "small:latest"),
        ("broken", "not a manifest", ""),
        ("cloud", "no GGUF file", "lmsi models"),
        ("odd", "no GGUF file", "lmsi models"),
        ("tuned", "adapter", "base"),
        ("gone", "cannot be read", "ollama pull gone"),
    ):
        refused(lmsi("models", "show", f"ollama:{name}"), told, hint=hint)
    assert "ollama:small:latest" in lmsi("models").stdout


PLACES = {
    "LM Studio": ".lmstudio/models/me/m-GGUF",
    "LM Studio, formerly": ".cache/lm-studio/models/me/m-GGUF",
    "hub cache": f"hub/models--me--m/snapshots/{'a' * 40}",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_bare_file_name_is_looked_for_where_others_keep_models(lmsi, home, one_block, place):
    file = home / place / "x-Q4_0.gguf"
    file.parent.mkdir(parents=True)
    file.symlink_to(one_block)
    assert show(file.name) == str(file)
    refused(lmsi("models", "show", "x-Q8_0.gguf"), "no such model file", hint="x-Q4_0.gguf")
    listed = json.loads(lmsi("models", "--json").stdout)
    assert [m["file"] for m in listed if m["name"] == file.name] == [str(file)]
    other = home / "hub/models--me--other/snapshots" / ("b" * 40) / file.name
    other.parent.mkdir(parents=True)
    other.write_bytes(b"GGUF")
    refused(lmsi("models", "show", file.name), "2 different files", hint=f"{other}")


@pytest.mark.model
@pytest.mark.slow
def test_a_model_in_several_files_goes_the_whole_way_and_another_part_is_noticed(lmsi, folder):
    first, second, _ = broken_models.split((folder / "m.gguf").resolve(), folder / "s.gguf")
    draw, run = SAMPLE.replace("m.gguf", first.name).split(), RunDir("r")
    works(*draw)
    assert settings()["model_sha256"] == sha256_file(first)
    give_answers(run)
    works("vote", "r")
    works("train", "r", "--max-steps", "1", "--rank", "1", "-q")
    told = works("export", "r", "--to", "gguf", "--json", "-q").stdout
    assert [n for n in json.loads(told)["files"] if n.startswith("s-lmsi-")]

    refused(lmsi("export", "r", "--base-name", "../x"), "--base-name: expected OWNER/NAME")
    done = works("export", "r", "--base-name", "me/base", "-q")
    adapter = run.root / "export" / "adapter"
    assert f"hf upload OWNER/NAME {adapter}" in " ".join(done.stdout.split())
    told = json.loads((adapter / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == "me/base"
    written = {file.name for file in adapter.iterdir()}
    assert {"README.md", "adapter.gguf", "adapter_model.safetensors"} < written
    weights = run.adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    refused(lmsi("export", "r", "-o", "again", "-q"), str(weights))
    assert not (folder / "again").exists()

    second.write_bytes(second.read_bytes()[:-1] + b"x")
    refused(lmsi(*draw), f"{first.name} has changed since")
