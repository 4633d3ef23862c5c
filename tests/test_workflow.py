"""Snakefile, params.yaml and dvc.yaml tell one story: a dry run plans every stage of every variant and imports no
torch; a change re-runs what depends on it and nothing else; the README's and the Makefile's commands are real."""

import re
import subprocess
import sys

import pytest
import yaml

from flip.files import read_json
from tests.miniature import ROOT, copy_workflow, edit, planned, snakemake


@pytest.fixture
def copy(tmp_path):
    return copy_workflow(tmp_path)


REPORTS = [
    ("tiny", "ablations"),
    ("gpu", "ablations"),
    ("tiny", "systems"),
    ("tiny", "siglip"),
    ("tiny", "languages"),
    ("tiny", "transfers"),
]


@pytest.mark.parametrize(("scale", "report"), REPORTS)
def test_a_dry_run_plans_the_variants_of_a_report(copy, scale, report):
    from flip.config.resolve import read_project
    from flip.metrics.names import transferred

    whole = read_project("params.yaml", scale)
    plan = planned(snakemake(copy, "-n", report, "--config", f"scale={scale}"))
    named = whole.of(report).named
    assert plan["pretrain"] == plan["evaluate"] == len(named)
    assert plan.get("embed", 0) == len({whole.variants[name].features for name in named} - {None})
    assert plan["download"] == plan["shards"] == whole.baseline.download.parts
    assert plan["tables"] == plan["cost"] == plan["tokenizer"] == plan["manifest"] == 1
    spoken = [whole.variants[name].captions for name in named]
    assert plan.get("transfer", 0) == sum(map(len, transferred(whole.of(report)).values()))
    assert plan.get("translations", 0) == any(captions.translated for captions in spoken)
    assert plan.get("translated_set", 0) == max(len(captions.translated) for captions in spoken)
    assert plan.get("codebook", 0) == any(whole.variants[name].flava.reads_codes for name in whole.of(report).named)


def test_the_page_of_some_reports_needs_their_tables_alone(copy):
    jobs = planned(snakemake(copy, "-n", "report", "--config", "reports=siglip,hybrids"))
    assert (jobs["page"], jobs["tables"], jobs["cost"]) == (1, 2, 2)
    said = snakemake(copy, "-n", "report", "--config", "reports=sigllip", check=False)
    assert "'sigllip'; did you mean 'siglip'?" in said
    assert "Traceback" not in said


def test_a_mistake_in_params_yaml_stops_before_any_job(copy):
    path = copy / "params.yaml"
    path.write_text(path.read_text().replace("crop_area", "crop_aera", 1))
    output = snakemake(copy, "-n", check=False)
    assert "augmentation.crop_aera: unknown key; did you mean 'crop_area'?" in output
    assert "Traceback" not in output


def test_captions_that_a_source_lacks_stop_before_any_job(copy):
    output = snakemake(copy, "-n", "languages", "--config", "scale=cc12m", check=False)
    assert "variant 'msiglip': source.translations = null: captions.languages = ['en', 'de', 'es', 'ru']" in output
    assert "Job stats" not in output


def test_a_dry_run_imports_no_torch(copy):
    code = (
        "import sys; from snakemake.cli import main\n"
        "try: main(['-n', '--quiet', 'all'])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert not {'torch', 'img2dataset', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dvc_stages_follow_params_and_call_snakemake(project):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    commands = [stage.get("do", stage)["cmd"] for stage in stages.values()]
    assert all(command.startswith("snakemake ") and "--config scale=${scale}" in command for command in commands)
    assert stages["variant"]["foreach"] == "${variants}"
    listed = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    stages = {"specs", "data", *(f"variant@{name}" for name in project.variants)}
    assert set(listed.stdout.split()) == stages | {f"tables@{name}" for name in project.reports}


def test_every_stage_of_the_workflow_is_a_module():
    from flip.metrics.names import HEADS
    from flip.provenance import specs
    from flip.provenance.sources import sources

    stages = {**specs.DATA, "pretrain": specs.PRETRAIN, "evaluate": specs.EVALUATE, "cost": specs.COST}
    stages |= {"translations": specs.TRANSLATIONS, "translated_set": specs.TRANSLATED_SET}
    stages |= {"embed": specs.EMBED, "codebook": specs.CODEBOOK, "tables": specs.TABLES, "page": specs.PAGE}
    stages |= {"transfer": specs.TRANSFER[HEADS]}
    rules = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    # preflight leaves nothing behind that could depend on anything; mirror is a target.
    assert {*stages, "preflight", "mirror"} == set(re.findall(r"^rule (\w+):", rules, re.MULTILINE))
    assert all(sources(stage.module) for stage in stages.values())
    modules = {stage.at(place).module for stage in stages.values() for place in ("world", "elsewhere")}
    for module in modules:
        subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, check=True)


@pytest.mark.parametrize("report", ["ablations", "languages", "transfers"])
def test_each_job_runs_the_module_whose_code_counts_for_it(copy, report):
    """What draws the world for the world's data, and nothing of it for users' own: here, a test set."""
    if report == "ablations":
        edit(copy, "params.yaml", "sketch: world", "sketch: ./mine")
    said = snakemake(copy, "-n", "-p", report)
    found = dict(re.findall(r"^.*--spec (\S+) .* -m (flip\S+) --", said, re.MULTILINE))
    assert len(found) > 10
    for spec, module in found.items():
        assert read_json(copy / spec)["module"] == module, spec
    drawn = {"flip.synthetic.table", "flip.synthetic.download", "flip.synthetic.testsets"}
    assert drawn | {f"flip.synthetic.{'translate' if report == 'languages' else 'table'}"} <= set(found.values())
    own = found["specs/tiny/data/tests/sketch/test_sets.json"]
    assert own == ("flip.testsets.revision" if report == "ablations" else "flip.synthetic.testsets")


def test_sources_follow_imports():
    from flip.provenance.sources import sources

    def names(module):
        return {str(path.relative_to(ROOT)) for path in sources(module)}

    assert {"flip/train/__main__.py", "flip/train/loop.py", "flip/model/text.py", "flip/losses/info_nce.py"} <= names(
        "flip.train"
    )
    assert not {name for name in names("flip.train") if "/report/" in name or "/evaluate/" in name}
    assert "flip/synthetic/server.py" in names("flip.synthetic.download")
    assert "flip/testsets/kinds/pointing.py" in names("flip.testsets.revision")  # which the package finds by itself
    assert "flip/evaluate/kinds/pointing.py" in names("flip.evaluate")
    assert not {name for name in names("flip.report.tables") if "/model/" in name or "/train/" in name}


def test_make_help_lists_each_target():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {line.split()[0] for line in done.stdout.splitlines()} == targets
