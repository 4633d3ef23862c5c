"""Benchmarks compare what is equal, by turns and in processes of their own; a target is met or not by the median of the
rounds' ratios, and what cannot be measured is a row that says why."""

import time

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import order, products, rehearse
from benchmarks.harness import Form, Missing, measure, peer, same
from benchmarks.table import MARKS, Row, against, alone, attempt, cells, main, markdown, publish, restored, stored
from flip.config.resolve import read_project
from flip.files import read_json, write_json
from flip.train.work import changed
from tests.miniature import ROOT

pytestmark = pytest.mark.long(4)


def sleeper(seconds: float, size: int):
    return lambda: (time.sleep(seconds), b"x" * size)


def broken():
    raise Missing("no such peer")


def test_forms_are_measured_in_processes_of_their_own():
    forms = {"slow": Form(sleeper, (0.05, 0), clock="wall"), "large": Form(sleeper, (0.01, 1 << 26), clock="wall")}
    found = measure(forms, 3)
    assert [len(one.seconds) for one in found.values()] == [3, 3]
    assert all(0.05 <= one < 1 for one in found["slow"].seconds)
    assert found["large"].rise > 1 << 25 > found["slow"].rise
    with pytest.raises(Missing, match="no such peer"):
        measure({"broken": Form(broken)}, 1)


def builder(size: int):
    torch.ones(4 * size)
    return lambda: torch.ones(size)


def test_memory_is_the_runs_and_not_what_building_has_left():
    found = measure({"keeps": Form(builder, (1 << 24,), keep=True), "gives back": Form(builder, (1 << 24,))}, 1)
    assert all(1 << 25 < one.rise < 1 << 27 for one in found.values())


def test_a_ratio_is_the_median_of_the_rounds():
    row = against("a", "s", [1, 1, 2], "b", [2, 4, 6], at_least=3)
    assert (row.ours, row.peer, row.ratio, row.spread, row.met) == (1, 4, 3, (2, 4), True)
    row = against("a", "s", [1, 1, 2], "b", [2, 4, 6], at_most=0.3)
    assert (row.ratio, row.met) == (pytest.approx(1 / 3), False)
    assert Row("a", ours=0.4, at_least=0.45).met is False
    assert Row("a", at_least=2, missing="no GPU").met is None
    assert cells(alone("a", "s", [0.0139, 0.0144, 0.0141]))[1] == "14.1 ms (13.9 ms to 14.4 ms)"
    assert cells(against("a", "s", [1, 1], "b", [2, 4]))[1:4] == ["1.00 s", "3.00 s (b)", "3.00 (2.00 to 4.00)"]


def test_the_floor_is_all_products_and_nothing_else():
    """As torch counts their operations; with attention, forward and backward, which it does not know."""
    layer, x = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), torch.randn(3, 5, 16)

    def step():
        layer(x).square().sum().backward()

    def counted(function):
        with FlopCounterMode(display=False) as counter, products.Recorder() as recorder:
            function()
        return counter.get_total_flops(), [str(one) for one, *_ in recorder.calls]

    flops, names = counted(step)
    gradients = [one.grad.clone() for one in layer.parameters()]
    floor = products.alone(lambda: torch.autograd.grad(layer(x).square().sum(), list(layer.parameters())))
    assert counted(floor) == (flops, names)
    assert flops > 0
    assert [name.startswith("aten._scaled_dot_product") for name in names].count(True) == 2
    assert all(torch.equal(one.grad, old) for one, old in zip(layer.parameters(), gradients, strict=True))


def test_only_what_is_equal_is_compared():
    assert same("loss", [1.0, 2.0], [1.0, 2.0], 0) == 0
    for other in ([1.0, 2.1], [1.0, float("nan")], [1.0]):
        with pytest.raises(ValueError, match="loss: not the same"):
            same("loss", [1.0, 2.0], other, 1e-3)


def test_a_peer_that_is_not_here_is_a_row_that_says_so():
    (row,) = attempt("a", lambda: iter([peer("no_such_module")]))
    assert "no_such_module cannot be imported" in row.missing
    assert "missing: no_such_module" in markdown({"part": _about() | {"rows": [stored(row)]}})


def _about() -> dict:
    return {"machine": {"device": "x", "cores": 2}, "versions": {"torch": "2"}, "how": {"rounds": 1}}


def test_a_part_replaces_its_own_rows_alone(tmp_path):
    path, row = tmp_path / "results.json", against("a", "s", [1.0, 2.0], "b", [2.0, 2.0], at_least=1.2)
    publish("one", [row, Row("c", missing="gone")], path, {"rounds": 2})
    publish("two", [row], path, {"rounds": 2})
    publish("one", [row], path, {"rounds": 2})
    found = read_json(path)
    assert {part: len(content["rows"]) for part, content in found.items()} == {"one": 1, "two": 1}
    assert restored(found["one"]["rows"][0]) == row
    assert "at least 1.2: met" in markdown(found)


