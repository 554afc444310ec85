"""The report in a real browser: no errors, no hostile script, narrow screens, print, axe."""

import shutil

import pytest
from report_run import trained

from lmsi_cli.reporting.digest import page
from lmsi_cli.stages.report import read_run

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
OFFLINE = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, run, tmp_path):
    """Open the report of the hostile run; every complaint of the browser is kept."""
    trained(run, 2)
    file = tmp_path / "report.html"
    file.write_text(page(read_run(run), "1"), encoding="utf-8")
    complaints: list[str] = []

    def open_(**settings):
        tab = browser.new_page(**settings)
        tab.on("console", lambda m: complaints.append(m.text))
        tab.on("pageerror", lambda e: complaints.append(str(e)))
        tab.on("request", lambda r: None if r.url.startswith("file:") else complaints.append(r.url))
        tab.goto(file.as_uri())
        return tab

    yield open_
    assert complaints == []


def test_it_opens_without_a_complaint_fits_and_runs_no_hostile_script(opened):
    tab = opened()
    assert tab.locator("h1").inner_text().startswith("lmsi report: <b>run")
    assert tab.evaluate("window.hacked") is None
    assert "<script>window.hacked=1</script>" in tab.locator("#result-1").inner_text()
    for width in (1280, 360):  # a narrow screen does not scroll sideways either
        tab.set_viewport_size({"width": width, "height": 700})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.emulate_media(media="print")
    for drawn in ("svg.chart", "svg.span"):
        assert tab.locator(drawn).first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_by_axe(opened, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    tab = opened(color_scheme=scheme, bypass_csp=True)  # axe is put into the page as a script
    found = axe.Axe().run(tab)
    assert [v["id"] for v in found.response["violations"]] == []
