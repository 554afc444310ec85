"""The adapter that a training starts from must fit what is trained."""

import json

import pytest
from toys import Watcher, job

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import adapter, data
from lmsi_cli.training.adapter import (
    check_files,
    check_start,
    fill,
    save_adapter,
)
from lmsi_cli.training.loop import fit
from lmsi_cli.training.losses import token_losses


def saved(model, folder):
    folder.mkdir(exist_ok=True)
    save_adapter(model, folder)
    origin = {"base_sha256": "b", "base_file": "m"}
    (folder / "lmsi.json").write_text(json.dumps(origin))
    return {"init": str(folder), "alpha": 32.0, "rank": 4}


def loss_of(model, examples):
    """Over all examples as one batch, as the first step takes it."""
    rows = data.pack(examples, 1536)
    total = sum(float(token_losses(model, row, "fp32").sum().detach()) for row in rows)
    return total / sum(len(row.labels) for row in rows)


def test_the_first_loss_is_the_last_adapters(tiny, examples, tmp_path):
    first, again = tiny(), tiny()
    log = fit(first, job(examples, tmp_path / "a", batch_size=9), Watcher()).log
    config = saved(first, tmp_path / "adapter")
    fill(again, TrainConfig(**config))
    task = job(examples, tmp_path / "b", max_steps=1, batch_size=9, **config)
    begun = fit(again, task, Watcher()).log[0].loss
    assert begun == pytest.approx(loss_of(first, examples), abs=1e-5)
    assert begun < log[0].loss / 2  # and not that of the base


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"rank": 16}, "rank 4, 16 now"),
        ({"alpha": 16.0}, "alpha 32.0, 16.0 now"),
        ({"rslora": True}, "rslora False, True now"),
    ],
)
def test_other_settings_are_refused(tiny, tmp_path, config, what):
    right = saved(tiny(), tmp_path / "adapter")
    check_start(TrainConfig(**right), "b")
    with pytest.raises(LmsiError, match=what):
        check_start(TrainConfig(**right | config), "b")
    with pytest.raises(LmsiError, match="trained on another model, m"):
        check_start(TrainConfig(**right), "c")


@pytest.mark.parametrize("config", [{"target": "mlp"}, {"layers": 1}], ids=str)
def test_other_matrices_are_refused(tiny, tmp_path, config):
    right = saved(tiny(), tmp_path / "adapter")
    with pytest.raises(LmsiError, match="acts on other matrices"):
        fill(tiny(**config), TrainConfig(**right | config))


@pytest.mark.parametrize("missing", ["adapter_config.json", "lmsi.json"])
def test_an_unfinished_adapter_is_refused(tiny, tmp_path, missing):
    config = TrainConfig(**saved(tiny(), tmp_path / "adapter"))
    (tmp_path / "adapter" / missing).unlink()
    with pytest.raises(LmsiError, match=f"no {missing}"):
        check_start(config, "b")


TORN = {
    "weights cut off": (adapter.WEIGHTS, lambda data: data[:1000]),
    "weights that are none": (adapter.WEIGHTS, lambda data: b"x" * 100),
    "settings cut off": (adapter.CONFIG, lambda data: data[:20]),
    "settings of nothing": (adapter.CONFIG, lambda data: b"{}"),
    "settings that are a list": (adapter.CONFIG, lambda data: b"[1]"),
}


@pytest.mark.parametrize(("name", "torn"), TORN.values(), ids=TORN.keys())
def test_torn_files_are_named(tiny, tmp_path, name, torn):
    saved(tiny(), tmp_path)
    assert check_files(tmp_path)["r"] == 4
    (tmp_path / name).write_bytes(torn((tmp_path / name).read_bytes()))
    with pytest.raises(LmsiError, match=name):
        check_files(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(LmsiError, match=name):
        check_files(tmp_path)
