"""Where words go: results to stdout, all else to stderr; and which setting wins."""

import json
import sys
from types import SimpleNamespace

import pytest
from commands import SAMPLE, settings

from lmsi_cli.cli import console, run
from lmsi_cli.config import VoteConfig
from lmsi_cli.settings import resolve
from lmsi_cli.stages import sample as stage

pytestmark = pytest.mark.model


def test_results_go_to_stdout_and_progress_to_stderr(folder, lmsi):
    done = lmsi(*SAMPLE.split())
    assert done.stdout.splitlines()[0].strip() == "sample"
    assert "sampling  4/4" in done.stderr and "sampling" not in done.stdout
    assert lmsi(*SAMPLE.split(), "--overwrite", "--quiet").stderr == ""
    for command in (SAMPLE, "models", "models show m.gguf"):
        assert json.loads(lmsi(*command.split(), "--json").stdout)


@pytest.mark.parametrize("bar", [True, False], ids=["a terminal", "a file"])
def test_a_dry_run_is_a_result_whatever_shows_the_progress(folder, lmsi, monkeypatch, bar):
    monkeypatch.setattr(console, "animated", lambda: bar)
    assert json.loads(lmsi(*SAMPLE.split(), "--dry-run", "--json").stdout)["prompt"]


def test_a_result_that_goes_to_a_file_is_not_cut_at_80_columns(folder, lmsi):
    for command in ("models", "models show tinymath"):
        assert "…" not in lmsi(*command.split()).stdout
    (folder / "x").mkdir()
    long = folder / "x" / ("y" * 100 + ".gguf")
    long.symlink_to((folder / "m.gguf").resolve())
    assert str(long) in lmsi("models", "show", long).stdout


def test_run_reads_the_sample_table_and_what_is_given_to_run_beats_it(folder, lmsi, monkeypatch):
    resolved = {}
    monkeypatch.setattr(
        run, "resolve", lambda kind, *layers: resolved.setdefault(kind, resolve(kind, *layers))
    )
    (folder / "c.toml").write_text(
        '[sample]\nmodel = "m.gguf"\nmax_tokens = 1\nthreads = 1\npaths = 8\nstop = "beta:0.9"\n'
        "[vote]\nmin_share = 0.4\n"
    )
    argv = ("-o", "r", "--config", "c.toml", "-n", "1", "--set", "vote.preset=paper")
    done = lmsi("run", "q.jsonl", *argv)
    assert "none of 2 paths can vote" in done.stderr
    kept = settings()
    assert kept["model"] == str(folder / "m.gguf")
    assert (kept["paths"], kept["stop"]) == (1, "beta:0.9")
    assert resolved[VoteConfig].min_share == 0  # of the preset that was typed


@pytest.mark.parametrize("more", [[], ["--overwrite"]], ids=["plain", "overwrite"])
def test_an_interrupt_is_one_line_and_exit_code_130(folder, lmsi, monkeypatch, more):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "to_path", interrupt)
    monkeypatch.setattr(sys, "argv", ["lmsi", "sample", *more])
    done = lmsi(*SAMPLE.split(), *more)
    assert done.stderr.startswith("interrupted; ") and done.stderr.count("\n") == 1
    assert ("without --overwrite" in done.stderr) == bool(more)
    assert (done.exit_code, done.stdout) == (130, "")


def test_the_live_bar_is_gone_before_the_error_is_told(folder, lmsi, monkeypatch):
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


def test_colours_stay_away_where_they_are_not_wanted(folder, lmsi, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[31m" in lmsi("vote", "r").stderr
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in lmsi("vote", "r").stderr