def test_what_was_measured_goes_into_the_docs(tmp_path, capsys):
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    words = ["--results", str(results), "--page", str(page)]
    with pytest.raises(SystemExit):
        main(words)
    assert "`make bench`" in capsys.readouterr().err
    publish("one", [against("a", "s", [1.0, 2.0], "b", [2.0, 2.0], at_least=1.2)], results, {"rounds": 2})
    page.write_text("before\n{}\nold\n{}\nafter".format(*MARKS))
    main(words)
    text = page.read_text()
    assert "at least 1.2: met" in text
    assert "old" not in text
    assert all(mark in (ROOT / "docs/benchmarks.md").read_text() for mark in MARKS)


@pytest.mark.filterwarnings("ignore:train.precision. float8.*emulated")
# webdataset leaves closing its files to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(
    "part",
    [
        "losses",
        "steps",
        "loading",
        "remote",
        "pixels",
        "regime",
        "duplicates",
        "float8",
        "gpu",
        "evaluation",
        "pipeline",
    ],
)
def test_each_part_runs(part, tmp_path):
    """In sizes that show nothing else."""
    module = __import__(f"benchmarks.{part}", fromlist=["main"])
    module.main(["--dry", "--results", str(tmp_path / "results.json")])
    rows = read_json(tmp_path / "results.json")[part]["rows"]
    assert rows
    assert not [row["missing"] for row in rows if "missing" in row]


def test_order_compares_systems_by_rank_at_each_length(tmp_path, capsys):
    """What was scored before is read, not trained again; a variant that begins with another's weights is left out."""
    scored = {"clip-short": (70.0, 85.0), "slip": (60.0, 90.0), "sigmoid": (80.0, 80.0), "mae": (50.0, 60.0)}
    for name, scores in scored.items():
        for length, value in zip("12", scores, strict=True):
            metric = "validation-probe" if name == "mae" else "validation"
            write_json(tmp_path / name / length / "score.json", {"metric": metric, "score": value})
    order.main(["--out", str(tmp_path), "--lengths", "1", "2", "--variants", *scored, "siglit"])
    said = capsys.readouterr().out
    assert "| slip | 60.0 (3) | 90.0 (1) |" in said
    assert "| sigmoid | 80.0 (1) | 80.0 (3) |" in said
    assert "| Kendall's tau with the length before | | -1.00 |" in said
    assert "| mae | 50.0 (1) | 60.0 (1) |" in said
    assert "siglit" not in said


def test_the_length_that_was_swept_is_not_trained_again(tmp_path, capsys):
    """With what the repository's sweeps have chosen."""
    rate = read_project(ROOT / "params.yaml", "tiny").choices["slip"]
    best = max(one["score"] for one in rate["candidates"])
    order.main(["--out", str(tmp_path), "--lengths", "1", "--variants", "slip"])
    assert f"| slip | {best:.1f} (1) |" in capsys.readouterr().out


def test_a_rehearsal_finds_the_copies_that_it_made_up(tmp_path, monkeypatch, capsys):
    """Each part has the images of the one before it, for every second one; one row in twenty repeats another."""
    monkeypatch.setattr(rehearse, "FAR", 2000)
    monkeypatch.setattr(rehearse, "LOOKED_UP", 100)
    monkeypatch.setattr(rehearse, "INDEXED", 1)
    params = read_project(ROOT / "params.yaml", "tiny").baseline
    made = rehearse.Rehearsal(params, 4000, tmp_path)
    said = {stage: getattr(made, stage)() for stage in rehearse.STAGES if stage != "plan"}
    assert said["table"] == "4000 rows"
    paths = sorted((tmp_path / "fingerprints").glob("0*.parquet"))
    hashes = [row for path in paths for row in pq.read_table(path)["sha256"].to_pylist()]
    assert len(hashes) == 4000
    assert said["dropped"] == f"{4000 - len(set(hashes))} images"
    assert said["manifest"] == "4000 samples in 4 shards"


def test_a_rehearsal_may_search_one_bucket_in_some(tmp_path):
    """What those find, of what all find: any pair that they search meets in other buckets, too."""
    tiny = read_project(ROOT / "params.yaml", "tiny").baseline
    params, found = changed(tiny, "shards", buckets=8), {}
    for every in (1, 4):
        made = rehearse.Rehearsal(params, 2000, tmp_path / str(every), every)
        made.folder.mkdir()
        made.fingerprints()
        made.buckets()
        assert made.duplicates().startswith(f"{8 // every} of 8 jobs")
        made.dropped()
        tables = [pq.read_table(path) for path in sorted((made.folder / "dropped").glob("*.parquet"))]
        found[every] = {(number, key) for number, one in enumerate(tables) for key in one["key"].to_pylist()}
    assert set() < found[4] <= found[1]
