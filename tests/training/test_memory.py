"""The forecast of memory counts what autograd keeps, and finds the row that needs the most."""

import msgspec
import pytest

from lmsi_cli.config import TrainConfig
from lmsi_cli.training import attention, data, fused, load, lora, memory, step
from lmsi_cli.training.data import TokenExample

CONFIG = TrainConfig(rank=4, batch_size=3, max_steps=4)


def examples(count=6, prefix=20, tail=8):
    return [
        TokenExample([*range(prefix), i % 9 + 1], [2] * (tail + i), prefix) for i in range(count)
    ]


@pytest.fixture(scope="module")
def meta(gguf):
    return load.read_meta(gguf)


def kept(model, batch, dtype):
    """Bytes that autograd keeps for the way back, weights and adapter not counted."""
    import torch

    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = step.row_loss(model, batch, dtype)
    assert loss.requires_grad
    return sum(found.values())


@pytest.mark.model
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_row_needs_what_autograd_keeps_and_little_more(meta, gguf, dtype):
    row = data.pack(examples(tail=60))[0]
    model = lora.add_lora(load.load_base(gguf, dtype), CONFIG, "x").train()
    attention.install(model)
    fused.replace(model)
    saved = kept(model, data.to_batch(row), dtype)
    run = memory.Outline(meta, examples(), dtype)
    counted = memory._row_bytes(run, CONFIG, False, meta.blocks, row)
    assert saved < counted < 1.5 * saved


@pytest.mark.model
def test_two_depths_tell_all_depths(meta):
    row = data.pack(examples())[0]
    run = memory.Outline(meta, examples(), "bf16")
    whole = memory.row_peak(run, CONFIG, False, meta.blocks, row)
    assert memory._row_bytes(run, CONFIG, False, meta.blocks, row) == pytest.approx(whole, rel=0.02)


@pytest.mark.model
def test_checkpointing_and_fewer_layers_and_lower_rank_need_less(meta):
    run = memory.Outline(meta, examples(tail=60), "bf16")
    plain = memory.forecast(run, CONFIG, False)
    assert memory.forecast(run, CONFIG, True).row < plain.row
    fewer = msgspec.structs.replace(CONFIG, layers=2)
    assert memory.forecast(run, fewer, False).row < plain.row
    assert memory.forecast(run, fewer, False).adapter * meta.blocks == plain.adapter * 2
    higher = memory.forecast(run, msgspec.structs.replace(CONFIG, rank=8), False)
    assert higher.adapter == 2 * plain.adapter


@pytest.mark.model
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_weights_take_what_was_foretold(meta, gguf, dtype):
    model = load.load_base(gguf, dtype)

    def size(part):
        return sum(p.numel() * p.element_size() for p in part.parameters())

    run, held = memory.Outline(meta, examples(), dtype), size(model)
    assert memory.forecast(run, CONFIG, False).weights == held
    blocks = [size(block) for block in load.blocks(model).values()]
    spread = memory._weight_bytes(memory.shallow(meta, meta.blocks), run._replace(shares=2))
    assert len(blocks) == meta.blocks and max(blocks) < held / 4
    assert spread == held - sum(blocks) + sum(blocks) // 2 + 2 * max(blocks)  # two copies of one


@pytest.mark.model
def test_checkpointing_changes_no_gradient_of_packed_rows(tiny, examples):
    import torch

    row = data.pack(examples)[0]
    gradients = []
    for checkpointing in (False, True):
        model = tiny().train()
        for name, p in lora.trainable(model).items():
            torch.nn.init.normal_(p, std=0.1) if "lora_B" in name else None
        attention.install(model)
        step.recompute(model, checkpointing)
        step.row_loss(model, data.to_batch(row), "fp32").backward()
        gradients.append([p.grad for p in lora.trainable(model).values()])
        torch.manual_seed(0)
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b) and a.abs().sum() > 0


def test_the_rows_looked_at_are_the_largest_of_the_whole_plan():
    many = [*examples(), TokenExample(list(range(400)), [1]), TokenExample([1], [2] * 90)]
    rows = memory.largest(many, TrainConfig(batch_size=1), 0)
    assert {len(row.ids) for row in rows} == {401, 91}
