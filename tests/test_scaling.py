"""Scaling laws: known exponents and forms are found; intervals hold held-out runs as often as they say; what the page
says follows from the runs; what is saved to equal accuracy agrees with hand-made numbers; too few runs are refused."""

import json
import shutil
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
from flip.report.intervals import Estimate, Spread
from flip.report.laws import FORMS, FittedLaw, LawCurve, LawNoise, LawPoint, choose, fit, left_out, noise
from flip.report.results import read_results
from flip.report.scaling import headline, interpolated, sentences
from flip.report.tables import write
from flip.report.verdicts import ONE_RUN, UNDECIDED
from tests import results_world as world
from tests.simulated_laws import ODDS, ODDS_FLOOR, ODDS_LAW, POWER, POWER_FLOOR, POWER_LAW
from tests.test_page import Reader

FLOPS = np.geomspace(1e12, 16e12, 5)
SEEDS = Spread(between=4.0, interaction=1.0, freedom=40)


def exact(value, resamples=200):
    return Estimate(value, np.full(resamples, float(value)))


def curve(errors, label="law", held=(), flops=FLOPS, time=1.0, seeds=3, model=True):
    """Runs of errors [runs] at FLOPS, and held-out ones [(flops, error)]."""
    runs = [
        LawPoint(f"{label}-{x:g}", x, time * x / 1e12, exact(error), seeds, model or number < len(errors))
        for number, (x, error) in enumerate([*zip(flops, errors, strict=True), *held])
    ]
    return LawCurve(label, 16e12, runs[: len(errors)], runs[len(errors) :])


def errors(form, *parameters, flops=FLOPS):
    return form.error(np.log(np.asarray(flops) / 16e12), *parameters)


def law_of(errors, form=POWER, spread=SEEDS, **more) -> FittedLaw:
    return fit([curve(errors, **more)], form, spread)[0]


# Forms and fits.

KNOWN = [
    (POWER, (-1.5, 0.4)),
    (ODDS, (-1.6, 0.9)),
    (POWER_FLOOR, (-2.5, 0.8, -2.0)),
    (ODDS_FLOOR, (-2.6, 1.4, -2.0)),
]


@pytest.mark.parametrize(("form", "parameters"), KNOWN, ids=lambda one: getattr(one, "name", ""))
def test_the_parameters_of_exact_runs_are_found(form, parameters):
    np.testing.assert_allclose(law_of(errors(form, *parameters), form).parameters, parameters, rtol=1e-5)


@pytest.mark.parametrize(("form", "parameters"), KNOWN, ids=lambda one: getattr(one, "name", ""))
def test_the_form_of_exact_runs_is_chosen(form, parameters):
    """Where a simpler form is exact, too, it is the one."""
    assert choose([curve(errors(form, *parameters))])[0] == form


