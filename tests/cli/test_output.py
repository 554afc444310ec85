"""Where words go: results to stdout, all else to stderr; and which setting wins."""

import json
import sys
from types import SimpleNamespace

import pytest
from commands import SAMPLE, settings, works

from lmsi_cli.cli import console, run
from lmsi_cli.config import VoteConfig
from lmsi_cli.settings import resolve
from lmsi_cli.stages import sample as stage

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("folder")]


def test_results_go_to_stdout_and_progress_to_stderr():
    done = works(*SAMPLE.split())
    assert done.stdout.splitlines()[0].strip() == "sample"
    assert "sampling  4/4" in done.stderr and "sampling" not in done.stdout
    assert works(*SAMPLE.split(), "--overwrite", "--quiet").stderr == ""
    for command in (SAMPLE, "models", "models show m.gguf"):
        assert json.loads(works(*command.split(), "--json").stdout)


def test_a_dry_run_is_a_result_beside_a_live_bar_too(lmsi, monkeypatch):
    monkeypatch.setattr(console, "animated", lambda: True)
    assert json.loads(lmsi(*SAMPLE.split(), "--dry-run", "--json").stdout)["prompt"]


def test_a_result_that_goes_to_a_file_is_not_cut_at_80_columns(folder):
    long = folder / ("y" * 100 + ".gguf")
    long.symlink_to((folder / "m.gguf").resolve())
    assert str(long) in works("models", "show", long).stdout


def test_run_reads_the_sample_table_and_what_is_given_to_run_beats_it(folder, lmsi, monkeypatch):
    resolved = {}
    monkeypatch.setattr(
        run, "resolve", lambda kind, *layers: resolved.setdefault(kind, resolve(kind, *layers))
    )
    table = 'model = "m.gguf"\nmax_tokens = 1\nthreads = 1\npaths = 8\nstop = "beta:0.9"\n'
    (folder / "c.toml").write_text(f"[sample]\n{table}[vote]\nmin_share = 0.4\n")
    done = lmsi("run", "q.jsonl", "-o", "r", "--config", "c.toml", "-n", 1, "--set",
                "vote.preset=paper")  # fmt: skip
    assert "none of 2 paths can vote" in done.stderr
    kept = settings()
    assert (kept["model"], kept["paths"]) == (str(folder / "m.gguf"), 1)
    assert kept["stop"] == "beta:0.9"
    assert resolved[VoteConfig].min_share == 0  # of the preset that was typed


def test_an_interrupted_command_that_discards_goes_on_without(lmsi, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "to_path", interrupt)
    monkeypatch.setattr(sys, "argv", ["lmsi", "sample", "--overwrite"])
    done = lmsi(*SAMPLE.split(), "--overwrite")
    assert (done.exit_code, done.stdout) == (130, "")
    assert "the same command without --overwrite goes on" in done.stderr


def test_the_live_bar_is_gone_before_the_error_is_told(lmsi, monkeypatch):
    order = []

    class Beacon(console.Beacon):
        def end(self, how):
            assert not self.live.disable
            super().end(how)
            order.append("on" if self.live.live.is_started else "stopped")

    told = SimpleNamespace(print=lambda text, **_: order.append(text))
    monkeypatch.setattr(console, "animated", lambda: True)
    monkeypatch.setattr("lmsi_cli.cli.session.Beacon", Beacon)
    monkeypatch.setattr("lmsi_cli.cli.main.err", lambda: told)
    lmsi(*SAMPLE.split(), "--max-tokens", "4000")
    assert "stopped" in order and order[order.count("stopped")].startswith("error: ")
