"""An interrupt that arrives while llama.cpp writes its log is not lost."""

import ctypes

import pytest

from lmsi_cli.cli.signals import Terminated
from lmsi_cli.engine import llama


@pytest.fixture
def hook(monkeypatch):
    monkeypatch.setattr("sys.unraisablehook", llama._keep_interrupt)
    monkeypatch.setattr(llama, "_interrupts", [])


def in_a_callback(error):
    """Raise where C has called Python, as a signal's handler does between two log lines."""

    @ctypes.CFUNCTYPE(None)
    def callback():
        raise error

    callback()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
def test_it_is_raised_after_the_call(hook, kind):
    in_a_callback(kind())
    with pytest.raises(kind):
        llama.raise_interrupt()
    llama.raise_interrupt()  # once


def test_other_errors_are_shown_as_ever(hook, capsys):
    in_a_callback(ValueError("a bug"))
    llama.raise_interrupt()
    assert "a bug" in capsys.readouterr().err
