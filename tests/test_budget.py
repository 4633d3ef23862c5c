"""What is best for a number of GPU-hours follows from what has been measured, and from nothing else."""

import csv
import json

import pytest

from flip.config.faults import ParameterError
from flip.files import write_atomic, write_json
from flip.plan.budget import MeasuredRuns
from flip.plan.facts import find_gpu
from flip.provenance.layout import Layout
from tests.commands import flip
from tests.miniature import ROOT

SAMPLES, FLOPS = 1000, 10.0**12  # of the baseline, per sample
SHARE = 0.5  # of the GPU's rate
FIELDS = ["table", "variant", "metric", "value", "low", "high", "relative_total_flops", "relative_total_time"]
FIELDS += ["samples", "seeds", "manifest", "test_sha256"]


@pytest.fixture
def report(tmp_path, monkeypatch):
    """report({variant: (accuracy, total FLOPs over the first one's)}): the files that a report leaves."""
    monkeypatch.chdir(tmp_path)

    def written(rows, name="ablations", device="cpu", manifest="m", **more):
        found = []
        for variant, (value, flops) in rows.items():
            row = {
                "table": "a",
                "variant": variant,
                "metric": "fine",
                "value": value,
                "low": value - 1,
                "high": value + 1,
            }
            row |= {"relative_total_flops": flops, "relative_total_time": 2 * flops, "samples": int(SAMPLES * flops)}
            found.append(row | {"seeds": "0 1 2", "manifest": manifest, "test_sha256": "t"} | more)
        path = tmp_path / Layout("tiny").report(name) / "tables.csv"
        write_atomic(path, "")
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(found)
        one = {"flops_per_sample": FLOPS, "seconds_per_sample": 7.2}
        write_json(path.with_name("cost.json"), {"device": device, "variants": dict.fromkeys(rows, one)})

    return written


def measured(project, gpu="h100"):
    return MeasuredRuns(project, find_gpu(gpu), SHARE)


def test_hours_are_those_of_the_flops_or_what_was_measured_on_this_gpu(report, project):
    report({"clip": (50.0, 1.0), "clip-half": (45.0, 0.5)})
    runs, gpu = measured(project).runs, find_gpu("h100")
    expected = SAMPLES * FLOPS / (SHARE * gpu.rate(project.baseline.train.products)) / 3600
    assert runs["clip"].hours == pytest.approx(expected)
    assert runs["clip-half"].hours == pytest.approx(expected / 2)
    report({"clip": (50.0, 1.0)}, device=gpu.device)
    assert measured(project).runs["clip"].hours == pytest.approx(2 * 7.2 * SAMPLES / 3600)


def test_runs_that_differ_in_their_schedule_alone_are_one_curve(report, project):
    names = ["clip", "clip-half", "flip-50", "flip-50-half", "flip-50-small-batch", "flip-50-tuned", "resize-75"]
    report({name: (50.0, 1 + number) for number, name in enumerate(names)})
    curves = [[run.variant for run in runs] for runs in measured(project).curves]
    assert sorted(curves) == sorted(
        [["clip", "clip-half"], ["flip-50", "flip-50-half"], *([name] for name in names[4:])]
    )


def test_between_two_runs_accuracy_is_interpolated_and_beyond_them_the_longest_stands(report, project):
    report({"clip-half": (40.0, 1.0), "clip": (50.0, 4.0), "flip-50": (47.0, 2.0)})
    found = measured(project)
    hours = found.runs["clip-half"].hours
    first, second = found.choices(2 * hours)  # halfway between the logarithms of 1 and 4
    assert (first.like, first.accuracy, first.way, first.runs) == ("flip-50", 47.0, "its longest run", {"flip-50": 3})
    assert (second.like, second.way, second.runs) == ("clip-half", "interpolated", {"clip-half": 3, "clip": 3})
    assert second.accuracy == pytest.approx(45.0)
    assert second.schedule == pytest.approx(2.0)
    assert second.low < 45 < second.high
    first, second = found.choices(8 * hours)
    assert (first.like, first.accuracy, first.hours) == ("clip", 50.0, pytest.approx(4 * hours))
    assert [one.like for one in found.choices(hours)] == ["clip-half"]


def test_a_curve_of_five_runs_has_a_law(report, project):
    """Errors of 60 % x compute^-0.2 are continued exactly."""
    names = ["clip-sixteenth", "clip-eighth", "clip-short", "clip-half", "clip"]
    report({name: (100 - 60 * (2.0**number) ** -0.2, 2.0**number) for number, name in enumerate(names)})
    found = measured(project)
    (only,) = found.choices(4 * found.runs["clip"].hours)
    assert only.accuracy == pytest.approx(100 - 60 * 64**-0.2, abs=0.1)
    assert only.schedule == pytest.approx(4)
    assert only.way == "power law"
    assert only.runs == dict.fromkeys(names, 3)
    assert only.low <= only.accuracy <= only.high


def test_a_budget_far_from_all_runs_and_other_data_are_refused(report, project):
    report({"clip": (50.0, 1.0)})
    found = measured(project)
    for hours in (found.runs["clip"].hours / 2, 20 * found.runs["clip"].hours):
        with pytest.raises(ParameterError, match=r"are measured from .* GPU-hours; name a budget up"):
            found.choices(hours)
    report({"flip-50": (50.0, 1.0)}, name="systems", manifest="other")
    with pytest.raises(ParameterError, match="ablations, clip and systems, flip-50 were trained or tested on"):
        measured(project)


def test_the_command_prints_a_table_and_json_and_refuses_where_nothing_is_measured(report, project, capsys):
    plan = ["plan", "--params", ROOT / "params.yaml", "--scale", "tiny", "--budget"]
    flip(*plan, 1, code=1)
    assert "no run is measured at scale 'tiny'" in capsys.readouterr().err
    report({"clip-half": (40.0, 1.0), "clip": (50.0, 4.0), "flip-50": (51.5, 4.0)})
    words = [*plan, repr(measured(project).runs["clip"].hours), "--utilization", str(SHARE)]
    flip(*words)
    shown = capsys.readouterr().out
    assert "flip-50 x 1" in shown
    assert "no significant difference from the first: clip" in shown
    flip(*words, "--json")
    assert [one["like"] for one in json.loads(capsys.readouterr().out)] == ["flip-50", "clip"]
