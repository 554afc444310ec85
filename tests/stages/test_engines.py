"""``--engine auto``: what it chooses, when it measures, and how a folder goes on."""

from contextlib import nullcontext

import pytest

from lmsi_cli.config import SampleConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Question
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.stages import engines as module
from lmsi_cli.stages.engines import begun_with, chosen
from lmsi_cli.stages.pipeline import draw_paths, job_of

AUTO = SampleConfig(engine="auto")
QUESTIONS = [Question(id="a", question="Tom has 12 apples and gets 7 more. How many has he now?")]


class Llama:
    """Writes as fast as it is told."""

    def pace(self, need):
        return None, type("Pace", (), {"write": 100.0})


@pytest.fixture
def model(tmp_path, monkeypatch):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(module, "SMALLEST", 1)
    monkeypatch.setattr(module, "version", lambda name: "2026.4")
    monkeypatch.setattr(module, "verdict_file", lambda model, of: tmp_path / f"verdict{of}.json")
    return file


def choose(model, watcher, settings=AUTO, paths=1000, run=None, theirs=130.0):
    """What is chosen, and the engines that were opened for it."""
    opened = []

    def open_(name):
        opened.append(name)
        if name == "openvino" and theirs is None:
            raise LmsiError("cannot")
        return nullcontext(Llama())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_rate", lambda engine: theirs)
        return chosen(settings, model, paths, open_, watcher, run), opened


@pytest.mark.parametrize(
    ("theirs", "engine"), [(130.0, "openvino"), (115.0, "llama"), (None, "llama")]
)
def test_openvino_is_chosen_on_a_measured_gain_and_measured_once(model, watcher, theirs, engine):
    assert choose(model, watcher, theirs=theirs) == (engine, ["llama", "openvino"])
    assert choose(model, watcher, theirs=theirs) == (engine, [])


@pytest.mark.parametrize(
    ("settings", "paths"),
    [
        (AUTO, 499),
        (SampleConfig(engine="auto", top_p=0.9), 1000),
        (SampleConfig(engine="auto", cluster="local"), 1000),
    ],
)
def test_small_jobs_and_settings_that_openvino_lacks_are_llama_cpps(
    model, watcher, settings, paths
):
    assert choose(model, watcher, settings, paths) == ("llama", [])


def test_without_the_package_nothing_is_measured(model, watcher, monkeypatch):
    monkeypatch.setattr(module, "_installed", lambda: False)
    assert choose(model, watcher) == ("llama", [])


def test_an_engine_that_is_named_is_taken(model, watcher):
    assert choose(model, watcher, SampleConfig(engine="openvino")) == ("openvino", [])


def test_a_folder_goes_on_as_it_was_begun(model, watcher, tmp_path):
    run = RunDir(tmp_path / "run")
    run.save_settings("sample", {"engine": "openvino"})
    run.paths.write_text("")
    assert choose(model, watcher, run=run) == ("openvino", [])


@pytest.mark.model
def test_a_run_with_auto_is_bound_to_the_engine_that_drew(gguf, tmp_path, watcher):
    run = RunDir(tmp_path)
    for paths in (2, 4):
        settings = SampleConfig(model=str(gguf), engine="auto", paths=paths, threads=1)
        with locked(run):
            assert draw_paths(job_of(settings, QUESTIONS), run, watcher).new_paths == 2
    assert run.load_settings()["sample"]["engine"] == "llama"
    assert begun_with(run) == "llama"
