"""Models by their names on the hub, through huggingface_hub and a small hub on loopback."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import hub
import pytest
from commands import SAMPLE, refused, settings

from lmsi_cli.hub import Wanted, chosen

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "models/tinymath-small/tinymath-small-q8_0.gguf"
OLD, NEW = "a" * 40, "b" * 40
HALF = 10 << 20  # what huggingface_hub writes at once


@pytest.fixture(scope="module")
def files(one_block):
    return one_block.read_bytes(), SMALL.read_bytes()


@pytest.fixture
def there(files):
    """A hub with what a test may want."""
    block, small = files
    parts = {f"big-{n:05}-of-00002.gguf": data for n, data in ((1, block), (2, small))}
    listed = {
        "README.md": b"#",
        "mmproj-F16.gguf": small,
        "m-Q8_0.gguf": small,
        "m-Q4_K_M.gguf": block,
    }
    repos = {
        "me/m": hub.Repo({OLD: listed}),
        "me/whole": hub.Repo({OLD: {"m-F16.gguf": small}}),
        "me/parts": hub.Repo({OLD: parts}),
        "me/asked": hub.Repo({OLD: {"m-Q8_0.gguf": block}}, gated=True),
        "me/out": hub.Repo({OLD: {"../../../../../out-Q8_0.gguf": small}}),
        "me/up": hub.Repo({"../../../up": {"m-Q8_0.gguf": small}}),
        "me/page": None,
        "me/none": hub.Repo({OLD: {"model.safetensors": block, "mmproj-F16.gguf": block}}),
    }
    with hub.serving(repos) as there:
        yield there


@pytest.fixture
def named(there, folder, monkeypatch):
    """This process as one that was started with HF_ENDPOINT, HF_HOME and no token."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", there.url)
    template = there.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return there


