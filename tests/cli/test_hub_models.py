"""Models by their names on the hub, through huggingface_hub and a small hub on loopback."""

import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import forked
import hub
import pytest
from commands import SAMPLE, refused, settings, works
from hub import HALF, Repo

from lmsi_cli.hub import Wanted, chosen

SMALL = Path(__file__).parents[2] / "models/tinymath-small/tinymath-small-q8_0.gguf"
OLD, NEW = "a" * 40, "b" * 40
SHOW = ("models", "show")


@pytest.fixture(scope="module")
def files(one_block):
    return one_block.read_bytes(), SMALL.read_bytes()


@pytest.fixture
def there(files):
    """A hub with what a test may want."""
    block, small = files
    models = {"mmproj-F16.gguf": small, "m-Q8_0.gguf": small, "m-Q4_K_M.gguf": block}
    parts = {"big-00001-of-00002.gguf": block, "big-00002-of-00002.gguf": small}
    repos = {
        "me/m": Repo({OLD: {"README.md": b"#", **models}}),
        "me/whole": Repo({OLD: {"m-F16.gguf": small}}),
        "me/parts": Repo({OLD: parts}),
        "me/asked": Repo({OLD: {"m-Q8_0.gguf": block}}, gated=True),
        "me/out": Repo({OLD: {"../../../../../out-Q8_0.gguf": small}}),
        "me/up": Repo({"../../../up": {"m-Q8_0.gguf": small}}),
        "me/page": None,
        "me/none": Repo({OLD: {"model.safetensors": block, "mmproj-F16.gguf": block}}),
    }
    there = hub.Hub(repos)
    with there.front, there.store:
        yield there


