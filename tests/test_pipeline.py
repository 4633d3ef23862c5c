"""The whole pipeline in miniature, for real: from an empty directory over HTTP, img2dataset, training and
clip-benchmark to the tables; a second call does nothing, and a change re-runs what depends on it and nothing else."""

import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pytest

from flip.files import read_json
from tests.miniature import VARIANTS, edit, planned, snakemake

pytestmark = pytest.mark.long(1)


def test_tables_are_there_with_their_evidence(made):
    table = pd.read_csv(made / "tables/tiny/ablations/tables.csv")
    assert set(table.table) == {"a", "d", "e", "f"}
    assert list(table[table.table == "a"].variant.unique()) == ["clip", "flip-50", "flip-75"]
    assert table.value.between(0, 100).all()
    assert (table.low <= table.value).all()
    assert (table.value <= table.high).all()
    manifest = read_json(made / "data/tiny/manifest.json")
    assert set(table.manifest) == {manifest["id"]}
    costs = table[table.table == "a"].drop_duplicates("variant").set_index("variant")
    assert costs.relative_flops["clip"] == 1
    assert costs.relative_flops["flip-75"] < costs.relative_flops["flip-50"] < 1
    assert manifest["id"][:12] in (made / "tables/tiny/ablations/index.html").read_text()


def test_the_ledger_adds_up_and_names_the_webs_faults(made):
    total = read_json(made / "data/tiny/ledger.json")["total"]
    assert total["wanted"] == 300
    assert total["rows"] == 300 == total["used"] + sum(total["lost"].values())
    assert total["used"] == read_json(made / "data/tiny/manifest.json")["samples"]
    assert total["lost"]["not found"] > 0
    assert total["lost"]["exact duplicate"] + total["lost"]["near duplicate"] > 10


def test_no_more_parts_are_downloaded_at_once_than_share_what_hosts_are_asked(made):
    """Here one."""
    receipts = [read_json(path) for path in made.glob("receipts/tiny/data/download/*.json")]
    first, second = sorted((one["start"], one["end"]) for one in receipts)
    assert first[1] <= second[0]


def test_checkpoints_are_gone_and_weights_are_there(made):
    for name in VARIANTS:
        assert (made / f"results/tiny/{name}/seed-0/weights.safetensors").exists()
    assert not list((made / "checkpoints").rglob("*.pt"))
    assert not list((made / ".flip/preflight").glob("*"))


def test_a_second_call_does_nothing(made):
    assert "Nothing to be done" in snakemake(made, "-n", "ablations")


def test_snakemakes_own_report_has_tables_and_figures(made):
    snakemake(made, "reported")
    snakemake(made, "reported", "--report", "report.zip")
    with ZipFile(made / "report.zip") as file:
        names = {Path(name).name for name in file.namelist()}
    assert {"a.csv", "tables.csv", "tradeoff.svg", "index.html"} <= names


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        # One variant: its training, its evaluation and what compares it.
        ("params.yaml", " image: 0.75", " image: 0.7", {"preflight", "pretrain", "evaluate", "cost", "tables"}),
        # How all are evaluated.
        ("params.yaml", "- coarse\n      batch: 64", "- coarse\n      batch: 32", {"evaluate", "tables"}),
        # How intervals are drawn: the tables alone.
        ("params.yaml", "resamples: 200", "resamples: 300", {"tables"}),
        # Code of the report, of the evaluation.
        ("flip/report/formats.py", "\n\ndef ", "\n\nNEW = 1\n\n\ndef ", {"tables"}),
        ("flip/evaluate/retrieval.py", "\n\ndef ", "\n\nNEW = 1\n\n\ndef ", {"evaluate", "tables"}),
    ],
)
def test_a_change_runs_what_depends_on_it(made, file, old, new, expected):
    edit(made, file, old, new)
    try:
        jobs = planned(snakemake(made, "-n", "ablations"))
    finally:
        edit(made, file, new, old)
    assert set(jobs) - {"ablations"} == expected
    assert jobs.get("pretrain", 0) == ("pretrain" in expected)
    if "evaluate" in expected:
        assert jobs["evaluate"] == (1 if "pretrain" in expected else len(VARIANTS))


def test_a_broken_shard_is_named_before_training(made):
    shard = next((made / "data/tiny/shards").rglob("*.tar"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-20480])
    words = ["--params", "specs/tiny/params/clip.yaml", "--data", "data/tiny", "--seed", "0", "--out", "out"]
    command = [sys.executable, "-m", "flip.train", *words, "--checkpoints", "out/checkpoints"]
    done = subprocess.run(command, cwd=made, capture_output=True, text=True, check=False)
    shard.write_bytes(whole)
    assert done.returncode == 1
    assert re.search(rf"{shard.name}: \d+ bytes expected, \d+ found.*run the pipeline again", done.stderr)
    assert "Traceback" not in done.stderr
