"""The page: well-formed, self-contained, holds every number of the tables and what is behind it, and names what is not
there. How it looks and behaves is for test_browser."""

import json
import re
import shutil
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO

import pandas as pd
import pytest
from PIL import Image

from flip.config.resolve import read_project
from flip.data.contact_sheet import SHOWN
from flip.metrics.names import Metric
from flip.report import images, page, tradeoff, whole
from flip.report.cells import Builder
from flip.report.columns import Cell, of_metric
from flip.report.results import read_results
from tests.results_world import write_world

pytestmark = pytest.mark.long(2)

FINE = of_metric(Metric("fine"))
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Reader(HTMLParser):
    """Collects attributes, ids and text; fails on a tag that is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references, self.words = [], [], [], []
        self.elements = []  # tag, attributes
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name in {"href", "src", "srcset", "action", "data", "xlink:href"}:
                self.references.append((tag, value))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["script"], ["style"]):
            self.words.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


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
    inside = {(tag, value) for tag, value in outer if value.startswith("data:")}
    assert {(tag, value.split(";")[0]) for tag, value in inside} == {
        ("img", "data:image/webp"),
        ("a", "data:text/csv"),
        ("a", "data:application/x-tex"),
    }
    assert outer - inside == {("a", "https://arxiv.org/abs/2212.00794")}
    assert not any("src" in attributes for attributes in reader.of("script"))
    assert not {"link", "iframe", "object"} & {tag for tag, _ in reader.elements}
    own = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert "@import" not in own
    assert re.findall(r"url\((?!#)", own) == []


def test_every_number_of_the_tables_is_on_the_page(folder, reader):
    text = "".join(reader.words).replace("\N{NO-BREAK SPACE}", " ")
    frame = pd.read_csv(folder / "tables" / "tables.csv")
    for cell in frame.itertuples():
        assert f"{cell.value:.1f} [{cell.low:.1f}, {cell.high:.1f}]" in text
        assert f"{cell.relative_flops:.2f}x" in text
        assert f"{cell.relative_total_time:.2f}x" in text
        assert f"{cell.samples:,} samples" in text
        if cell.difference == cell.difference:
            assert f"{cell.difference:+.1f}" in text
        if cell.paper == cell.paper:
            assert f"paper {cell.paper:.1f}" in text


def test_page_gives_the_data_its_losses_and_the_papers_side(project, reader):
    text = "".join(reader.words)
    assert "Of 15,000 rows of the source, 12,000 were requested and 10,970 are used" in " ".join(text.split())
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
    text = page.render([page.Part(results, builder.tables(), tradeoff.curves(results, builder.estimates))], {})
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_a_comparison_in_two_tables_counts_once():
    class Row:
        variant = "flip-75"
        cells = (Cell(FINE, 50, reference="flip-50", paper_difference=-1.4, verdict="contradicted"),)

    class Table:
        rows = (Row(),)

    counts = {"reproduced": 0, "same direction, other size": 0, "undecided": 0, "contradicted": 1}
    assert page.verdicts([Table(), Table()]) == counts
    Row.cells = (Cell(FINE, 50, reference="flip-50", verdict="one run"),)
    assert page.verdicts([Table()]) == {}, "the paper has no such difference"


def test_a_report_without_a_figure_says_nothing_of_one(tmp_path):
    """The systems' page has its own words, tables and variants, and neither figure nor the paper's set-up."""
    from flip.report.tables import write

    project = read_project("params.yaml", "tiny").of("systems")
    results = read_results(project, *write_world(tmp_path, project))
    write(results, tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    assert project.reports["systems"].question in text
    assert all(f"Table {name}: {table.title}" in text for name, table in project.tables.items())
    assert not any(
        word in text for word in ('id="systems-tradeoff"', 'id="systems-setup"', "arXiv 2212.00794</a>, Table 1")
    )
    assert not (tmp_path / "out" / "tradeoff.svg").exists()


def page_of(project, folder) -> Reader:
    from flip.report.tables import write

    write(read_results(project, *write_world(folder, project)), folder / "out")
    return Reader((folder / "out" / "index.html").read_text())


def test_images_are_part_of_the_page_and_say_what_they_show(tmp_path):
    """Of the systems: maps of each that has text, drawings of each that predicts pixels, what codes keep. Each once."""
    project = read_project("params.yaml", "tiny").of("systems")
    reader = page_of(project, tmp_path)
    chosen = [project.variants[name] for name in project.named]
    looking = [one.variant for one in chosen if one.aligned]
    drawing = [one.variant for one in chosen if one.reconstruction.weight or one.generative.pixels]
    assert {"mae", "m3ae", "mae-clip"} <= set(drawing)
    images = reader.of("img")
    alts = [image["alt"] for image in images]
    found = sum(alt.startswith("Captions, below each the 4 of 400 images") for alt in alts)
    assert 1 <= found <= 2, "the baseline's, and that of the best"
    assert len(images) == len(looking) + len(drawing) + 1 + found + SHOWN
    for name in looking:
        assert alts.count(f"Where {name} looks in 2 test images: a red star (hit), a <b> (miss).") == 1
    for name in drawing:
        assert sum(f"what {name} draws in place of the others: red star, " in alt for alt in alts) == 1
    for image in images:
        assert "loading" not in image, "on paper and in a screenshot there is no scrolling that would load it"
        content = b64decode(image["src"].removeprefix("data:image/webp;base64,"))
        assert len(content) < 60_000
        with Image.open(BytesIO(content)) as shown:
            assert shown.size == (int(image["width"]), int(image["height"]))
    text = " ".join("".join(reader.words).split())
    assert "75.0% of the codes are in use; perplexity 300 of 512; error 0.123 of the pixels' variance" in text
    assert "25% of the patches are seen" in text
    assert "Hits: 1 of these 2; " in text
    assert "Right at once: 5 of these 12; retrieval-image-r1 " in text
    assert "% of the set's 480, chance 12.3%." in text
    assert "Error on the removed patches of 512 test images: 0.43 of the variance." in text
    assert {"systems-reconstructions", "systems-tokenizer"} <= set(reader.ids)


def test_maps_stand_with_the_table_that_scores_them(tmp_path):
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
    reader = page_of(read_project("params.yaml", "tiny").of("siglip"), tmp_path)
    assert not any(image["alt"].startswith("Where") for image in reader.of("img"))
    assert not {"siglip-reconstructions", "siglip-tokenizer"} & set(reader.ids)


def test_a_sheet_that_is_missing_is_named(tmp_path):
    project = read_project("params.yaml", "tiny").of("siglip")
    places = write_world(tmp_path, project)
    (places[1] / "clip-short" / "seed-0" / "sheets" / "relevance-pointing.webp").unlink()
    found = read_results(project, *places)
    with pytest.raises(ValueError, match=r"relevance-pointing.webp: missing; run `snakemake"):
        _ = found.runs["clip-short"].sheets


def embedded(html, name):
    """What the page's script reads."""
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL)[1])