def command(there, folder, *argv):
    """A command as it is started by a user; its environment is read at huggingface_hub's import."""
    env = {"HF_ENDPOINT": there.url, "HF_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    args = [sys.executable, "-m", "lmsi_cli", *argv]
    return {"args": args, "env": {**os.environ, **env}, "text": True}


def finished(folder):
    """What counts as whole in the hub's cache."""
    return [f for f in folder.glob("**/models--*/blobs/*") if f.suffix != ".incomplete"]


CHOICES = {  # of llama.cpp's find_best_model, in common/download.cpp
    "Q4_K_M before all": ("", "a-F16 a-Q8_0 a-Q4_K_M", "a-Q4_K_M"),
    "then Q8_0": ("", "a-F16 a-Q5_K_M a-Q8_0", "a-Q8_0"),
    "then the first": ("", "a-BF16 a-Q5_K_M", "a-BF16"),
    "the one that is asked for": ("q5_k_m", "a-Q4_K_M a-Q5_K_M", "a-Q5_K_M"),
    "not one that ends so": ("F16", "a-BF16 a-F16", "a-F16"),
    "a whole word of it": ("Q4_K", "a-Q4_K_M a-Q4_K_S a-Q4_K", "a-Q4_K"),
    "a folder's name": ("Q6_K", "Q4_K_M/a Q6_K/a-Q6_K", "Q6_K/a-Q6_K"),
    "no projector": ("", "mmproj-Q4_K_M a-F16", "a-F16"),
    "no draft": ("", "mtp-a-Q4_K_M eagle3-a-Q4_K_M d/dflash-a-Q4_K_M a-Q8_0", "a-Q8_0"),
    "a first part": ("", "a-Q4_K_M-00002-of-00002 a-Q4_K_M-00001-of-00002",
                     "a-Q4_K_M-00001-of-00002"),
}  # fmt: skip


@pytest.mark.parametrize(("quant", "there", "taken"), CHOICES.values(), ids=CHOICES.keys())
def test_a_quantisation_is_chosen_as_llama_cpp_chooses(quant, there, taken):
    files = [f"{name}.gguf" for name in there.split()]
    assert chosen(Wanted("hf:me/m", "me/m", "", quant, ""), files) == f"{taken}.gguf"


SHOWN = {
    "by its repository": ("hf:me/m", OLD, "m-Q4_K_M.gguf"),
    "by a quantisation": ("hf:me/m:q8_0", OLD, "m-Q8_0.gguf"),
    "by a file": ("hf:me/m/m-Q8_0.gguf", OLD, "m-Q8_0.gguf"),
    "by a revision": (f"hf:me/m@{OLD}:Q4_K_M", OLD, "m-Q4_K_M.gguf"),
}


@pytest.mark.parametrize(("name", "commit", "file"), SHOWN.values(), ids=SHOWN.keys())
def test_a_model_is_found_by_name_and_downloaded_once(lmsi, named, name, commit, file):
    for _ in range(2):
        done = lmsi("models", "show", name, "--json", "-q")
        shown = json.loads(done.stdout)
        assert done.stderr == "" and shown["file"].endswith(f"snapshots/{commit}/{file}")
    assert len(named.fetched) == 1


def test_a_split_model_comes_with_all_its_parts(named, lmsi, files):
    shown = json.loads(lmsi("models", "show", "hf:me/parts", "--json", "-q").stdout)
    first = Path(shown["file"])
    assert [f.stat().st_size for f in sorted(first.parent.iterdir())] == [len(f) for f in files]


REFUSED = {
    "no GGUF": ("hf:me/none", "no GGUF", "-GGUF"),
    "no such quantisation": ("hf:me/m:Q5_K_M", "no Q5_K_M", "Q8_0, Q4_K_M"),
    "no such file": ("hf:me/m/x.gguf", "no such file", "m-Q8_0.gguf, m-Q4_K_M.gguf"),
    "no such repository": ("hf:me/nothing", "no such repository", "hf auth login"),
    "no such revision": (f"hf:me/m@{NEW}", "no such revision", "me/m"),
    "no name": ("hf:me", "not a name", "hf:OWNER/REPO"),
    "no hub behind the address": ("hf:me/page", "unlike a hub", "HF_ENDPOINT"),
    "gated": ("hf:me/asked", "gated", "hf auth login"),
}


@pytest.mark.parametrize(("name", "told", "hint"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_hub_has_not_is_one_line(lmsi, named, folder, name, told, hint):
    refused(lmsi("models", "show", name), f"{name}: ", told, hint=hint)
    assert not finished(folder) and not named.fetched


@pytest.mark.usefixtures("named", "sampled")
def test_every_command_that_takes_a_model_takes_its_name(lmsi):
    for words in (
        "sample q.jsonl -o x -m", "sample q.jsonl -o x --dry-run -m", "run q.jsonl -o x -m",
        "questions q.jsonl -o x --seeds 2 -m", "exemplars q.jsonl -o x.toml --shots 2 -m",
        "train r --force --student",
    ):  # fmt: skip
        refused(lmsi(*words.split(), "hf:me/none"), "hf:me/none: no GGUF")
        assert not Path("x").exists()


@pytest.mark.parametrize("name", ["hf:me/out", "hf:me/up"])
def test_a_repository_writes_nothing_outside_the_cache(lmsi, named, folder, name):
    before = {*folder.parent.rglob("*")}
    refused(lmsi("models", "show", name, "-q"), name)
    new = {*folder.parent.rglob("*")} - before
    assert not [f for f in new if not f.is_relative_to(folder / "hub")]
    assert not list((folder / "hub").rglob("*.gguf"))


@pytest.mark.parametrize(
    ("token", "told"), [("bad", "refuses your token"), (hub.STRANGER, "gated"), (hub.TOKEN, None)]
)
def test_a_token_opens_a_gated_repository_and_goes_to_no_other_host(
    lmsi, named, monkeypatch, token, told
):
    monkeypatch.setenv("HF_TOKEN", token)
    done = lmsi("models", "show", "hf:me/asked", "-q")
    if told:
        refused(done, told, hint="hf auth login")
    else:
        assert done.exit_code == 0, done.stderr
        assert {s.token for s in named.seen if s.port == "hub"} == {token}
        assert {s.token for s in named.seen if s.port == "store"} == {""}


def test_a_line_that_drops_is_taken_up_where_it_broke(lmsi, named):
    named.cuts = [HALF + 1000]
    assert "m-F16.gguf, MiB" in lmsi("models", "show", "hf:me/whole").stderr
    assert named.fetched == ["", f"bytes={HALF}-"]


@pytest.mark.parametrize("wrong", ["hash", "size"])
def test_a_file_that_is_not_what_was_announced_is_not_kept(lmsi, named, folder, wrong):
    size = SMALL.stat().st_size + (1 if wrong == "size" else 0)
    named.instead = bytes(size)
    refused(lmsi("models", "show", "hf:me/whole", "-q"), "hf:me/whole: ", hint=" ")
    assert not list(folder.glob("hub/models--*/*/*"))
    named.instead = None
    assert lmsi("models", "show", "hf:me/whole", "-q").exit_code == 0


def test_an_interrupted_download_goes_on_and_counts_as_nothing_before(there, folder):
    there.stall_at = HALF + 1000
    started = command(there, folder, "models", "show", "hf:me/whole", "--json", "-q")
    with subprocess.Popen(**started, stderr=subprocess.PIPE) as process:
        while not any(f.stat().st_size for f in folder.glob("home/hub/*/blobs/*.incomplete")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert process.returncode == 130 and "goes on" in said and not finished(folder)
    there.stall_at = None
    done = subprocess.run(**started, capture_output=True, check=True)
    assert there.fetched == ["", f"bytes={HALF}-"]
    assert Path(json.loads(done.stdout)["file"]).read_bytes() == SMALL.read_bytes()


def test_of_two_at_once_the_second_takes_what_the_first_has_brought(there, folder):
    there.slow = 0.02
    started = command(there, folder, "models", "show", "hf:me/whole", "--json", "-q")
    both = [subprocess.Popen(**started, stdout=subprocess.PIPE) for _ in range(2)]
    first, second = (json.loads(process.communicate()[0])["file"] for process in both)
    assert first == second and len(there.fetched) == 1


def test_a_disk_that_is_too_small_is_known_before(lmsi, named, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=HALF))
    refused(lmsi("models", "show", "hf:me/whole"), "10 MiB free, 16 MiB needed", hint="HF_HOME")
    assert not named.fetched


def test_a_full_disk_leaves_nothing_behind(lmsi, named, folder):
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF // 2, most[1]))
    try:
        done = lmsi("models", "show", "hf:me/whole", "-q")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert done.exit_code == 1
    assert "no space left" in done.stderr and "HF_HOME" in done.stderr  # the hub is here, too
    assert not list(folder.glob("hub/*/blobs/*"))


def test_a_run_knows_where_its_model_is_from_and_notices_another(lmsi, named, folder, files):
    by_name = SAMPLE.replace("m.gguf", "hf:me/m").split()
    assert lmsi(*by_name, "-q").exit_code == 0
    saved = settings()
    assert saved["model_name"] == f"hf:me/m@{OLD}/m-Q4_K_M.gguf"
    assert saved["model_sha256"] == hub.sha256(files[0])
    before = len(named.seen)
    again = lmsi("eval", "r", "--data", "test.jsonl", "--modes", "cot", "--max-tokens", "4", "-q")
    assert again.exit_code == 0 and len(named.seen) == before  # no name given, no network
    named.repos["me/m"].commits[NEW] = {"README.md": b"#", "m-Q4_K_M.gguf": files[0]}
    assert lmsi(*by_name, "-q").exit_code == 0  # another revision with the same file
    assert settings()["model_name"] == f"hf:me/m@{NEW}/m-Q4_K_M.gguf"
    named.repos["me/m"].commits["c" * 40] = {"m-Q4_K_M.gguf": files[0][:-1] + b"x"}
    refused(lmsi(*by_name), "model", f"@{NEW}/", f"@{'c' * 40}/", hint="--overwrite", notes=3)


def test_out_of_reach_the_cache_serves(lmsi, named, monkeypatch):
    from huggingface_hub import constants

    assert lmsi("models", "show", "hf:me/m", "-q").exit_code == 0
    named.down = True
    done = lmsi("models", "show", "hf:me/m", "-q")
    assert done.exit_code == 0 and "cache" in done.stderr
    refused(lmsi("models", "show", "hf:me/whole"), "503", hint="goes on")
    before = len(named.seen)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert lmsi("models", "show", "hf:me/m", "-q").exit_code == 0
    for name in ("hf:me/whole", "hf:me/m:Q8_0"):
        refused(lmsi("models", "show", name), "HF_HUB_OFFLINE")
    assert len(named.seen) == before
