"""Makes the pictures of docs/images from a run of the embedded model.

    M=models/tinymath
    lmsi run $M/questions.jsonl -m tinymath --data $M/test.jsonl -o runs/first --limit 100 \
        --paths 8 --set train.max_steps=16 --set eval.limit=60
    python docs/screenshots.py runs/first

The first screen of the report is pictured by Chromium, in light and dark.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).resolve().parent / "images"


def pictured_page(run: Path) -> None:
    """The first screen in light and dark."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        page = Path(folder) / "report.html"
        command = [sys.executable, "-m", "lmsi_cli", "report", str(run), "-o", str(page)]
        subprocess.run(command, check=True)
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        size: Any = {"width": 1000, "height": 598}
        for scheme in ("light", "dark"):
            tab = browser.new_page(viewport=size, color_scheme=scheme)
            tab.goto(page.as_uri())
            tab.screenshot(path=IMAGES / f"report-{scheme}.png")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    pictured_page(Path(sys.argv[1]))