@pytest.mark.parametrize(("form", "parameters"), KNOWN, ids=lambda one: getattr(one, "name", ""))
def test_gradient_and_inverse_are_those_of_the_error(form, parameters):
    x, step = np.log(FLOPS / 16e12), 1e-6
    for number in range(form.parameters):
        up, down = (np.add(parameters, sign * step * (np.arange(form.parameters) == number)) for sign in (1, -1))
        slope = (form.error(x, *up) - form.error(x, *down)) / (2 * step)
        np.testing.assert_allclose(form.gradient(x, *parameters)[:, number], slope, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(form.inverse(form.error(x, *parameters), *parameters), x, atol=1e-9)


def test_held_out_runs_have_no_say_in_form_and_law():
    said, moved = (curve(errors(ODDS, -1.6, 0.9), held=[(32e12, error)]) for error in (10.0, 60.0))
    assert choose([said]) == choose([moved])
    np.testing.assert_array_equal(fit([said], ODDS, SEEDS)[0].parameters, fit([moved], ODDS, SEEDS)[0].parameters)


def test_a_run_that_is_left_out_does_not_move_its_own_prediction():
    values = errors(POWER, -1.5, 0.4)
    values[2] += 7
    assert left_out(POWER, curve(values))[2] == pytest.approx(49, rel=1e-4)


# What chance does.


def test_residuals_within_the_spread_of_seeds_leave_it_as_it_is():
    """Variance 4 between seeds. Residuals of +-1 say less; of +-4, with 3 degrees of freedom, 80 / 3."""
    ones = np.array([1.0, -1, 1, -1, 1])
    assert noise(ones, 3, SEEDS) == LawNoise(4.0, 1.0, 40)
    assert noise(4 * ones, 3, SEEDS) == LawNoise(4.0, pytest.approx(80 / 12), 3)
    assert noise(4 * ones, 3, SEEDS).variance == pytest.approx(80 / 3)


def test_without_several_seeds_residuals_are_all_that_is_known():
    found = noise(np.array([2.0, -2, 2, -2, 2]), 3, Spread(0.0, 0.0, 0))
    assert (found.variance, found.misfit, found.freedom) == (pytest.approx(20 / 3), pytest.approx(20 / 3), 3)


def test_a_prediction_adds_its_own_seeds_to_the_fit():
    """Errors that do not depend on compute, but for the fit: at the middle of the fitted runs, 4 x (1/3 + 1/15)."""
    law = law_of(np.full(5, 50.0), ODDS)
    assert law.predict(4e12, 3).error == pytest.approx((4 * (1 / 3 + 1 / 15)) ** 0.5)
    assert law.predict(4e12, 1).error == pytest.approx((4 * (1 + 1 / 15)) ** 0.5)
    beyond = [law.predict(flops, 3).error for flops in (4e12, 16e12, 32e12, 64e12)]
    assert beyond == sorted(beyond)
    assert law.predict(32e12, 3).freedom == SEEDS.freedom


@pytest.mark.parametrize(
    ("case", "chosen"),
    [(replace(ODDS_LAW, spread=3.0), False), (replace(POWER_LAW, runs=7), True)],
    ids=["odds, 5 runs, form given", "power law, 7 runs, form chosen"],
)
def test_intervals_hold_held_out_runs_and_exponents(case, chosen):
    """As often as they say; python -m tests.simulated_laws has more cases."""
    beyond, among, exponent = case.coverage(80, chosen)
    assert 92 <= (beyond + among) / 2 <= 99
    assert 90 <= exponent <= 99


def test_intervals_of_runs_without_misfit_miss_runs_with_it():
    """Else coverage above would say nothing: runs 6 points off their law, intervals of the seeds' spread alone."""
    off, held = replace(ODDS_LAW, misfit=6.0), []
    for number in range(40):
        for law in off.laws(number, False):
            blind = replace(law, noise=LawNoise(law.noise.seeds, 1.0, 40))
            for point in law.curve.held:
                low, high = blind.predict(point.flops, 3).interval(0.95)
                held.append(low <= point.error.value <= high)
    assert np.mean(held) < 0.6


# What is said.


def test_a_law_says_how_much_compute_an_error_takes():
    law = law_of(errors(POWER, np.log(0.2), 0.5))
    assert law.saving(16e12, exact(40.0)).value == pytest.approx(4)
    assert law.saving(16e12, exact(10.0)).value == pytest.approx(1 / 4)
    assert law_of(errors(POWER, np.log(0.2), -0.1)).saving(16e12, exact(20.0)).value == 0
    above = law_of(errors(POWER_FLOOR, -2.5, 0.8, -2.0), POWER_FLOOR)
    assert above.irreducible.value == pytest.approx(100 / (1 + np.exp(2)), rel=1e-4)
    assert above.saving(16e12, exact(11.0)).value == 0, "below what is irreducible"


def test_savings_by_interpolation_are_those_of_straight_lines():
    """Accuracy 30 at 4e12 against 20 at 1e12 and 40 at 2e12: there at 1.5e12."""
    base = [LawPoint("b", 4e12, 8.0, exact(70.0), 3, True)]
    curve = [LawPoint("c", 1e12, 1.0, exact(80.0), 3, True), LawPoint("d", 2e12, 2.0, exact(60.0), 3, True)]
    assert interpolated(base, curve, "flops").value == pytest.approx(4 / 1.5)
    assert interpolated(base, curve, "time").value == pytest.approx(8 / 1.5)
    missed = interpolated([LawPoint("b", 4e12, 8.0, exact(50.0), 3, True)], curve, "flops")
    assert missed.value == 0
    assert (missed.resampled == 0).all()


def test_half_the_compute_for_equal_errors_saves_half():
    said = errors(POWER, np.log(0.2), 0.5)
    laws = fit([curve(said), curve(said, "other", flops=FLOPS / 2, time=0.5)], POWER, SEEDS)
    (row,) = scaling.savings(laws, 0.95)
    assert row["by_law"] == pytest.approx(2)
    assert row["flops"] == pytest.approx(2)
    assert row["time"] == pytest.approx(4)


def facts_of(*curves, spread=SEEDS, form=ODDS):
    return scaling.summary(fit(curves, form, spread), "fine", 0.95, {form.name: 1.0})


def said_of(facts):
    return [" ".join(one.striptags().split()) for one in sentences(facts)]


def test_the_headline_follows_from_the_held_out_runs():
    """At twice the compute the law says 9.8 %; with the spread of seeds, a run of 20 % is none of its."""
    values, (on,) = errors(ODDS, -1.6, 0.9), errors(ODDS, -1.6, 0.9, flops=[32e12])
    both = facts_of(curve(values, held=[(32e12, on), (3e12, errors(ODDS, -1.6, 0.9, flops=[3e12])[0])]))
    assert [row["verdict"] for row in both["points"]] == [None] * 5 + ["inside", "inside"]
    assert [row["extrapolated"] for row in both["points"]] == [False] * 5 + [True, False]
    assert said_of(both)[0] == "All 2 held-out runs lie within their 95% prediction intervals."
    moved = facts_of(curve(values, held=[(32e12, on + 10), (3e12, errors(ODDS, -1.6, 0.9, flops=[3e12])[0])]))
    assert [row["verdict"] for row in moved["points"]] == [None] * 5 + ["outside", "inside"]
    assert said_of(moved)[0] == (
        "1 of 2 held-out runs lie within their 95% prediction intervals; the law of law does not predict law-3.2e+13."
    )
    assert moved["points"][5]["off"] == pytest.approx(10, abs=1e-3)


def test_a_larger_model_that_the_law_does_not_predict_is_named_so():
    facts = facts_of(curve(errors(ODDS, -1.6, 0.9), held=[(16e12, 60.0)], model=False))
    assert "0 of 1 held-out run lies" in said_of(facts)[0]
    assert "does not predict law-1.6e+13 (larger model)." in said_of(facts)[0]


def test_one_run_concludes_nothing():
    facts = facts_of(curve(errors(ODDS, -1.6, 0.9), held=[(32e12, 90.0)], seeds=1), spread=Spread(0.0, 0.0, 0))
    assert facts["points"][-1]["verdict"] == ONE_RUN
    assert headline(facts) == {"judged": 0, "inside": 0, "one_run": 1, "outside": {}}
    assert said_of(facts)[0].startswith("It is unknown whether the laws predict held-out runs")
    assert said_of(facts)[2].endswith("(one run).")


def test_exponents_differ_or_it_is_undecided():
    """Exponents of 0.6 and 1.2: runs that are 0.1 points off a form tell them apart, runs that are 30 off do not."""
    laws = fit([curve(errors(ODDS, -1.6, b), label=f"b {b}") for b in (0.6, 1.2)], ODDS, SEEDS)
    found = {}
    for off in (0.1, 30.0):
        (found[off],) = scaling.exponents([replace(law, noise=LawNoise(0.0, off**2, 6)) for law in laws], 0.95)
        assert (found[off]["label"], found[off]["baseline"]) == ("b 1.2", "b 0.6")
        assert found[off]["difference"] == pytest.approx(0.6, abs=1e-4)
    assert [one["verdict"] for one in found.values()] == ["differ", UNDECIDED]


def test_the_figure_and_the_files_are_made_of_one_summary():
    runs = curve(errors(ODDS, -1.6, 0.9), held=[(32e12, 9.0)]), curve(errors(ODDS, -2.0, 0.9), "other")
    facts = facts_of(*runs)
    for law, one in zip(fit(runs, ODDS, SEEDS), facts["laws"], strict=True):
        ends = [one["line"][place] for place in (0, -1)]
        assert [end["flops"] for end in ends] == pytest.approx([1e12, (law.curve.held or law.curve.fitted)[-1].flops])
        assert [end["predicted"] for end in ends] == pytest.approx([law.predict(end["flops"], 3).value for end in ends])
    assert b">other<" in scaling.draw(facts, "svg")


# A report.


@pytest.fixture(scope="module")
def part(project):
    """The laws of the real report, with fewer runs held out, and one table."""
    tree = yaml.safe_load(yaml.safe_dump(project.of("scaling").tree))
    laws = tree["reports"]["scaling"]["scaling"]["laws"]
    for law in laws.values():
        law["held_out"] = law["held_out"][1:3]
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
    assert [row["label"] for row in facts["exponents"]] == list(laws)[1:]
    assert set(facts["left_out"]) == {form.name for form in FORMS}
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
    assert all(row["verdict"] == (None if row["fitted"] else ONE_RUN) for row in facts["points"])
    rows = [line for line in text.splitlines() if line.startswith("| **")]
    assert [row.split("**")[1] for row in rows] == [row["variant"] for row in facts["points"]]
    for row, line in zip(facts["points"], rows, strict=True):
        assert f"{row['predicted']:.1f} [{row['predicted_low']:.1f}, {row['predicted_high']:.1f}]" in line
        assert line.endswith(f"| {row['off']:+.1f} | {row['verdict'] or ''} |")
    said = [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")]
    assert len(said) == 1 + len(facts["laws"]) + len(facts["exponents"]) + len(facts["savings"])
    (first,) = [line.strip("*") for line in text.splitlines() if line.startswith("**")]
    assert "unknown" in first
    for sentence in [first, *said]:
        assert sentence in page


def test_several_seeds_give_verdicts(part, tmp_path):
    """Of the same report with three seeds, whose spread is then known."""
    tree = yaml.safe_load(yaml.safe_dump(part.tree))
    tree["base"]["seeds"] = [0, 1, 2]
    more = Project(tree, "tiny")
    results = read_results(more, *world.write_world(tmp_path, more))
    facts = scaling.summarized(results, Builder(results).estimates)
    assert facts["seeds_sd"] > 0
    assert {row["verdict"] for row in facts["points"] if not row["fitted"]} <= {"inside", "outside"}
    count = headline(facts)
    assert count["inside"] + sum(map(len, count["outside"].values())) == count["judged"] == 4


def test_a_report_without_laws_says_nothing_of_them(project):
    results = type("Results", (), {"project": project.of("ablations")})
    assert scaling.summarized(results, {}) is None
    assert scaling.section(None) == ""


# params.yaml.


def test_a_law_of_runs_that_no_table_has_is_refused(part):
    tree = yaml.safe_load(yaml.safe_dump(part.tree))
    tree["reports"]["scaling"]["scaling"]["laws"]["mask 0%"]["held_out"] = ["flip-75"]
    with pytest.raises(ParameterError, match=r"reports.scaling.scaling.laws.mask 0%: no table .* row 'flip-75'"):
        Project(tree, "tiny").check()


@pytest.mark.parametrize("count", [1, 4])
def test_a_law_of_fewer_than_five_runs_is_refused(tmp_path, project, count):
    """In one line: the file, the curve, how many runs it has, how many are needed."""
    shutil.copytree("configs", tmp_path / "configs")
    shutil.copy("params.yaml", tmp_path)
    report = tmp_path / "configs/reports/scaling.yaml"
    content = yaml.safe_load(report.read_text())
    law = content["scaling"]["laws"]["mask 50%"]
    law["fitted"] = law["fitted"][:count]
    report.write_text(yaml.safe_dump(content))
    with pytest.raises(ParameterError) as refused:
        read_project(tmp_path / "params.yaml", "tiny").check()
    assert str(refused.value).count("\n") == 0
    said = "1 run " if count == 1 else "4 runs "
    for words in ("configs/reports/scaling.yaml", "mask 50%", said, "at least 5", f"name {5 - count} more"):
        assert words in str(refused.value)


def test_each_law_of_tiny_has_runs_spread_evenly_and_others_inside_and_beyond():
    found = read_project("params.yaml", "tiny")
    for law in found.of("scaling").reports["scaling"].scaling.laws.values():
        train = {name: found.variants[name].train for name in (*law.fitted, *law.held_out)}
        epochs = [train[name].total_epochs for name in law.fitted]
        assert epochs == sorted(epochs)
        assert np.ptp(np.diff(np.log(epochs))) < 0.01
        held = [train[name].total_epochs for name in law.held_out]
        assert any(one > epochs[-1] for one in held)
        assert any(epochs[0] < one < epochs[-1] for one in held)
        for one in train.values():
            assert one.warmup <= 0.2 * one.total_epochs * 14331 + 1, "the rate falls for most of the training"


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