def test_every_number_has_its_provenance(project, html, reader):
    behind = embedded(html, "behind")
    cells = [button for button in reader.of("button") if button.get("class") == "cell"]
    assert len(cells) == sum(len(table.variants) * len(table.metrics) for table in project.tables.values())
    for cell in cells:
        run = dict(behind["runs"][cell["data-run"]])
        assert (run["Data manifest"], run["Weights (SHA-256)"]) == ("5e" * 32, "ab" * 32)
        assert (run["Commit"], run["Packages"]) == ("c0ffee", "torch 2.13.0")
        assert dict(behind["sets"][cell["data-set"]])["Its revision (SHA-256)"] == "00" * 32
        assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\], 95% interval over test images", cell["data-value"])
        differ = {key: values for key, *values in behind["differ"][cell["data-table"]][cell["data-run"]]}
        assert bool(differ) == (cell["data-run"] != behind["first"][cell["data-table"]])
    assert differ_of(behind, "a", "flip-50")["masking.image"] == ["0.5", "0.0"]
    assert set(differ_of(behind, "f", "flip-50-mae")) >= {"reconstruction.weight"}


def differ_of(behind, table, variant):
    return {key: values for key, *values in behind["differ"][table][variant]}


def test_figures_are_vega_lite_that_compiles_without_a_warning(html):
    import vl_convert

    specs = embedded(html, "charts")
    assert set(specs) == {f"ablations-{name}-chart" for name in ("tradeoff", "costs", "curves", "time")}
    for name, spec in specs.items():
        vega = vl_convert.vegalite_to_vega(spec)
        assert vega["marks"], name
        assert spec["description"]


def test_images_are_shown_with_their_captions_or_it_says_why_not(project, results, html, tmp_path):
    text = " ".join("".join(Reader(html).words).split())
    assert all(f"a <b>{item}</b> on grass" in text for item in range(12))
    assert "a <b>" not in html
    _, why = images.examples(tmp_path, results.manifest)
    assert "00000.index.npy: missing; `dvc checkout" in why
    assert images.examples(tmp_path, {"shards": []}) == ([], "the manifest names no shards")


def test_a_variant_without_a_gallery_is_named(project, results):
    for run in results.runs.values():
        run.metrics[0]["sheets"] = {}
    builder = Builder(results)
    text = page.render([page.Part(results, builder.tables(), {})], {})
    assert re.search(r"Not shown: clip\b.*`snakemake variant --config variant=clip` makes it", text)


def test_one_page_has_every_report_that_is_there_and_names_the_others(tmp_path):
    """Sheets of variants in several reports are on it once, scripts too."""
    whole_project = read_project("params.yaml", "tiny")
    data, results, receipts, cost = write_world(tmp_path, whole_project)
    for name in ("systems", "siglip"):
        (tmp_path / "tables" / name).mkdir(exist_ok=True)
        shutil.copy(cost, tmp_path / "tables" / name)
    words = ["--scale", "tiny", "--data", data, "--results", results, "--receipts", receipts, "--tables"]
    words += [tmp_path / "tables", "--out", tmp_path / "index.html", "--reports", "systems", "siglip", "languages"]
    whole.main([str(word) for word in words])
    html = (tmp_path / "index.html").read_text()
    reader = Reader(html)
    assert len(reader.ids) == len(set(reader.ids))
    assert {"systems", "siglip", "systems-costs", "siglip-costs", "table-sigmoid-bias"} <= set(reader.ids)
    sources = [image["src"] for image in reader.of("img")]
    alts = [image["alt"] for image in reader.of("img") if image["alt"].startswith(("Where", "Captions"))]
    assert len(alts) == len(set(alts)) > 5
    assert sources
    assert len(reader.of("script")) == 4
    text = " ".join("".join(reader.words).split())
    assert "ablations: not asked for; `snakemake ablations` makes its tables" in text
    assert re.search(r"languages: \S+: missing; run `snakemake", text)


def test_a_page_of_nothing_is_refused(tmp_path, capsys):
    words = ["--scale", "tiny", *(f"--{name}={tmp_path}" for name in ("data", "results", "receipts", "tables", "out"))]
    with pytest.raises(SystemExit, match="1"):
        whole.main(words)
    said = capsys.readouterr().err
    assert said.startswith("no report can be shown:\n  ablations: ")
    with pytest.raises(SystemExit, match="1"):
        whole.main([*words, "--reports", "ablation"])
    assert "--reports ablation: did you mean 'ablations'?" in capsys.readouterr().err
