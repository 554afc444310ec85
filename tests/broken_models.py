"""Model files that a person might hand to lmsi: broken, of another kind, or of another make.

Each function writes one small file. They are real files for llama.cpp, not stand-ins: most are
the embedded model with something changed.
"""

import struct

import gguf
import numpy as np

SKIPPED = ("GGUF.", "general.architecture")


def copied(reader, writer, blocks, renamed=str, own=None, skipped=()):
    """Copy a Llama's header and its first blocks into another file.

    Fields may be ``renamed`` there and have values of their ``own``; left out are those whose names
    begin as ``skipped`` says.
    """
    for name, field in reader.fields.items():
        if not name.startswith((*SKIPPED, *skipped, "llama.block_count")):
            kinds = field.types
            value = (own or {}).get(name, field.contents())
            kind = kinds[-1] if len(kinds) > 1 else None
            writer.add_key_value(renamed(name), value, kinds[0], kind)
    writer.add_block_count(blocks)
    for t in reader.tensors:
        part = t.name.split(".")
        if part[0] != "blk" or int(part[1]) < blocks:
            writer.add_tensor(t.name, t.data)


def truncated(source, target, keep):
    """Write what a download that stopped leaves: the first ``keep`` bytes."""
    with source.open("rb") as file:
        target.write_bytes(file.read(keep))
    return target


def header(target, tensors=0, entries=1, body=b""):
    """Write a header that claims what it likes, and what follows it; one entry is called ``x``."""
    name = struct.pack("<Qc", 1, b"x")
    target.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, entries) + name + body)
    return target


def sparse(target, begins, size):
    """Write a text and zeros behind it that take no room on the disk."""
    with target.open("w") as file:
        file.write(begins)
        file.truncate(size)
    return target


def relabelled(source, target, arch="llama", blocks=1, **extra):
    """Copy a Llama file's first blocks under the name of an architecture with tensors like its own.

    ``extra`` is more metadata below that name, with double underscores for dots.
    """
    reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(target, arch)
    copied(reader, writer, blocks, lambda name: name.replace("llama.", f"{arch}."))
    for key, value in extra.items():
        kind = gguf.GGUFValueType.BOOL if isinstance(value, bool) else gguf.GGUFValueType.UINT32
        writer.add_key_value(f"{arch}.{key.replace('__', '.')}", value, kind)
    if arch != "llama":  # they do not share the head
        (head,) = (t.data for t in reader.tensors if t.name == "token_embd.weight")
        writer.add_tensor("output.weight", head.copy())
    return finish(writer, target)


def poisoned(source, target, value, tensor="blk.0.attn_norm.weight"):
    """Copy a file with one weight of an F32 tensor replaced, say by NaN."""
    start = next(t.data_offset for t in gguf.GGUFReader(source).tensors if t.name == tensor)
    data = bytearray(source.read_bytes())
    data[start : start + 4] = np.float32(value).tobytes()
    target.write_bytes(data)
    return target


def split(source, target, tensors=4):
    """Write a model of one block in several parts of so many tensors; returns them in order."""
    writer = gguf.GGUFWriter(target, "llama", split_max_tensors=tensors)
    copied(gguf.GGUFReader(source), writer, 1)
    finish(writer, target)
    return sorted(target.parent.glob(f"{target.stem}-0*.gguf"))


def bert(target):
    """Write a header and a matrix of a BERT, which most embedding models are."""
    writer = gguf.GGUFWriter(target, "bert")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])
    writer.add_tensor("token_embd.weight", np.zeros((6, 32), np.float32))
    return finish(writer, target)


def adapter(target, width, value=0.0, arch="llama"):
    """Write a LoRA adapter for the square query matrix of a width; it adds ``value`` throughout."""
    writer = gguf.GGUFWriter(target, arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    down, up = np.ones((2, width)), np.full((width, 2), value / 2)
    for name, matrix in {"lora_a": down, "lora_b": up}.items():
        writer.add_tensor(f"blk.0.attn_q.weight.{name}", matrix.astype(np.float32))
    return finish(writer, target)


def finish(writer, target):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
