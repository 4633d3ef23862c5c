"""In a real Chromium: the page asks for nothing and logs no error, fits a phone and a desk, sorts and says where its
numbers come from by mouse and by keyboard, can be read by everyone and on paper, and is whole without scripts."""

import json
from itertools import pairwise

import pytest

from flip.config.resolve import read_project
from flip.report import page, tradeoff
from flip.report.cells import Builder
from flip.report.results import read_results
from tests.browser import browser
from tests.programs import Unavailable
from tests.results_world import MANIFEST, write_world

pytestmark = pytest.mark.browser
WIDTHS = [400, 1400]
CONTRAST = 4.5  # of text to what is behind it (WCAG 2.2, 1.4.3)
TABLE = "document.querySelector('#table-a').parentElement.querySelector('table')"
# Every text that is seen, with the contrast of its colour to the nearest background.
CONTRASTS = """
(() => {
  const parse = (colour) => (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => {
    const line = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [x, y, z] = [r, g, b].map((v) => line(v / 255));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || element.closest("script, style") || !element.checkVisibility({ visibilityProperty: true })) continue;
    const style = getComputedStyle(element);
    const ink = parse(element.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(element))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), text, element.tagName, style.color, style.fill]);
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def chromium():
    try:
        with browser() as one:
            yield one
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page of two reports, one with a trade-off figure and one with maps, drawings and codes."""
    root, project = tmp_path_factory.mktemp("page"), read_project("params.yaml", "tiny")
    parts = []
    places = write_world(root, project)
    for name in ("ablations", "hybrids"):
        found = read_results(project.of(name), *places)
        builder = Builder(found)
        parts.append(page.Part(found, builder.tables(), tradeoff.curves(found, builder.estimates)))
    (root / "index.html").write_text(page.render(parts, {"siglip": "its results are not there"}))
    return (root / "index.html").as_uri()


@pytest.fixture(scope="module", params=WIDTHS)
def tab(request, chromium, address):
    found = chromium.open(address, request.param)
    found.until("document.documentElement.dataset.drawn === 'yes'")
    return found


@pytest.fixture(scope="module")
def wide(chromium, address):
    found = chromium.open(address, WIDTHS[-1])
    found.until("document.documentElement.dataset.drawn === 'yes'")
    return found


def column(tab, number: int) -> list[float]:
    return tab.run(f"[...{TABLE}.tBodies[0].rows].map((row) => Number(row.cells[{number}].dataset.sort))")


def is_open(tab) -> bool:
    return tab.run("document.getElementById('provenance').open")


