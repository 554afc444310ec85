"""The report in a real browser: no errors, search, filters, keys, no hostile script, axe."""

import shutil

import pytest

from lmsi_cli.reporting.digest import Chart, Digest, Section, Series, Step
from lmsi_cli.reporting.page import page
from lmsi_cli.stages.report import read_run
from lmsi_cli.tasks.loader import load_task

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
OFFLINE = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]

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
    reading = read_run(run, load_task("number"), 0, "1")
    file = tmp_path / "report.html"
    file.write_text(page(reading.digest, reading.sets, reading.sentence, "1"), encoding="utf-8")
    complaints: list[str] = []

    def open_(**settings):
        tab = browser.new_page(**settings)
        tab.on("console", lambda m: complaints.append(m.text))
        tab.on("pageerror", lambda e: complaints.append(str(e)))
        tab.on("request", lambda r: None if r.url.startswith("file:") else complaints.append(r.url))
        tab.goto(file.as_uri())
        tab.wait_for_selector("#list button")
        return tab

    yield open_
    assert complaints == []


def shown(tab):
    return tab.locator("#list button").count()


def test_it_opens_without_a_complaint_and_runs_no_hostile_script(opened):
    tab = opened()
    assert tab.locator("h1").inner_text().startswith("lmsi report: <b>run")
    assert tab.locator("#list button").count() == 30
    tab.keyboard.press("j")
    tab.wait_for_selector("#detail mark")
    assert tab.evaluate("window.hacked") is None
    assert "<script>window.hacked=1</script>" in tab.locator("#detail .path").first.inner_text()


def test_search_and_filters(opened):
    tab = opened()
    tab.keyboard.press("/")
    tab.keyboard.type("q17")
    assert shown(tab) == 1 and "1 of 30" in tab.locator("#count").inner_text()
    tab.keyboard.press("Escape")
    assert tab.evaluate("document.activeElement.id") != "search"
    tab.locator("#search").fill("no such words")
    assert shown(tab) == 0 and "No question fits" in tab.locator("#detail").inner_text()
    tab.locator("#search").fill("")
    tab.locator("#kind").select_option("kept")
    assert shown(tab) == 30
    tab.locator("#set").select_option(index=1)
    tab.locator("#kind").select_option("lost")
    lost = shown(tab)
    assert 0 < lost < 60
    tab.locator("#family").select_option("f1")
    assert 0 < shown(tab) < lost


def test_keys_go_from_question_to_question(opened):
    tab = opened()
    for key, head in (("j", "q0"), ("j", "q1"), ("k", "q0")):
        tab.keyboard.press(key)
        tab.locator("#detail h3", has_text=head).wait_for()
    assert tab.locator('#list [aria-current="true"]').count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_by_axe(opened, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    tab = opened(color_scheme=scheme, bypass_csp=True)  # axe is put into the page as a script
    tab.keyboard.press("j")
    tab.wait_for_selector("#detail mark")
    found = axe.Axe().run(tab)
    assert [v["id"] for v in found.response["violations"]] == []


def test_narrow_screens_do_not_scroll_sideways(opened):
    tab = opened(viewport={"width": 360, "height": 700})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


LONG = "a run with a long name/adapter x0.25 of another_model-with-no-place-to-break_anywhere"
TEXTS = """() => {
    const found = [];
    const at = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (at.nextNode()) {
        const range = document.createRange();
        const figure = at.currentNode.parentElement.closest("figure");
        range.selectNodeContents(at.currentNode);
        if (!figure || !at.currentNode.parentElement.checkVisibility()) continue;
        for (const r of range.getClientRects())
            if (r.width) found.push([at.currentNode.textContent.trim(), r.left, r.top, r.right,
                r.bottom, figure.getBoundingClientRect().right]);
    }
    return found;
}"""


def pictures(name):
    """Every kind of chart, with names like this one and places close to each other."""
    ks = (1.0, 2.0, 4.0, 8.0, 16.0, 31.0, 32.0, 33.0)
    places = tuple(range(len(ks)))
    values = tuple(i / 8 for i in places)
    names = [f"{word} {name}" for word in ("base", "adapter", "round-2", "another")]
    ends = {"low": values, "high": tuple(min(1.0, v + 0.3) for v in values)}
    lines = tuple(Series(name=n, x=ks, y=values, **ends) for n in names)
    rows = tuple(Series(name=n, x=tuple(map(float, places)), y=values, **ends) for n in names)
    kinds = {
        "curves": {"series": lines, "log_x": True, "percent": "y"},
        "bars": {"series": rows[:1], "ticks": tuple(names[i % 4] for i in places)},
        "intervals": {"series": rows, "ticks": tuple(f"{i} {name}" for i in places)},
    }
    return [Chart(title=name, note=name, kind=k, **rest) for k, rest in kinds.items()]


@pytest.mark.parametrize("name", ["", "of 5 questions", LONG])
@pytest.mark.parametrize("width", [360, 800, 1400])
def test_no_two_labels_of_a_picture_touch(browser, tmp_path, name, width):
    first, *others = reversed(pictures(name))
    section = Section(key="s", title=name, charts=(*others, first))
    digest = Digest(
        title=name, headline=name, picture=first, next=Step("", ""), notes=(), sections=(section,)
    )
    file = tmp_path / "charts.html"
    file.write_text(page(digest, [], "", "1"), encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto(file.as_uri())
    texts = tab.evaluate(TEXTS)
    assert len(texts) > 60
    for i, (one, left, top, right, bottom, edge) in enumerate(texts):
        assert right <= edge + 1, one
        for other, x0, y0, x1, y1, _ in texts[:i]:
            apart = x0 >= right - 1 or x1 <= left + 1 or y0 >= bottom - 1 or y1 <= top + 1
            assert apart, (one, other)


def test_print_has_the_figures_and_not_the_browser(opened):
    tab = opened()
    tab.emulate_media(media="print")
    assert tab.locator("svg.chart").first.is_visible()
    assert not tab.locator("#questions").is_visible()
