"""Any cell of a table can be traced to its weights, data, code and times, and be made again from the weights; variants
are compared from receipts alone."""

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flip.files import file_hash, read_json
from flip.provenance.receipt import save
from flip.report.compare import rows
from tests.miniature import VARIANTS, call

pytestmark = pytest.mark.long(1)


def trace(folder, *words, check=True):
    return call(folder, "python", "-m", "flip", "trace", *words, check=check)


@pytest.fixture
def copy(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "copy", symlinks=True))


def test_a_cell_names_all_that_it_was_made_from(made):
    said = trace(made, "e", "flip-50-tuned", "fine", "--parameters")
    assert "start:" not in trace(made, "e", "flip-50-tuned", "fine")
    run = made / "results/tiny/flip-50-tuned/seed-0"
    value = read_json(run / "metrics.json")["metrics"]["fine"]
    manifest = read_json(made / "data/tiny/manifest.json")
    revision = read_json(made / "data/tiny/tests/fine/revision.json")["sha256"]
    total = read_json(made / "data/tiny/ledger.json")["total"]
    assert f"fine = {value:.2f} %" in said
    for fact in (file_hash(run / "weights.safetensors"), manifest["id"], manifest["pairs"], revision, "torch 2."):
        assert fact in said
    assert f"{total['used']} used of 300 wanted, of 300 rows" in said
    assert "start: flip-50" in said
    assert "seed 0:" in said


def test_a_cell_is_verified_from_its_weights(made):
    said = trace(made, "d", "flip-75", "fine-masked", "--verify")
    assert "0 of 128 outcomes differ" in said
    assert "Every file behind it has the recorded hash." in said


def test_a_ledger_of_later_data_is_not_taken_for_that_of_the_cell(copy):
    path = copy / "receipts/tiny/data/manifest.json"
    save(path, read_json(path) | {"id": "another"})
    said = trace(copy, "a", "flip-50", "fine")
    assert "the ledger is gone: receipts/tiny/data/manifest.json was made again since" in said
    assert "used of 300 wanted" not in said


@pytest.mark.parametrize("name", ["results/tiny/flip-50/seed-0/log.csv", "data/tiny/shards/0000/00000.tar"])
def test_a_spoiled_file_is_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[600 % len(content)] ^= 1
    (copy / name).write_bytes(content)
    said = trace(copy, "a", "flip-50", "coarse", "--verify", check=False)
    assert f"not as recorded:\n  {name}: not what" in said


def test_outcomes_that_the_weights_do_not_give_are_found(copy):
    path = copy / "results/tiny/flip-50/seed-0/outcomes.npz"
    with np.load(path) as file:
        found = dict(file)
    found["fine"][:3] = 1 - found["fine"][:3]
    np.savez_compressed(path, **found)
    said = trace(copy, "a", "flip-50", "fine", "--verify", check=False)
    assert "results/tiny/flip-50/seed-0/outcomes.npz: not what" in said
    assert "3 outcomes of fine are not those of the weights" in said


def test_an_unknown_cell_is_explained(made):
    for words, message in (
        (("z", "clip", "fine"), "unknown table 'z'; known: a, d, e, f"),
        (("a", "flop-50", "fine"), "table a has no row 'flop-50'; did you mean 'flip-50'?"),
        (("a", "clip", "finer"), "table a has no column 'finer'; did you mean 'fine'?"),
    ):
        assert message in trace(made, *words, check=False)


def test_variants_stand_side_by_side(made):
    found = pd.read_csv(io.StringIO(call(made, "python", "-m", "flip", "compare", "--csv"))).set_index("variant")
    assert set(found.index) == set(VARIANTS)
    for name in VARIANTS:
        metrics = read_json(made / f"results/tiny/{name}/seed-0/metrics.json")
        assert found.fine[name] == pytest.approx(metrics["metrics"]["fine"])
        assert found.manifest[name] == metrics["manifest"][:12]
    assert found.relative_time["clip"] == 1
    shown = call(made, "python", "-m", "flip", "compare", "--metrics", "sketch").splitlines()
    assert shown[0].split()[:3] == ["variant", "sketch", "relative_time"]
    *table, more = call(made, "python", "-m", "flip", "compare").splitlines()
    assert table[0].split()[:2] == ["variant", "fine"]
    assert max(map(len, table)) <= 120
    assert more.endswith("more metrics: --metrics NAME,NAME shows some, --csv and --json all")
    assert "did you mean 'sketch'" in call(made, "python", "-m", "flip", "compare", "--metrics", "scetch", check=False)
    assert len(shown) == 1 + len(VARIANTS)


def test_a_variant_has_all_metrics_of_its_seeds_and_the_costs_of_the_first_report():
    training = {"seconds": 3600, "samples": 8, "images": 4, "manifest": "m" * 64, "device": "cpu"}
    measured = [{"fine": 40.0}, {"fine": 60.0}]
    found = {
        "codebook.json": {},
        "tables/ablations/cost.json": {"facts": {"cost": {"variants": {"clip": {"relative_rounds": [1.0, 3.0, 2.0]}}}}},
        "tables/systems/cost.json": {"facts": {"cost": {"variants": {"clip": {"relative_rounds": [9.0]}}}}},
    }
    for seed, metrics in enumerate(measured):
        made = {"git": {"commit": "c" * 40, "changed": False}}
        found[f"tables/transfers/clip/heads/seed-{seed}/transfer.json"] = {
            "facts": {"metrics": {"metrics": {"vqa": 7.0 + seed}}}
        }
        found[f"variants/clip/seed-{seed}/pretrain.json"] = {"facts": {"training": training}}
        found[f"variants/clip/seed-{seed}/evaluate.json"] = made | {"facts": {"metrics": {"metrics": metrics}}}
    row = rows(found)["clip"]
    assert (row["fine"], row["vqa"], row["relative_time"]) == (50.0, 7.5, 2.0)
    assert (row["seeds"], row["training_hours"], row["commit"]) == (2, 2.0, "c" * 10)
    del found["tables/transfers/clip/heads/seed-1/transfer.json"]
    assert "vqa" not in rows(found)["clip"]


def test_no_results_are_said_so(tmp_path, made):
    shutil.copy(made / "params.yaml", tmp_path)
    said = call(tmp_path, "python", "-m", "flip", "compare", check=False)
    assert "'.': no results of scale 'tiny'; `snakemake ablations` makes them" in said