def test_nothing_is_asked_for_and_nothing_goes_wrong(tab, address):
    asked = {one["request"]["url"] for method, one in tab.events if method == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {address}
    said = [one for method, one in tab.events if method in ("Runtime.exceptionThrown", "Log.entryAdded")]
    said += [one for method, one in tab.events if method == "Runtime.consoleAPICalled"]
    assert said == []


def test_nothing_is_wider_than_the_window(tab):
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    assert tab.run("document.documentElement.scrollHeight") > 3000
    outside = (
        "[...document.querySelectorAll('main *')].filter((one) => !one.closest('.scroll, svg, dialog') && "
        "one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 120))"
    )
    assert tab.run(outside) == []


@pytest.mark.parametrize(("width", "beside"), [(1000, False), (1400, True)])
def test_tables_of_results_are_whole_and_the_contents_stand_beside_on_a_desk(chromium, address, width, beside):
    tab = chromium.open(address, width)
    tab.until("document.documentElement.dataset.drawn === 'yes'")
    boxes = "[...document.querySelectorAll('[aria-label^=Table]')]"
    assert tab.run(f"{boxes}.length") >= 12
    assert tab.run(f"{boxes}.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.ariaLabel)") == []
    left, nested = tab.run("[document.querySelector('main').getBoundingClientRect().left, "
                           "document.querySelector('nav.contents ul ul').checkVisibility()]")  # fmt: skip
    assert (left > 200, nested) == (beside, beside)
    assert tab.run("document.querySelector('nav.here').checkVisibility()") != beside
    most = "[...document.querySelectorAll('table.sortable')].map((one) => one.tHead.rows[0].cells.length)"
    assert max(tab.run(most)) <= 8, "further metrics of a wide table are folded"
    assert tab.run("document.querySelectorAll('details.more').length")


def test_curves_are_named_where_they_end(wide):
    names = "[...document.querySelectorAll('#ablations-curves-chart .mark-text.role-mark text')]"
    found = wide.run(f"{names}.map((one) => [one.textContent, one.getBoundingClientRect().top])")
    assert {name for name, _ in found} == set(read_project("params.yaml", "tiny").of("ablations").named)
    tops = sorted(top for _, top in found)
    assert min(after - before for before, after in pairwise(tops)) >= 12


def test_paper_has_every_image_and_all_that_is_folded(wide, tmp_path):
    wide.run("scrollTo(0, 0)")
    assert wide.run("[...document.images].every((one) => one.complete && one.naturalWidth)")
    wide.emulate(media="print")
    assert wide.run("[...document.querySelectorAll('.more table')].every((one) => one.checkVisibility())")
    breaks = "[...document.querySelectorAll('.report')].map((one) => getComputedStyle(one).breakBefore)"
    assert wide.run(breaks) == ["auto", "page"], "the title does not stand alone on a sheet"
    wide.emulate()


def test_figures_are_drawn_and_take_the_place_of_the_still_one(tab):
    wanted = tab.run("Object.keys(JSON.parse(document.getElementById('charts').textContent))")
    swept = [name for name in wanted if name.endswith("-sweeps-chart")]
    assert len(wanted) - len(swept) == 7, "a trade-off, and costs, training and time of each report"
    assert swept, "what was chosen of the ablations is in Git"
    for name in wanted:
        assert tab.run(f"document.querySelectorAll('#{name} svg').length") == 1
        least = 150 if name in swept else 300  # a drawing or two are no wider
        assert tab.run(f"document.querySelector('#{name} svg').getBoundingClientRect().width") > least
    cut = "(one) => one.getBoundingClientRect().right > one.closest('.chart').getBoundingClientRect().right"
    assert (
        tab.run(f"[...document.querySelectorAll('.chart svg text')].filter({cut}).map((one) => one.textContent)") == []
    )
    assert tab.run("[...document.querySelectorAll('.fallback')].every((one) => !one.checkVisibility())")


def test_a_point_says_which_run_it_is(wide):
    point = "document.querySelector('#ablations-tradeoff-chart .mark-symbol.role-mark path')"
    wide.run(f"{point}.scrollIntoView({{block: 'center'}})")
    x, y = wide.run(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({point}.getBoundingClientRect())")
    wide.move(x - 60, y - 40)
    wide.move(x, y)
    wide.until("document.querySelector('#vg-tooltip-element')?.textContent.includes('accuracy')")
    text = wide.run("document.querySelector('#vg-tooltip-element').textContent")
    assert any(name in text for name in ("clip", "flip-50", "flip-75"))


def test_tables_sort_by_mouse_and_by_keyboard(tab):
    head = f"{TABLE}.tHead.rows[0].cells[1]"
    before = column(tab, 1)
    tab.click(f"{head}.querySelector('button')")
    assert column(tab, 1) == sorted(before, reverse=True) != sorted(before)
    assert tab.run(f"{head}.getAttribute('aria-sort')") == "descending"
    tab.press("Enter")
    assert column(tab, 1) == sorted(before)
    assert tab.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    tab.press("Space")
    assert column(tab, 1) == before
    assert tab.run(f"{head}.getAttribute('aria-sort')") == "none"


def test_cells_without_a_value_come_last(wide):
    lacking = (
        "[...document.querySelectorAll('table.sortable')].find((one) => [...one.tBodies[0].rows].some((row) => "
        "[...row.cells].some((cell) => cell.dataset.sort === '')))"
    )
    number = wide.run(f"[...{lacking}.tBodies[0].rows].flatMap((row) => [...row.cells]).find((one) => "
                      "one.dataset.sort === '').cellIndex")  # fmt: skip
    for _ in range(2):
        wide.click(f"{lacking}.tHead.rows[0].cells[{number}].querySelector('button')")
        there = wide.run(f"[...{lacking}.tBodies[0].rows].map((row) => row.cells[{number}].dataset.sort !== '')")
        assert there == sorted(there, reverse=True)
        assert True in there


def test_a_number_says_where_it_comes_from(tab):
    cell = f"{TABLE}.tBodies[0].rows[1].querySelector('button.cell')"
    tab.click(cell)
    assert is_open(tab)
    text = tab.run("document.getElementById('provenance').innerText")
    for fact in ("flip-50: fine", "95% interval", MANIFEST, "c0ffee", "torch 2.13.0", "00" * 32, "ab" * 32, "Seeds\n"):
        assert fact in text
    assert "masking.image\t0.5\t0.0" in text
    assert tab.run("document.getElementById('provenance').getBoundingClientRect().right <= innerWidth")
    tab.press("Escape")
    assert not is_open(tab)
    assert tab.run(f"document.activeElement === {cell}"), "focus is where it was"
    tab.press("Enter")
    assert is_open(tab)
    assert tab.run("document.getElementById('provenance').contains(document.activeElement)")
    tab.run("document.querySelector('#provenance form button').focus()")
    tab.press("Space")
    assert not is_open(tab)


def test_the_tab_key_reaches_heads_and_numbers(wide):
    wide.run(f"{TABLE}.parentElement.focus()")
    met = []
    for _ in range(9):
        wide.press("Tab")
        met.append(wide.run("document.activeElement.className"))
    assert met[:8] == ["sort"] * 8
    assert met[8] == "cell"


def test_images_have_words_and_headings_have_an_order(wide):
    alts = wide.run("[...document.images].map((one) => one.alt.trim())")
    assert len(alts) > 20
    assert all(alts)
    assert wide.run("[...document.querySelectorAll('[role=img]')].every((one) => one.ariaLabel)")
    levels = wide.run("[...document.querySelectorAll('h1, h2, h3, h4, h5')].map((one) => Number(one.tagName[1]))")
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert wide.run("document.documentElement.lang") == "en"
    assert wide.run("[...document.querySelectorAll('button, a')].every((one) => one.textContent.trim())")
    assert wide.run("[...document.querySelectorAll('th')].every((one) => one.scope)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(tab, scheme):
    tab.emulate(scheme=scheme)
    tab.run("document.querySelector('button.cell').click()")
    found = tab.run(CONTRASTS)
    tab.run("document.getElementById('provenance').close()")
    tab.emulate()
    assert len(found) > 500
    assert [one for one in found if one[0] < CONTRAST] == []


def test_paper_has_no_controls(tab):
    tab.emulate(media="print")
    for controls in ("nav", ".downloads", "dialog"):
        assert tab.run(f"[...document.querySelectorAll('{controls}')].every((one) => !one.checkVisibility())")
    assert tab.run("getComputedStyle(document.querySelector('.sort'), '::after').content") == "none"
    assert tab.run("[...document.querySelectorAll('.chart svg')].every((one) => one.checkVisibility())")
    tab.emulate()


def test_downloads_hold_the_tables(wide):
    link = "document.querySelector('#table-a').parentElement.querySelector('a[download=\"a.csv\"]').href"
    text = wide.run(f"fetch({link}).then((one) => one.text())")
    assert text.startswith("variant,label,fine,fine_low,fine_high")
    assert len(text.splitlines()) == 4


def test_without_scripts_there_are_still_figures_and_tables(chromium, address):
    tab = chromium.open("about:blank", WIDTHS[0])
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.go(address)
    assert tab.run("document.querySelector('.fallback svg').checkVisibility()")
    assert tab.run("[...document.querySelectorAll('.chart')].every((one) => !one.checkVisibility())")
    assert tab.run("document.querySelectorAll('.sort').length") == 0
    assert [one for one in tab.run(CONTRASTS) if one[0] < CONTRAST] == []
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    assert json.loads(tab.run("document.getElementById('behind').textContent"))["runs"]["clip"]
