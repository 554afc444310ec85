"""The check of the CPU: a child that dies takes nothing with it; remembered per build."""

import pytest

from lmsi_cli.engine import cpu_check as module
from lmsi_cli.engine.cpu_check import cpu_check, may_repack
from lmsi_cli.errors import LmsiError

DIES_WITH_EXTRA = '#!/bin/sh\ncase "$4" in 1) kill -SEGV $$;; esac\n'
ALWAYS_DIES = "#!/bin/sh\nkill -SEGV $$\n"


@pytest.fixture
def play(tmp_path, monkeypatch):
    """No remembered answer, neither on disk nor in this process; the child is a script."""
    monkeypatch.setenv("LMSI_CACHE", str(tmp_path / "cache"))

    def as_child(script):
        child = tmp_path / "python"
        child.write_text(script)
        child.chmod(0o755)
        monkeypatch.setattr(module.sys, "executable", str(child))
        cpu_check.cache_clear()

    cpu_check.cache_clear()
    yield as_child
    cpu_check.cache_clear()


def test_a_crash_with_repacked_weights_falls_back_says_why_once_and_is_remembered(play, caplog):
    play(DIES_WITH_EXTRA)
    assert may_repack() is False
    found = cpu_check()
    assert "dies with signal 11" in found.note
    play(ALWAYS_DIES)  # in a new process nobody is asked again
    assert cpu_check() == found
    assert [r.message for r in caplog.records if "signal 11" in r.message] == [caplog.messages[0]]


def test_a_crash_either_way_is_an_error_with_a_hint(play, tmp_path):
    play(ALWAYS_DIES)
    with pytest.raises(LmsiError, match="does not work on this machine") as e:
        may_repack()
    assert "reinstall" in e.value.hint
    assert not list((tmp_path / "cache").glob("*"))  # a repaired installation is asked again


def test_a_broken_memory_is_asked_again(play, tmp_path):
    play(DIES_WITH_EXTRA)
    cpu_check()
    next((tmp_path / "cache").glob("probe-*")).write_text('{"extra')
    cpu_check.cache_clear()
    assert cpu_check().extra_buffers is False


@pytest.mark.model
def test_this_machine_runs_quantised_models_one_way_or_the_other(play):
    assert cpu_check().usable
