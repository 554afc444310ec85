"""Files and folders come to their place whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from lmsi_cli.atomic import refusal, replacing_folder, write_atomic
from lmsi_cli.errors import LmsiError


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "report.html"
    write_atomic(path, "½")

    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(os, "fsync", fail)
        with pytest.raises(LmsiError, match=r"report.html: cannot be written: No space"):
            write_atomic(path, b"new")
    assert path.read_bytes() == "½".encode() and names(path.parent) == ["report.html"]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(LmsiError, match="cannot be written"):
        write_atomic(path / "x", "")


def test_a_finished_folder_alone_replaces_what_is_there_and_has_one_writer(tmp_path):
    place = tmp_path / "a" / "b"
    with replacing_folder(place) as fresh:
        (fresh / "old").touch()
        assert not place.exists()
        with pytest.raises(LmsiError, match="another process"), replacing_folder(place):
            pass
    with pytest.raises(KeyboardInterrupt), replacing_folder(place) as fresh:
        (fresh / "new").touch()
        raise KeyboardInterrupt
    assert names(place.parent) == ["b"] and names(place) == ["old"]
    (place.parent / ".b.unfinished" / "half").mkdir(parents=True)  # as a killed process leaves it
    with replacing_folder(place) as fresh:
        assert names(fresh) == []
        (fresh / "new").touch()
    assert names(place.parent) == ["b"] and names(place) == ["new"]


def test_what_the_machine_refuses_is_the_users_to_mend_and_nothing_else_is():
    with pytest.raises(OSError, match="too long") as long:
        (Path("a" * 300) / "run.toml").exists()
    assert str(refusal(long.value)).count("a/run.toml: File name too long")
    full = refusal(OSError(errno.ENOSPC, "No space left"))  # of no file that is known
    assert str(full).startswith("No space left")
    with pytest.raises(FileNotFoundError):
        refusal(FileNotFoundError(errno.ENOENT, "No such file", "r/adapter"))
