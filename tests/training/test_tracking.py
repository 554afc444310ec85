"""`--track`: a training's figures in TensorBoard are those of its logs, and nothing unasked."""

import json
from importlib import metadata

import pytest
from toys import Watcher, job

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.training import tracking
from lmsi_cli.training.loop import LOG, fit
from lmsi_cli.training.validation import Watched


def scalars(folder):
    """Values by name and step, from all event files of a folder."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = events.EventAccumulator(str(folder)).Reload()
    return {
        name: {s.step: s.value for s in found.Scalars(name)} for name in found.Tags()["scalars"]
    }


def logged(file, name):
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {line["step"]: pytest.approx(line[name], rel=1e-5) for line in lines}


def test_tensorboard_shows_what_the_logs_hold(tiny, examples, tmp_path):
    out = tmp_path / "run" / "adapter"
    training = job(examples, out, track="tensorboard", eval_every=4)._replace(
        watched=Watched(examples[:2], unseen=True)
    )
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), training, Watcher(until=5))
    fit(tiny(), training, Watcher())
    [folder] = (tmp_path / "run" / "tensorboard").iterdir()
    found = scalars(folder)
    for name in ("loss", "lr", "grad_norm", "tokens"):
        assert found[f"train/{name}"] == logged(out / LOG, name)
    assert found["eval/loss"] == logged(out / "validation.jsonl", "loss")
    assert "lr: 0.02" in next(folder.rglob("hparams.yml")).read_text()


def test_nothing_is_tracked_unasked(tiny, examples, tmp_path):
    fit(tiny(), job(examples, tmp_path / "adapter", max_steps=1), Watcher())
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_a_tracker_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    """A folder that another run of it has left is no package."""
    (tmp_path / "trackio").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(metadata, "version", lambda name: metadata.distribution(f"no-{name}"))
    tracking.check(TrainConfig())
    with pytest.raises(LmsiError, match="trackio is not installed") as e:
        tracking.check(TrainConfig(track="trackio"))
    assert e.value.hint == "pip install trackio"