@pytest.fixture
def named(there, folder, monkeypatch):
    """This process as one that was started with HF_ENDPOINT, HF_HOME and no token."""
    from huggingface_hub import constants

    for name, value in {
        "ENDPOINT": there.front.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": there.front.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(folder / "hub"),
        "HF_TOKEN_PATH": str(folder / "token"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return there


@pytest.fixture
def start(there, folder, monkeypatch):
    """Ask for the whole model by its name, as a user does: huggingface_hub is imported anew."""
    monkeypatch.setenv("HF_ENDPOINT", there.front.url)
    monkeypatch.setenv("HF_HOME", str(folder / "home"))
    return lambda: forked.python("-m", "lmsi_cli", *SHOW, "hf:me/whole", "--json", "-q")


def finished(folder):
    """What counts as whole in the hub's cache."""
    return [f for f in folder.glob("**/models--*/blobs/*") if f.suffix != ".incomplete"]


def shown(*argv):
    return json.loads(works(*SHOW, *argv, "--json", "-q").stdout)


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
    "by its repository": ("hf:me/m", "m-Q4_K_M.gguf"),
    "by a quantisation": ("hf:me/m:q8_0", "m-Q8_0.gguf"),
    "by a file": ("hf:me/m/m-Q8_0.gguf", "m-Q8_0.gguf"),
    "by a revision": (f"hf:me/m@{OLD}:Q4_K_M", "m-Q4_K_M.gguf"),
}


@pytest.mark.parametrize(("name", "file"), SHOWN.values(), ids=SHOWN.keys())
def test_a_model_is_found_by_name_and_downloaded_once(named, name, file):
    assert shown(name)["file"].endswith(f"snapshots/{OLD}/{file}")
    assert shown(name) and len(named.fetched) == 1


def test_a_split_model_comes_with_all_its_parts(named, files):
    first = Path(shown("hf:me/parts")["file"])
    assert [f.stat().st_size for f in sorted(first.parent.iterdir())] == [len(f) for f in files]


REFUSED = {
    "no GGUF": ("hf:me/none", "no GGUF", "-GGUF"),
    "no such quantisation": ("hf:me/m:Q5_K_M", "no Q5_K_M", "Q8_0, Q4_K_M"),
    "no such file": ("hf:me/m/x.gguf", "no such file", "m-Q8_0.gguf, m-Q4_K_M.gguf"),
    "no such repository": ("hf:me/nothing", "no such repository", "hf auth login"),
    "no such revision": (f"hf:me/m@{NEW}", "no such revision", "me/m"),
    "no hub behind the address": ("hf:me/page", "unlike a hub", "HF_ENDPOINT"),
    "gated": ("hf:me/asked", "gated", "hf auth login"),
}


@pytest.mark.parametrize(("name", "told", "hint"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_hub_has_not_is_one_line(lmsi, named, folder, name, told, hint):
    refused(lmsi(*SHOW, name), f"{name}: ", told, hint=hint)
    assert not finished(folder) and not named.fetched


@pytest.mark.parametrize("name", ["hf:me/out", "hf:me/up"])
def test_a_repository_writes_nothing_outside_the_cache(lmsi, named, folder, name):
    before = {*folder.parent.rglob("*")}
    refused(lmsi(*SHOW, name, "-q"), name)
    new = {*folder.parent.rglob("*")} - before
    assert not [f for f in new if not f.is_relative_to(folder / "hub")]
    assert not list((folder / "hub").rglob("*.gguf"))


def test_a_token_opens_a_gated_repository_and_goes_to_no_other_host(lmsi, named, monkeypatch):
    for token, told in (("bad", "refuses your token"), (hub.STRANGER, "gated")):
        monkeypatch.setenv("HF_TOKEN", token)
        refused(lmsi(*SHOW, "hf:me/asked", "-q"), told, hint="hf auth login")
    named.front.seen.clear()
    monkeypatch.setenv("HF_TOKEN", hub.TOKEN)
    assert shown("hf:me/asked")
    assert {s.headers["Authorization"] for s in named.front.seen} == {f"Bearer {hub.TOKEN}"}
    assert {s.headers["Authorization"] for s in named.store.seen} == {None}


@pytest.mark.parametrize("more", [0, 1], ids=["hash", "size"])
def test_a_file_that_is_not_what_was_announced_is_not_kept(lmsi, named, folder, more):
    other = bytes(SMALL.stat().st_size + more)
    right, named.store.answer = named.store.answer, lambda seen: (200, {}, other)
    refused(lmsi(*SHOW, "hf:me/whole", "-q"), "hf:me/whole: ", hint=" ")
    assert not list(folder.glob("hub/models--*/*/*"))
    named.store.answer = right
    assert shown("hf:me/whole")


def test_an_interrupted_download_goes_on_and_counts_as_nothing_before(there, folder, start):
    there.store.misdeeds = [hub.stalls]
    with start() as process:
        while not any(f.stat().st_size for f in folder.glob("home/hub/*/blobs/*.incomplete")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert process.returncode == 130 and "goes on" in said and not finished(folder)
    whole = Path(json.loads(start().communicate()[0])["file"])
    assert there.fetched == ["", f"bytes={HALF}-"] and whole.read_bytes() == SMALL.read_bytes()


def test_of_two_at_once_the_second_takes_what_the_first_has_brought(there, start):
    there.store.misdeeds = [hub.slowly]
    both = [start(), start()]
    first, second = (json.loads(process.communicate()[0])["file"] for process in both)
    assert first == second and len(there.fetched) == 1


def test_a_disk_that_is_too_small_is_known_before(lmsi, named, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=HALF))
    refused(lmsi(*SHOW, "hf:me/whole"), "10 MiB free, 16 MiB needed", hint="HF_HOME")
    assert not named.fetched


def test_a_run_knows_where_its_model_is_from_and_notices_another(lmsi, named, files):
    by_name = SAMPLE.replace("m.gguf", "hf:me/m").split()
    works(*by_name, "-q")
    assert settings()["model_name"] == f"hf:me/m@{OLD}/m-Q4_K_M.gguf"
    assert settings()["model_sha256"] == hub.sha256(files[0])
    before = len(named.front.seen)
    works("eval", "r", "--data", "test.jsonl", "--modes", "cot", "--max-tokens", "4", "-q")
    assert len(named.front.seen) == before  # no name given, no network
    commits = named.repos["me/m"].commits
    commits[NEW] = {"README.md": b"#", "m-Q4_K_M.gguf": files[0]}
    works(*by_name, "-q")  # another revision with the same file
    assert settings()["model_name"] == f"hf:me/m@{NEW}/m-Q4_K_M.gguf"
    commits["c" * 40] = {"m-Q4_K_M.gguf": files[0][:-1] + b"x"}
    refused(lmsi(*by_name), "model", f"@{NEW}/", f"@{'c' * 40}/", hint="--overwrite", notes=3)


def test_out_of_reach_the_cache_serves(lmsi, named, monkeypatch):
    from huggingface_hub import constants

    assert shown("hf:me/m")
    named.front.answer = lambda seen: (503, {}, b"")
    assert "cache" in works(*SHOW, "hf:me/m", "-q").stderr
    refused(lmsi(*SHOW, "hf:me/whole"), "503", hint="goes on")
    before = len(named.front.seen)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert shown("hf:me/m")
    for name in ("hf:me/whole", "hf:me/m:Q8_0"):
        refused(lmsi(*SHOW, name), "HF_HUB_OFFLINE")
    assert len(named.front.seen) == before
