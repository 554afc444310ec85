"""Models in several files: all parts count, whoever asks, and one alone is told for what it is."""

import hashlib

import broken_models
import pytest

from lmsi_cli.engine.checks import Mark
from lmsi_cli.engine.llama import LlamaModel
from lmsi_cli.errors import LmsiError
from lmsi_cli.run_folder import sha256_file
from lmsi_cli.splits import parts_of, read_metadata, readers, stem_of
from lmsi_cli.training.header import read_meta
from lmsi_cli.training.merge import Lora, merge, tensor_types


@pytest.fixture
def parts(one_block, tmp_path):
    return broken_models.split(one_block, tmp_path / "m.gguf")


ALONE = ("m.gguf", "m-00001-of-00001.gguf", "m-00000-of-00002.gguf", "m-00003-of-00002.gguf",
         "m-1-of-2.gguf", "m-00001-of-00002.gguf.bak", "-00001-of-00002.gguf")  # fmt: skip


def test_the_first_part_stands_for_all_and_any_other_name_is_one_file(parts, tmp_path):
    assert [parts_of(tmp_path / name) for name in ALONE] == [(tmp_path / name,) for name in ALONE]
    assert len(parts) == 3 and parts_of(parts[0]) == tuple(parts)
    assert stem_of(parts[0]) == "m" and stem_of(parts[0].with_name("x.y.gguf")) == "x.y"


def test_a_part_that_is_damaged_renamed_lost_or_a_pointer_is_named(parts):
    first, second, third = parts
    third.write_bytes(third.read_bytes()[:5000])
    with pytest.raises(LmsiError, match=f"{third.name}: .*cut short or damaged"):
        readers(first)
    other = second.rename(second.with_name("other.gguf"))
    with pytest.raises(LmsiError, match=r"other.gguf: one of 3 parts of a model") as e:
        read_metadata(other)
    assert "llama-gguf-split --merge" in e.value.hint
    for use in (read_metadata, LlamaModel, sha256_file, read_meta, Mark):
        with pytest.raises(LmsiError, match=f"{second.name}: no such file") as e:
            use(first)
        assert "one folder" in e.value.hint
    second.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(LmsiError, match=f"{second.name}: a pointer of Git LFS"):
        LlamaModel(first)


def test_facts_are_those_of_the_whole_and_every_part_is_in_the_hash(one_block, parts):
    one, several = read_metadata(one_block), read_metadata(parts[0])
    assert several.pop("parts") == 3 and "parts" not in one
    size = sum(p.stat().st_size for p in parts)
    assert several.pop("file_bytes") == size > one.pop("file_bytes")
    assert one == several
    meta, wanted = (read_meta(f)._replace(rope_factors=None) for f in (parts[0], one_block))
    assert meta == wanted
    assert tensor_types(parts[0]) == tensor_types(one_block)
    before, meta = sha256_file(parts[0]), read_meta(parts[0])
    assert before == hashlib.sha256(b"".join(p.read_bytes() for p in parts)).hexdigest()
    parts[2].write_bytes(parts[2].read_bytes() + b"x")
    assert sha256_file(parts[0]) != before
    assert read_meta(parts[0]) is not meta  # what was read is not remembered of other files


def test_a_part_that_changes_while_it_is_in_use_is_seen_and_one_that_goes_is_borne(parts):
    mark = Mark(parts[0])
    parts[2].rename(parts[2].with_suffix(".away"))
    mark.check()
    parts[1].write_bytes(b"GGUF")
    with pytest.raises(LmsiError, match=f"{parts[1].name}: the model file has changed"):
        mark.check()


def test_merging_writes_one_file(one_block, parts, tmp_path):
    merge(parts[0], Lora(1.0, {}), tmp_path / "out.gguf", 1.0)
    found, wanted = (read_metadata(f) for f in (tmp_path / "out.gguf", one_block))
    assert found | {"file_bytes": 0} == wanted | {"file_bytes": 0}
    [reader] = readers(tmp_path / "out.gguf")
    assert not [name for name in reader.fields if name.startswith("split.")]
    LlamaModel(tmp_path / "out.gguf").close()
