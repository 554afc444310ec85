"""Files and folders come to their place whole or not at all, and replace nothing unasked."""

import errno
import os

import pytest

from lmsi_cli.atomic import check_place, check_room, refusal, replacing_folder, write_atomic
from lmsi_cli.errors import LmsiError


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "report.html"
    write_atomic(path, "½")
    assert path.read_bytes() == "½".encode()

    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(os, "fsync", fail)
        with pytest.raises(LmsiError, match=r"report.html: cannot be written: No space"):
            write_atomic(path, b"new")
    assert path.read_bytes() == "½".encode()
    assert names(path.parent) == ["report.html"]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(LmsiError, match="cannot be written"):
        write_atomic(path / "x", "")


def test_a_finished_folder_is_in_its_place_and_nothing_else(tmp_path):
    with replacing_folder(tmp_path / "a" / "b") as fresh:
        (fresh / "x").write_text("1")
        assert not (tmp_path / "a" / "b").exists()
    assert names(tmp_path / "a") == ["b"] and names(tmp_path / "a" / "b") == ["x"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, LmsiError, RuntimeError])
def test_an_interrupted_one_leaves_nothing_and_costs_no_older_one(tmp_path, fault):
    place = tmp_path / "b"
    place.mkdir()
    (place / "old").write_text("1")
    with pytest.raises(fault), replacing_folder(place) as fresh:
        (fresh / "x").write_text("1")
        raise fault("stop")
    assert names(tmp_path) == ["b"] and names(place) == ["old"]


def test_what_a_killed_process_left_is_removed_and_an_older_one_replaced(tmp_path):
    place = tmp_path / "b"
    place.mkdir()
    (tmp_path / ".b.unfinished").mkdir()
    (tmp_path / ".b.unfinished" / "half").write_text("")
    with replacing_folder(place) as fresh:
        assert names(fresh) == []
        (fresh / "new").write_text("")
    assert names(tmp_path) == ["b"] and names(place) == ["new"]


def test_two_that_write_one_folder_are_kept_apart(tmp_path):
    with replacing_folder(tmp_path / "b") as fresh:
        (fresh / "first").write_text("")
        second = replacing_folder(tmp_path / "b")
        with pytest.raises(LmsiError, match="another process is writing it"), second:
            pass
    assert names(tmp_path) == ["b"] and names(tmp_path / "b") == ["first"]


def test_only_our_own_folder_may_be_replaced_and_only_if_asked(tmp_path):
    place = tmp_path / "b"
    check_place(place, "mark", False)
    place.mkdir()
    for overwrite in (False, True):
        with pytest.raises(LmsiError, match="and no export"):
            check_place(place, "mark", overwrite)
    (place / "mark").write_text("")
    with pytest.raises(LmsiError, match="is there already") as e:
        check_place(place, "mark", False)
    assert "--overwrite" in e.value.hint
    check_place(place, "mark", True)


def test_what_the_machine_refuses_is_the_users_to_mend_and_nothing_else_is():
    e = OSError(errno.EROFS, "Read-only file system", "r/adapter")
    assert str(refusal(e)).startswith("r/adapter: Read-only")
    assert str(refusal(OSError(errno.ENOSPC, "No space left"))).startswith(
        "No space left; what was"
    )
    with pytest.raises(FileNotFoundError):
        refusal(FileNotFoundError(errno.ENOENT, "No such file", "r/adapter"))


def test_a_small_disk_is_told_before_the_work(tmp_path):
    check_room(tmp_path, 1, "free some space")
    with pytest.raises(LmsiError, match=r"MiB free, [\d,]+ MiB needed") as e:
        check_room(tmp_path, 1 << 60, "free some space")
    assert e.value.hint == "free some space"
