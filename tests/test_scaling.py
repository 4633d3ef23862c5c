"""Scaling laws: an exact power law is found, and its interval covers the truth; runs held out do not move the fit; what
is saved to equal accuracy agrees with hand-made numbers; a report shows them; a larger model is the scale's."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from flip.config.consistency import BESIDE
from flip.config.faults import ParameterError
from flip.config.resolve import Project, read_project
from flip.report import scaling
from flip.report.cells import Builder
from flip.report.intervals import Estimate, estimates
from flip.report.results import read_results
from flip.report.scaling import FittedLaw, LawPoint, fit, interpolated
from flip.report.tables import write
from tests import results_world as world
from tests.test_page import Reader

FLOPS = np.array([1e12, 2e12, 4e12])


def exact(value, resamples=5):
    return Estimate(value, np.full(resamples, value))


def law_of(a, b, flops=FLOPS, held=(), label="law", time=1.0):
    made = [LawPoint(f"{label}-{x:g}", x, time * x / 1e12, exact(a * (x / 4e12) ** -b), True) for x in (*flops, *held)]
    return FittedLaw(label, 4e12, exact(a), exact(b), made[: len(flops)], made[len(flops) :])


def test_an_exact_power_law_is_found_for_a_value_and_for_resamples():
    a, b = np.array([[40.0, 35.0]]), np.array([[0.5, 0.25]])
    found = fit(FLOPS, a * (FLOPS[:, None] / 4e12) ** -b, 4e12)
    np.testing.assert_allclose(found, [a[0], b[0]], rtol=1e-12)


def test_the_interval_of_the_exponent_covers_the_truth():
    """Errors of 60, 42 and 30 %: b = 0.5; 120 draws of three test runs on 400 pictures."""
    random, truth, covered = np.random.default_rng(0), 30 * (FLOPS / 4e12) ** -0.5, 0
    for _ in range(120):
        right = {("v", str(n)): (random.random((1, 400)) > one / 100).astype(np.float32) for n, one in enumerate(truth)}
        found = estimates(right, f"{random.random()}", 300)
        errors = np.array([100 - found["v", str(n)].resampled for n in range(3)])
        low, high = np.quantile(fit(FLOPS, errors, 4e12)[1], [0.025, 0.975])
        covered += low <= 0.5 <= high
    assert 0.88 <= covered / 120 <= 1


def test_a_law_says_an_error_and_how_much_compute_an_error_takes():
    law = law_of(40.0, 0.5)
    assert law.error(1e12).value == pytest.approx(80)
    assert law.saving(4e12, exact(80.0)).value == pytest.approx(4)
    assert law.saving(4e12, exact(20.0)).value == pytest.approx(1 / 4)
    rising = law_of(40.0, -0.1)
    assert rising.saving(4e12, exact(20.0)).value == 0


def test_savings_by_interpolation_are_those_of_straight_lines():
    """Accuracy 30 at 4e12 against 20 at 1e12 and 40 at 2e12: there at 1.5e12."""
    base = [LawPoint("b", 4e12, 8.0, exact(70.0), True)]
    curve = [LawPoint("c", 1e12, 1.0, exact(80.0), True), LawPoint("d", 2e12, 2.0, exact(60.0), True)]
    assert interpolated(base, curve, "flops").value == pytest.approx(4 / 1.5)
    assert interpolated(base, curve, "time").value == pytest.approx(8 / 1.5)
    missed = interpolated([LawPoint("b", 4e12, 8.0, exact(50.0), True)], curve, "flops")
    assert missed.value == 0
    assert (missed.resampled == 0).all()


def test_half_the_compute_for_equal_errors_saves_half():
    (row,) = scaling.savings([law_of(40, 0.5), law_of(40 * 2**-0.5, 0.5, time=0.5)], 0.95)
    assert row["by_law"] == row["by_law_low"] == pytest.approx(2)
    assert row["flops"] == pytest.approx(2)
    assert row["time"] == pytest.approx(4)


def test_the_figure_and_the_files_are_made_of_one_summary():
    laws = [law_of(40.0, 0.5, held=[8e12]), law_of(30.0, 0.5, label="other")]
    facts = scaling.summary(laws, "fine", 0.95)
    for law, one in zip(laws, facts["laws"], strict=True):
        ends = [one["line"][place] for place in (0, -1)]
        assert [end["flops"] for end in ends] == pytest.approx([1e12, (law.held or law.fitted)[-1].flops])
        assert [end["predicted"] for end in ends] == pytest.approx([law.error(end["flops"]).value for end in ends])
    assert b">other<" in scaling.draw(facts, "svg")


def test_a_run_off_the_law_is_told_from_one_on_it():
    law = law_of(40.0, 0.5, held=[8e12])
    off = LawPoint("off", 8e12, 1.0, exact(50.0), False)
    rows = scaling.rows_of(FittedLaw(law.label, 4e12, law.a, law.b, law.fitted, [*law.held, off]), 0.95)
    assert [row["fitted"] for row in rows] == [True] * 3 + [False] * 2
    assert rows[-2]["off"] == pytest.approx(0, abs=1e-9)
    assert not rows[-1]["within_noise"]
    assert rows[-1]["off"] == pytest.approx(50 - 40 * 2**-0.5)


# A report.


@pytest.fixture(scope="module")
def part(project):
    """The laws of the real report, with fewer runs held out, and one table."""
    tree = yaml.safe_load(yaml.safe_dump(project.of("scaling").tree))
    laws = tree["reports"]["scaling"]["scaling"]["laws"]
    for law in laws.values():
        law["held_out"] = law["held_out"][:2]
    runs = [name for law in laws.values() for name in (*law["fitted"], *law["held_out"])]
    tree["tables"] = {"schedules": tree["tables"]["schedules"] | {"variants": runs}}
    tree["base"]["bootstrap"]["resamples"] = 200
    return Project(tree, "tiny")


@pytest.fixture(scope="module")
def folder(part, tmp_path_factory):
    root = tmp_path_factory.mktemp("scaling")
    write(read_results(part, *world.write_world(root, part)), root / "out")
    return root


def test_files_and_page_have_every_run_of_every_law(part, folder):
    files = {path.stem for path in (folder / "out").iterdir() if path.suffix in (".csv", ".parquet", ".tex", ".md")}
    assert files - part.tables.keys() <= BESIDE  # or a table might overwrite one
    facts = json.loads((folder / "out" / "scaling.json").read_text())
    laws = part.reports["scaling"].scaling.laws
    names = [(label, name) for label, law in laws.items() for name in (*law.fitted, *law.held_out)]
    assert [(row["law"], row["variant"]) for row in facts["points"]] == names
    assert [law["label"] for law in facts["laws"]] == list(laws)
    assert [row["label"] for row in facts["savings"]] == list(laws)[1:]
    frame = pd.read_csv(folder / "out" / "figure-scaling.csv")
    assert frame.variant.tolist() == [name for _, name in names]
    assert {kind for kind in ("svg", "png") if (folder / "out" / f"scaling.{kind}").exists()} == {"svg", "png"}
    text = (folder / "out" / "index.html").read_text()
    reader = Reader(text)
    assert "scaling" in reader.ids
    words = "".join(reader.words)
    for row in facts["points"]:
        assert f"{row['error']:.1f}" in words
        assert f"{row['predicted']:.1f}" in words


def test_markdown_says_what_the_page_says(part, folder):
    facts, out = json.loads((folder / "out" / "scaling.json").read_text()), folder / "out"
    text, page = (
        (out / "scaling-laws.md").read_text(),
        " ".join("".join(Reader((out / "index.html").read_text()).words).split()),
    )
    assert all(row["within_noise"] is None for row in facts["points"]), "of one run"
    rows = [line for line in text.splitlines() if line.startswith("| **")]
    assert [row.split("**")[1] for row in rows] == [row["variant"] for row in facts["points"]]
    for row, line in zip(facts["points"], rows, strict=True):
        assert f"{row['off']:+.1f} [{row['off_low']:+.1f}, {row['off_high']:+.1f}]" in line
    said = [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")]
    assert len(said) == len(facts["laws"]) + len(facts["savings"])
    for sentence in said:
        assert sentence in page


def test_runs_held_out_do_not_move_the_fit(part, folder):
    places = [folder / name for name in ("data", "results", "receipts", "tables/cost.json")]
    results = read_results(part, *places)
    found = Builder(results).estimates
    tree = yaml.safe_load(yaml.safe_dump(part.tree))
    for law in tree["reports"]["scaling"]["scaling"]["laws"].values():
        law["held_out"] = law["held_out"][1:]
    fewer = scaling.laws(replace(results, project=Project(tree, "tiny")), found)
    for law, other in zip(scaling.laws(results, found), fewer, strict=True):
        assert (law.a.value, law.b.value) == (other.a.value, other.b.value)
        assert np.array_equal(law.b.resampled, other.b.resampled)
        assert len(other.held) == len(law.held) - 1


def test_a_report_without_laws_says_nothing_of_them(project):
    results = type("Results", (), {"project": project.of("ablations")})
    assert scaling.laws(results, {}) == []
    assert scaling.summarized(results, {}) is None
    assert scaling.section(None) == ""


# params.yaml.


def test_a_law_of_runs_that_no_table_has_is_refused(part):
    tree = yaml.safe_load(yaml.safe_dump(part.tree))
    tree["reports"]["scaling"]["scaling"]["laws"]["mask 0%"]["held_out"] = ["flip-75"]
    with pytest.raises(ParameterError, match=r"reports.scaling.scaling.laws.mask 0%: no table .* row 'flip-75'"):
        Project(tree, "tiny").check()
    tree["reports"]["scaling"]["scaling"]["laws"]["mask 0%"] = {"fitted": ["clip"], "held_out": ["clip-half"]}
    with pytest.raises(ParameterError, match="at least 3"):
        Project(tree, "tiny").check()


@pytest.mark.parametrize(("scale", "name"), [("tiny", "tiny-large"), ("cc12m", "l16"), ("laion400m", "h14")])
def test_a_larger_model_is_the_one_of_its_scale(scale, name):
    project = read_project("params.yaml", scale)
    found, base = project.resolve("clip-larger"), project.resolve("clip-short")
    assert found.model.vision.model_dump() == project.tree["models"][name]["vision"]
    assert found.model.vision.width > base.model.vision.width
    assert found.train == base.train


def test_which_model_is_larger_is_for_a_scale_to_say(project):
    tree = project.tree | {"variants": project.tree["variants"] | {"mine": {"larger": "b16", "model": "larger"}}}
    with pytest.raises(ParameterError, match="larger belongs to the whole scale"):
        Project(tree, "tiny").resolve("mine")
    unknown = project.tree | {"scales": {"tiny": project.tree["scales"]["tiny"] | {"larger": "b17"}}}
    with pytest.raises(ParameterError, match="unknown model 'b17'"):
        Project(unknown, "tiny").resolve("clip-larger")
