"""Settings that fit: proposed where memory is short, taken with --fit, remembered for a resume."""

import subprocess
import sys

import msgspec
import pytest

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import fitting, headroom, load, memory
from lmsi_cli.training.data import TokenExample

GIB = 1 << 30
LONG = [TokenExample(list(range(i % 7, 60 + 20 * i)), [2] * 20) for i in range(8)]


@pytest.fixture
def run(gguf, monkeypatch):
    """A model of eight layers; a token of the longest row takes 1 MiB a layer."""

    def forecast(run, config, checkpointing):
        longest = max((e.length for e in run.examples), default=0)
        layers = 8 if config.layers == "all" else config.layers
        row = max(longest, config.row_tokens) * layers << 20
        row = row // 4 if checkpointing else row
        return memory.Footprint(process=GIB, weights=GIB, adapter=0, row=row, loading=0, proving=0)

    monkeypatch.setattr(memory, "forecast", forecast)
    return memory.Outline(load.read_meta(gguf), LONG, "bf16")


def settle(run, monkeypatch, tmp_path, watcher, gib, **config):
    monkeypatch.setattr(headroom, "free_bytes", lambda: int(gib * GIB / fitting.SHARE) + 1)
    return fitting.settle(run, TrainConfig(**config), tmp_path, watcher)


def test_what_fits_is_left_as_it_is_and_told(run, monkeypatch, tmp_path, watcher):
    found = settle(run, monkeypatch, tmp_path, watcher, 13)
    assert found.config == TrainConfig() and not found.taken and not found.checkpointing
    assert watcher.said == ["memory: 14.0 GiB at most (weights 1.0, adapter 0.0, longest row 12.0)"]


def test_checkpointing_alone_is_taken_unless_it_is_off(run, monkeypatch, tmp_path, watcher):
    found = settle(run, monkeypatch, tmp_path, watcher, 5)
    assert found.checkpointing and found.config.row_tokens == 1536
    with pytest.raises(LmsiError):
        settle(run, monkeypatch, tmp_path, watcher, 5, gradient_checkpointing="off")


def test_too_little_proposes_flags_with_their_need_from_the_gentlest(
    run, monkeypatch, tmp_path, watcher
):
    with pytest.raises(LmsiError) as e:
        settle(run, monkeypatch, tmp_path, watcher, 2.5)
    assert "training needs 13.0 GiB more memory, and 2.5 of 2.8 GiB free may be taken" in str(
        e.value
    )
    first, *others = e.value.hint.split("; or ")
    assert first == "--row-tokens 768 --gradient-checkpointing on (2.5 GiB)"
    assert [o.split()[2] for o in others] == ["--max-length", "--layers"]
    assert e.value.hint.endswith("--fit takes the first by itself")


@pytest.mark.parametrize(
    ("gib", "flags", "kept"),
    [
        (2.5, ["--row-tokens 768", "--gradient-checkpointing on"], 8),
        (
            1.35,
            ["--row-tokens 128", "--max-length 175", "--gradient-checkpointing on"],
            6,
        ),
        (1.2, ["--row-tokens 128", "--layers 2", "--gradient-checkpointing on"], 8),
    ],
)
def test_fit_takes_the_gentlest_and_says_so(  # noqa: PLR0913
    run, monkeypatch, tmp_path, watcher, gib, flags, kept
):
    found = settle(run, monkeypatch, tmp_path, watcher, gib, fit=True)
    assert sorted(found.taken) == sorted(flags) and len(found.examples) == kept
    assert all(flag in watcher.said[-1] for flag in flags)
    assert ("leaves" in watcher.said[-1]) == (kept < 8)
    assert found.footprint.more <= gib * GIB


def test_a_resumed_run_keeps_what_its_result_depends_on(run, monkeypatch, tmp_path, watcher):
    first = settle(run, monkeypatch, tmp_path, watcher, 1.2, fit=True)
    again = settle(run, monkeypatch, tmp_path, watcher, 90, fit=True)
    assert again.config.layers == first.config.layers == 2
    assert again.config.row_tokens == 1536  # only the speed; there is room now
    other = settle(run, monkeypatch, tmp_path, watcher, 90, fit=True, rank=8)
    assert other.config.layers == "all"


def test_nothing_fits_says_what_the_least_would_need(run, monkeypatch, tmp_path, watcher):
    with pytest.raises(LmsiError, match=r"the smallest settings need 1\.") as e:
        settle(run, monkeypatch, tmp_path, watcher, 0.5, fit=True)
    assert "smaller model" in e.value.hint


def test_a_control_group_is_heeded(tmp_path, monkeypatch):
    inner = tmp_path / "groups" / "a" / "b"
    inner.mkdir(parents=True)
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    for folder, limit in ((inner, "max"), (inner.parent, "3000000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("2500000\n")
        (folder / "memory.stat").write_text("anon 5\ninactive_file 400000\n")
    monkeypatch.setattr(headroom, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(headroom, "OWN_GROUP", own)
    assert headroom.free_bytes() == 900_000


def test_an_older_control_group_is_heeded(tmp_path, monkeypatch):
    inner = tmp_path / "groups" / "memory" / "a"
    inner.mkdir(parents=True)
    own = tmp_path / "own"
    own.write_text("5:cpu:/a\n4:memory:/a\n")
    (inner / "memory.limit_in_bytes").write_text("3000000\n")
    (inner / "memory.usage_in_bytes").write_text("2500000\n")
    (inner / "memory.stat").write_text("total_inactive_file 100000\n")
    monkeypatch.setattr(headroom, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(headroom, "OWN_GROUP", own)
    assert headroom.free_bytes() == 600_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_real_limit_on_this_process_is_heeded():
    code = (
        "import resource; from lmsi_cli.training.headroom import free_bytes;"
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30));"
        "left = free_bytes(); assert 0.5 * 2**30 < left < 2**30, left;"
        "held = bytearray(300 << 20); assert 250 << 20 < left - free_bytes() < 350 << 20"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_remembered_is_no_speed_setting(run, monkeypatch, tmp_path, watcher):
    settle(run, monkeypatch, tmp_path, watcher, 1.2, fit=True)
    found = msgspec.json.decode((tmp_path / fitting.NAME).read_bytes())
    assert found["changes"] == {"layers": 2}
