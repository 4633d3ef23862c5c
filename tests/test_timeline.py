"""Where the time went: hand-made receipts give stages, jobs side by side and pauses; what was made on another day, was
killed and continued, or has lost its receipt makes no chart of days."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import vl_convert

from flip.provenance.receipt import save
from flip.report import charts, formats, vega
from flip.report.timeline import TimedJob, Timeline, jobs, total

BEGAN = datetime(2026, 11, 24, 9, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def timeline(*spans) -> Timeline:
    return Timeline(sorted(TimedJob(at(start), at(end), stage, f"{stage}-{start}") for start, end, stage in spans))


@pytest.fixture
def three_days():
    """Two jobs beside each other, one after 20 s, two of the day after next, of which the last ends first."""
    later = 2 * 86400
    spans = [(0, 100, "a"), (40, 130, "b"), (150, 200, "a"), (later, later + 500, "c"), (later + 10, later + 20, "a")]
    return timeline(*spans)


def test_what_ran_and_what_did_not_add_up(three_days):
    found = three_days
    assert [one.seconds for one in found.gaps] == [20]
    assert [one.seconds for one in found.pauses] == [2 * 86400 - 200]
    assert (found.busy, found.work) == (130 + 50 + 500, 100 + 90 + 50 + 500 + 10)
    assert found.passed == found.busy + total(found.idle) == 2 * 86400 + 500


def test_a_figure_has_jobs_where_they_ran_without_the_pauses(three_days):
    rows = three_days.job_records()
    assert [row["place"] for row in rows] == [0, 40, 150, 200, 210]
    assert [row["lane"] for row in rows] == [0, 1, 0, 0, 1]
    assert [row["offset"] for row in rows][-1] == 2 * 86400 + 10


def test_stages_are_summed_the_longest_first(three_days):
    rows = three_days.stage_records()
    assert [(row["stage"], row["jobs"], row["seconds"], row["longest"]) for row in rows] == [
        ("c", 1, 500, 500),
        ("a", 3, 160, 100),
        ("b", 1, 90, 90),
    ]
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-3)


def test_seconds_are_those_of_a_slow_count():
    """Random jobs against a count second by second; no lane ever holds two jobs at once."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        starts, lengths = rng.integers(0, 400, 12), rng.integers(0, 60, 12)
        found = timeline(*((int(s), int(s + d), "a") for s, d in zip(starts, lengths, strict=True)))
        ran = np.zeros((12, 460), bool)
        for row, one in enumerate(found.jobs):
            ran[row, int((one.start - BEGAN).seconds) : int((one.end - BEGAN).seconds)] = True
        assert found.busy == ran.any(0).sum()
        assert found.work == ran.sum()
        assert 1 + max(found.lanes) >= ran.sum(0).max()
        for lane in set(found.lanes):
            assert ran[np.array(found.lanes) == lane].sum(0).max() <= 1


def receipt(path, stage, after, start, end, **facts):
    made_from = {"after": {str(one): "id" for one in after}}
    times = {"start": at(start).isoformat(), "end": at(end).isoformat()}
    save(path, {"spec": {"stage": stage}, "made_from": made_from, "facts": facts} | times)


def test_jobs_are_those_behind_a_receipt_each_once(tmp_path):
    data, trained, measured = (tmp_path / f"{name}.json" for name in ("data/manifest", "a/pretrain", "a/evaluate"))
    receipt(data, "manifest", [tmp_path / "data/lost.json"], 0, 10)
    receipt(trained, "pretrain", [data], 10, 70, training={"seconds": 200.0})
    receipt(measured, "evaluate", [data, trained], 70, 80)
    receipt(tmp_path / "other/pretrain.json", "pretrain", [data], 10, 70)
    found = jobs([measured, trained, tmp_path / "no.json"], tmp_path)
    assert [(one.stage, one.name, one.seconds) for one in found] == [
        ("manifest", "data/manifest", 10),
        ("pretrain", "a/pretrain", 60),
        ("evaluate", "a/evaluate", 10),
    ]
    assert Timeline(found).earlier == 140, "what had been trained before the job was killed"
    assert jobs([tmp_path / "no.json"], tmp_path) == []


def test_a_pause_is_written_at_its_place_unless_a_longer_one_is_near(three_days):
    spec = charts.timeline(three_days)
    (mark,) = spec["layer"][1]["data"]["values"]
    assert (mark["at"] * 60, mark["pause"], mark["label"]) == (200, "47 h 57 min", "47 h 57 min")
    near = timeline((0, 80, "a"), (160, 165, "a"), (400, 480, "a"))
    found = charts.pause_records(near, end=165, unit=1)
    assert [(mark["at"], mark["label"], mark["side"]) for mark in found] == [
        (85, "3 min 55 s", "right"),
        (80, "", "right"),
    ]
    (early,) = charts.pause_records(timeline((0, 10, "a"), (100, 190, "a")), end=100, unit=1)
    assert (early["label"], early["side"]) == ("1 min 30 s", "left")


def test_the_still_figure_has_every_job_and_is_the_same_each_time(three_days):
    spec = charts.timeline(three_days)
    assert spec["height"] == 2 * charts.timeline(timeline((0, 10, "a"), (20, 30, "a")))["height"], "two lanes, and one"
    assert vega.still(spec) == (svg := vega.still(spec))
    assert svg.decode().count('aria-roledescription="bar"') == 5
    assert vl_convert.vegalite_to_vega(spec)["marks"]
    assert charts.timeline(None) == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.25, "0.25 s"), (59.6, "1 min"), (725, "12 min 5 s"), (3599.8, "1 h"), (109924, "30 h 32 min")],
)
def test_durations_are_said_in_two_units_at_most(seconds, text):
    assert formats.duration(seconds) == text
