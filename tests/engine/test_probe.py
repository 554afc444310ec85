"""The probe: a child that dies takes nothing with it, and the answer is remembered per build."""

import pytest

from lmsi_cli.engine import probe
from lmsi_cli.errors import LmsiError

DIES_WITH_EXTRA = '#!/bin/sh\ncase "$4" in 1) kill -SEGV $$;; esac\n'
ALWAYS_DIES = "#!/bin/sh\nkill -SEGV $$\n"


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """No remembered answer, neither on disk nor in this process."""
    monkeypatch.setenv("LMSI_CACHE", str(tmp_path / "cache"))
    probe.probe.cache_clear()
    yield tmp_path
    probe.probe.cache_clear()


def play(fresh, monkeypatch, script):
    child = fresh / "python"
    child.write_text(script)
    child.chmod(0o755)
    monkeypatch.setattr(probe.sys, "executable", str(child))


def test_a_crash_with_repacked_weights_falls_back_and_says_why(fresh, monkeypatch):
    play(fresh, monkeypatch, DIES_WITH_EXTRA)
    assert probe.extra_buffers_work() is False
    assert probe.probe().note == "with repacked weights llama.cpp dies with signal 11"


def test_the_fallback_is_said_once(fresh, monkeypatch, caplog):
    play(fresh, monkeypatch, DIES_WITH_EXTRA)
    for _ in range(3):
        probe.probe()
        probe.probe.cache_clear()  # as in a new process
    assert [r.message[:50] for r in caplog.records] == [
        "note: with repacked weights llama.cpp dies with si"
    ]


def test_a_crash_either_way_is_an_error_with_a_hint(fresh, monkeypatch):
    play(fresh, monkeypatch, ALWAYS_DIES)
    with pytest.raises(LmsiError, match="does not work on this machine") as e:
        probe.extra_buffers_work()
    assert "reinstall" in e.value.hint
    assert not list((fresh / "cache").glob("*"))  # a repaired installation is asked again


def test_the_answer_is_remembered(fresh, monkeypatch):
    play(fresh, monkeypatch, DIES_WITH_EXTRA)
    first = probe.probe()
    probe.probe.cache_clear()
    play(fresh, monkeypatch, ALWAYS_DIES)
    assert probe.probe() == first


def test_a_broken_memory_is_asked_again(fresh, monkeypatch):
    play(fresh, monkeypatch, DIES_WITH_EXTRA)
    probe.probe()
    next((fresh / "cache").glob("probe-*")).write_text('{"extra')
    probe.probe.cache_clear()
    assert probe.probe().extra_buffers is False


@pytest.mark.model
def test_this_machine_runs_quantised_models_one_way_or_the_other(fresh):
    assert probe.probe().usable
