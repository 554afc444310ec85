"""Which device is taken, in which arithmetic, and that nothing assumes the processor.

There is no GPU here, so torch is asked by fakes; what a real one computes is not tested.
"""

from contextlib import nullcontext

import pytest

from lmsi_cli.errors import LmsiError
from lmsi_cli.training import attention, data, devices, losses


@pytest.fixture
def machine(monkeypatch):
    """Pretend that torch finds so many GPUs."""
    import torch

    def build(cuda=0, mps=False, capability=(8, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return build


@pytest.mark.parametrize(
    ("there", "wanted", "device"),
    [
        ({}, "auto", "cpu"),
        ({"cuda": 1}, "auto", "cuda:0"),
        ({"cuda": 1}, "cpu", "cpu"),
        ({"mps": True}, "auto", "mps"),
        ({"cuda": 1, "mps": True}, "mps", "mps"),
    ],
)
def test_auto_takes_a_gpu_and_a_name_what_it_says(machine, there, wanted, device):
    machine(**there)
    assert devices.pick(wanted) == device


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(machine, wanted):
    machine()
    with pytest.raises(LmsiError, match=f"--device {wanted}: torch finds no such device here"):
        devices.pick(wanted)


@pytest.mark.parametrize(
    ("capability", "wanted", "device", "dtype"),
    [
        ((8, 0), "auto", "cuda:0", "bf16"),
        ((9, 0), "auto", "cuda:0", "bf16"),
        ((7, 5), "auto", "cuda:0", "fp32"),  # emulates bf16
        ((8, 0), "fp32", "cuda:0", "fp32"),
        ((8, 0), "auto", "mps", "fp32"),
        ((8, 0), "bf16", "mps", "bf16"),
    ],
)
def test_bf16_where_the_device_multiplies_it(machine, capability, wanted, device, dtype):
    machine(cuda=1, capability=capability)
    assert devices.pick_dtype(wanted, device) == dtype


def test_all_tensors_of_a_row_follow_the_model(tiny, examples, monkeypatch):
    import torch

    made, plain = [], torch.tensor

    def spy(*args, **settings):
        made.append(plain(*args, **settings))
        return made[-1]

    model, row = tiny().to("meta"), data.pack(examples)[0]
    attention.install(model)
    monkeypatch.setattr(torch, "tensor", spy)
    # torch has no autocast for "meta", neither ours nor that of the attention written by hand
    monkeypatch.setattr(devices, "autocast", lambda *_: nullcontext())
    monkeypatch.setattr(attention, "SMALL", 0)
    found = losses.token_losses(model, row, "fp32")
    assert (found.device.type, found.shape) == ("meta", (len(row.labels),))
    assert len(made) >= 4 and {t.device.type for t in made} == {"meta"}


@pytest.mark.parametrize(
    ("native", "gain", "dtype"),
    [(True, 1.31, "bf16"), (True, 1.29, "fp32"), (False, 4.0, "fp32")],
)
def test_a_processor_must_have_bf16_and_win_by_a_margin(monkeypatch, native, gain, dtype):
    assert devices.bf16_gain(64, 64) > 0
    monkeypatch.setattr(devices, "native_bf16", lambda: native)
    monkeypatch.setattr(devices, "bf16_gain", lambda out, into: gain)
    assert devices.pick_dtype("auto", "cpu", (64, 64)) == dtype
