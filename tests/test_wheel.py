"""The wheel carries the embedded model: another environment, another folder, no checkout near."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from lmsi_cli.training.devices import INSTALL, PACKAGES

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "-q", "-w", folder]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("lmsi-*.whl"))


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """A fresh environment with the wheel; this one lends its dependencies, but those of training.

    `pip install lmsi` does without them.
    """
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home / "env", with_pip=False)
    site = next((home / "env").glob("lib*/python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    # a .pth line adds a folder behind our own and does not run the .pth files that lie in it, so
    # the checkout that this environment knows of stays unknown there
    (home / "lent").mkdir()
    for part in Path(sysconfig.get_path("purelib")).iterdir():
        if part.name.partition("-")[0] not in PACKAGES:
            (home / "lent" / part.name).symlink_to(part)
    (site / "lent.pth").write_text(f"{home / 'lent'}\n")
    return home


def lmsi(home, *arguments, code=0):
    script = "from lmsi_cli.cli.main import main; main()"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HF_", "OLLAMA"))}
    clean |= {"HOME": str(home)}  # without models of other programs
    done = subprocess.run(
        [home / "env" / "bin" / "python", "-c", script, *arguments],
        cwd=home, env=clean, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


@pytest.mark.model
def test_the_model_that_it_brings_samples_there(elsewhere):
    models = json.loads(lmsi(elsewhere, "models", "--json"))
    assert [card["name"] for card in models] == ["tinymath", "tinymath-small"]
    shown = json.loads(lmsi(elsewhere, "models", "show", "tinymath", "--json"))
    assert Path(shown["file"]).is_relative_to(elsewhere / "env")
    (elsewhere / "q.txt").write_text("Tom has 3 apples and gets 4 more. How many has Tom now?\n")
    lmsi(elsewhere, "sample", "q.txt", "-o", "run", "-n", "1", "--max-tokens", "64")
    lmsi(elsewhere, "vote", "run", "--preset", "paper")
    assert lmsi(elsewhere, "doctor").splitlines()[-1].endswith(INSTALL)
    for command in ("train run --force", "run q.txt"):
        told = lmsi(elsewhere, *command.split(), code=1).splitlines()
        assert told == [f"error: training needs {', '.join(PACKAGES)}: not installed",
                        f"hint: type: {INSTALL}"]  # fmt: skip


def test_what_is_packed(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "lmsi_cli/models/tinymath/recipe/families.py" in names  # how the model came about
    assert {"lmsi_cli/engine/amx.h", "lmsi_cli/engine/amx.cmake"} <= set(names)  # doctor's line
    assert not [n for n in names if "__pycache__" in n or n.startswith("tests")]
