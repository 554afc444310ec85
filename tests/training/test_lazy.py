"""Items on the disk are those that were put there, and nothing else stays of them."""

import pytest

from lmsi_cli.errors import LmsiError
from lmsi_cli.lines import write_records
from lmsi_cli.records import TrainExample
from lmsi_cli.training.lazy import Lines, Spill, View


def lesson(number):
    return TrainExample(
        prompt=f"Q{number}", completion="A", format="cot-zero", question_id=f"q{number}", path=None
    )


def test_spilled_items_come_back_and_leave_no_file(tmp_path):
    spill = Spill(tmp_path / "adapter" / "not" / "there")
    words = [b"one", b"", b"three"]
    for word in words:
        spill.add(word, len(word))
    found = spill.done(bytes.decode)
    assert found == ["one", "", "three"] and found[-1] == "three" and found[1:] == ["", "three"]
    assert list(found.lengths()) == [3, 0, 5] and found != ["one"]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(IndexError):
        found[3]


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    spill = Spill(tmp_path)

    class Full:
        def write(self, item):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(spill, "_file", Full())
    with pytest.raises(LmsiError, match="cannot be written: No space left on device"):
        spill.add(b"x", 1)


def test_lines_are_read_where_they_lie(tmp_path):
    path = tmp_path / "train.jsonl"
    lessons = [lesson(i) for i in range(5)]
    write_records(path, lessons)
    found = Lines(path, TrainExample)
    assert found == lessons and found[3] == lessons[3] and len(found) == 5
    again = Lines(path, TrainExample)
    path.write_bytes(path.read_bytes()[5:])
    with pytest.raises(LmsiError, match="was changed while it was read"):
        again[3]


def test_a_view_shows_some_and_changes_what_it_shows():
    words = ["a", "b", "c"]
    assert View(words, [2, 0]) == ["c", "a"]
    assert View(words, change=lambda i, word: word * i) == ["", "b", "cc"]
    assert View(View(words, [2, 0]), [1], lambda i, word: f"{i}{word}")[0] == "0a"
