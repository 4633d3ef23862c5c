"""The page: well-formed, self-contained, holds every number of the tables, and fits a phone in a real browser."""

import re
import shutil
import subprocess
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO

import pandas as pd
import pytest
from PIL import Image

from flip.report import page, tradeoff
from flip.report.cells import Builder, Cell
from flip.report.results import read_results
from tests.results_world import write_world

VOID = {"meta", "br", "link", "img", "hr", "input"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_BROWSER = pytest.mark.skipif(BROWSER is None, reason="no Chromium installed (apt-get install chromium)")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


class Reader(HTMLParser):
    """Collects attributes, ids and text; fails on a tag that is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references, self.tags, self.words, self.images = [], [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attributes))
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name in {"href", "src", "srcset", "action", "data", "xlink:href"}:
                self.references.append((tag, value))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="session")
def project(project):
    return project.of("ablations")


@pytest.fixture(scope="session")
def folder(tmp_path_factory, project):
    from flip.report.tables import write

    root = tmp_path_factory.mktemp("page")
    write(read_results(project, *write_world(root, project)), root / "tables")
    return root


@pytest.fixture
def results(project, folder):
    places = ("data", "results", "receipts", "tables/cost.json")
    return read_results(project, *(folder / place for place in places))


@pytest.fixture(scope="session")
def html(folder):
    return (folder / "tables" / "index.html").read_text()


@pytest.fixture(scope="session")
def reader(html):
    return Reader(html)


def test_page_is_well_formed_and_its_links_lead_somewhere(reader):
    assert len(reader.ids) == len(set(reader.ids))
    inner = {value for _, value in reader.references if value.startswith("#")}
    assert inner
    assert {value[1:] for value in inner} <= set(reader.ids)


def test_page_loads_nothing(html, reader):
    outer = {(tag, value) for tag, value in reader.references if not value.startswith("#")}
    inside = {(tag, value) for tag, value in outer if tag == "img" and value.startswith("data:image/webp;base64,")}
    assert inside
    assert outer - inside == {("a", "https://arxiv.org/abs/2212.00794")}
    assert not {"script", "link", "iframe", "object"} & set(reader.tags)
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []


def test_every_number_of_the_tables_is_on_the_page(folder, reader):
    text = "".join(reader.words)
    frame = pd.read_csv(folder / "tables" / "tables.csv")
    for cell in frame.itertuples():
        assert f"{cell.value:.1f} [{cell.low:.1f}, {cell.high:.1f}]" in text
        assert f"{cell.relative_flops:.2f}x" in text
        assert f"{cell.relative_total_time:.2f}x" in text
        assert f"{cell.samples:,} samples" in text
        if cell.difference == cell.difference:
            assert f"{cell.difference:+.1f} [{cell.difference_low:+.1f}, {cell.difference_high:+.1f}]" in text
        if cell.paper == cell.paper:
            assert f"paper {cell.paper:.1f}" in text


def test_page_gives_the_data_its_losses_and_the_papers_side(project, reader):
    text = "".join(reader.words)
    assert "12,000 pictures were wanted and 10,970 are used (91.4%)" in text
    for line in ("lost: not found", "lost: in a test set", "LAION-400M", "ViT-L/16", "5e5e5e5e5e5e", "chance 0.78%"):
        assert line in text
    assert all(f"Table {name}: {table.title}" in text for name, table in project.tables.items())


def test_both_sides_of_the_setup_name_the_same_things(project, folder):
    results = read_results(
        project, folder / "data", folder / "results", folder / "receipts", folder / "tables/cost.json"
    )
    builder = Builder(results)
    assert page.setup(results).keys() == builder.paper["setup"].keys()


def test_what_the_inputs_say_is_escaped(project, folder):
    results = read_results(
        project, folder / "data", folder / "results", folder / "receipts", folder / "tables/cost.json"
    )
    results.cost["device"] = "<script>alert(1)</script>"
    builder = Builder(results)
    text = page.render(results, builder.tables(), tradeoff.curves(results, builder.estimates))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_a_comparison_in_two_tables_counts_once():
    class Row:
        variant = "flip-75"
        cells = (Cell("fine", 50, 48, 52, "flip-50", 1, 0.5, 1.5, 68.2, -1.4),)

    class Table:
        rows = (Row(),)

    assert page.agreement([Table(), Table()]) == {"no": 1}


def browse(folder, *options):
    command = [BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", "--hide-scrollbars", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@NO_BROWSER
@pytest.mark.parametrize("width", [400, 1400])
def test_the_browser_lays_the_page_out_without_sideways_scrolling(folder, width):
    """A frame of that width measures the page and writes what it found into its own document."""
    outer = folder / "tables" / f"frame-{width}.html"
    outer.write_text(
        f'<iframe src="index.html" style="width:{width}px;height:3000px;border:0" onload="'
        "const d = this.contentDocument.documentElement; document.body.dataset.wide = d.scrollWidth;"
        'document.body.dataset.high = d.scrollHeight"></iframe>'
    )
    dom = browse(folder, "--allow-file-access-from-files", "--dump-dom", outer.as_uri())
    found = dict(re.findall(r'data-(wide|high)="(\d+)"', dom))
    assert int(found["wide"]) <= width
    assert int(found["high"]) > 3000


@NO_BROWSER
def test_the_browser_draws_the_page(folder):
    shot = folder / "page.png"
    browse(folder, f"--screenshot={shot}", "--window-size=400,3000", (folder / "tables" / "index.html").as_uri())
    with Image.open(shot) as image:
        assert image.size == (400, 3000)
        assert len(image.convert("RGB").getcolors(1 << 24)) > 100


def test_a_report_without_a_figure_says_nothing_of_one(tmp_path):
    """The systems' page has its own words, tables and variants, and neither figure nor the paper's set-up."""
    from flip.params import read_project
    from flip.report.tables import leading_metric, summary, write

    project = read_project("params.yaml", "tiny").of("systems")
    results = read_results(project, *write_world(tmp_path, project))
    write(results, tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    assert project.reports["systems"].question in text
    assert all(f"Table {name}: {table.title}" in text for name, table in project.tables.items())
    assert not any(word in text for word in ('id="tradeoff"', 'id="setup"', "arXiv 2212.00794</a>, Table 1"))
    assert not (tmp_path / "out" / "tradeoff.svg").exists()
    aligned = {name for name in project.named if project.variants[name].aligned}
    assert summary(results, leading_metric(project))["fine"].keys() == aligned != set(project.named)


def page_of(project, folder) -> Reader:
    from flip.report.tables import write

    write(read_results(project, *write_world(folder, project)), folder / "out")
    return Reader((folder / "out" / "index.html").read_text())


def test_pictures_are_part_of_the_page_and_say_what_they_show(tmp_path):
    """Of the systems: maps of each that has text, drawings of each that predicts pixels, what codes keep. Each once."""
    from flip.params import read_project

    project = read_project("params.yaml", "tiny").of("systems")
    reader = page_of(project, tmp_path)
    chosen = [project.variants[name] for name in project.named]
    looking = [one.variant for one in chosen if one.aligned]
    drawing = [one.variant for one in chosen if one.reconstruction.weight or one.generative.pixels]
    assert {"mae", "m3ae", "mae-clip"} <= set(drawing)
    assert len(reader.images) == len(looking) + len(drawing) + 1
    alts = [image["alt"] for image in reader.images]
    for name in looking:
        assert alts.count(f"Where {name} looks in 2 test pictures: a red star (hit), a <b> (miss).") == 1
    for name in drawing:
        assert sum(f"what {name} draws in place of the others: red star, " in alt for alt in alts) == 1
    for image in reader.images:
        assert image["loading"] == "lazy"
        content = b64decode(image["src"].removeprefix("data:image/webp;base64,"))
        assert len(content) < 60_000
        with Image.open(BytesIO(content)) as picture:
            assert picture.size == (int(image["width"]), int(image["height"]))
    text = " ".join("".join(reader.words).split())
    assert "75.0% of the codes are in use; perplexity 300 of 512; error 0.123 of the pixels' variance" in text
    assert "25% of the patches are seen" in text
    assert "Hits: 1 of these 2; " in text
    assert "% of the set's 480, chance 12.3%." in text
    assert "Error on the removed patches of 512 test pictures: 0.43 of the variance." in text
    assert {"reconstructions", "tokenizer"} <= set(reader.ids)


def test_maps_stand_with_the_table_that_scores_them(tmp_path):
    from flip.params import read_project

    project = read_project("params.yaml", "tiny").of("hybrids")
    reader = page_of(project, tmp_path)
    text = (tmp_path / "out" / "index.html").read_text()
    section = text[text.index('id="table-pooling"') :]
    section = section[: section.index("</section>")]
    assert section.count("<img") == len(project.tables["pooling"].variants)
    assert "Where clip-max looks" in section
    flava = [name for name in project.named if project.variants[name].flava.reads_codes]
    assert f"{' and '.join(flava)} learn to predict" in "".join(reader.words)


def test_what_no_variant_of_a_report_has_is_not_mentioned(tmp_path):
    from flip.params import read_project

    reader = page_of(read_project("params.yaml", "tiny").of("siglip"), tmp_path)
    assert reader.images == []
    assert not {"reconstructions", "tokenizer"} & set(reader.ids)


def test_a_sheet_that_is_missing_is_named(tmp_path):
    from flip.params import read_project

    project = read_project("params.yaml", "tiny").of("siglip")
    places = write_world(tmp_path, project)
    (places[1] / "clip" / "seed-0" / "pictures" / "relevance-pointing.webp").unlink()
    found = read_results(project, *places)
    with pytest.raises(ValueError, match=r"relevance-pointing.webp: missing; run `snakemake"):
        _ = found.runs["clip"].pictures
