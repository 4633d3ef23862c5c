"""Snakefile, params.yaml and dvc.yaml tell one story: a dry run plans every stage of every variant and imports no
torch; a change re-runs what depends on it and nothing else; the README's and the Makefile's commands are real."""

import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest
import yaml

from flip.config.resolve import read_project
from flip.files import read_json
from flip.provenance.layout import RUN_LOSS, RUN_METRICS, RUN_PARAMS
from tests.miniature import ROOT, copy_workflow, edit, planned, snakemake

pytestmark = pytest.mark.long(2)


@pytest.fixture
def copy(tmp_path):
    return copy_workflow(tmp_path)


REPORTS = [("tiny", name) for name in read_project().reports] + [("gpu", "ablations")]


@pytest.mark.parametrize(("scale", "report"), REPORTS)
def test_a_dry_run_plans_the_variants_of_a_report(copy, scale, report):
    from flip.metrics.names import transferred

    whole = read_project("params.yaml", scale)
    plan = planned(snakemake(copy, "-n", report, "--config", f"scale={scale}"))
    named, seeds = whole.of(report).named, len(whole.baseline.seeds)
    assert plan["pretrain"] == plan["evaluate"] == seeds * len(named)
    assert plan.get("embed", 0) == seeds * len({whole.variants[name].features for name in named} - {None})
    assert plan["download"] == plan["shards"] == whole.baseline.download.parts
    assert plan["tables"] == plan["cost"] == plan["tokenizer"] == plan["manifest"] == 1
    spoken = [whole.variants[name].captions for name in named]
    assert plan.get("transfer", 0) == seeds * sum(map(len, transferred(whole.of(report)).values()))
    assert plan.get("translations", 0) == any(captions.translated for captions in spoken)
    assert plan.get("translated_set", 0) == max(len(captions.translated) for captions in spoken)
    assert plan.get("codebook", 0) == any(whole.variants[name].flava.reads_codes for name in whole.of(report).named)


def test_on_a_cluster_jobs_get_the_cores_and_the_partition_that_they_ask_for(copy, monkeypatch):
    """96 cores, however few the login node has; and whatever asks for a GPU goes where GPUs are."""
    monkeypatch.setenv("SBATCH_PARTITION", "cpu")
    monkeypatch.setenv("SBATCH_GPU_PARTITION", "gpu")
    said = snakemake(copy, "-n", "--profile", "slurm", "variant", "--config", "scale=cc12m", "variant=flava-init")
    said += snakemake(copy, "-n", "--profile", "slurm", "ablations", "--config", "scale=cc12m")
    jobs = re.findall(r"^(?:local)?rule (\w+):\n(?: .*\n)*? +resources: (.*)", said, re.MULTILINE)
    where = {
        (rule, "gpu=" in asked, re.search("slurm_partition=(\\w+)", asked)[1])
        for rule, asked in jobs
        if "slurm_" in asked
    }
    assert {("pretrain", True, "gpu"), ("codebook", True, "gpu"), ("table", False, "cpu")} <= where
    assert {(has, place) for _, has, place in where} == {(True, "gpu"), (False, "cpu")}
    assert "threads: 96" in said
    assert max(map(int, re.findall(r"threads: (\d+)", said))) == 96


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


def test_dvc_is_told_nothing_that_snakemake_knows():
    """One stage, which calls it: no inputs, no outputs, so that each fact stands once."""
    told = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    assert list(told["stages"]) == ["tables"]
    assert list(told["stages"]["tables"]) == ["cmd"]
    assert told["stages"]["tables"]["cmd"][0].startswith("snakemake ")
    shown = [*told["params"], *told["metrics"], *(path for one in told["plots"] for path in one)]
    assert shown == [RUN_PARAMS, RUN_METRICS, RUN_LOSS]
    assert all((ROOT / path).exists() for path in shown)


def jobs(said):
    """Of the jobs that a dry run prints, those with a receipt: (rule, spec, module that is run)."""
    found = re.findall(r"^rule (\w+):\n(?: .*\n)*Shell command: .*--spec (\S+) .* -m (flip\S+) --", said, re.MULTILINE)
    assert found
    return found


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A folder with nothing made, and what a dry run of all reports prints there."""
    folder = copy_workflow(tmp_path_factory.mktemp("everything"))
    return folder, snakemake(folder, "-n", "-p", "report", "sweep")


def test_each_job_runs_the_module_whose_code_counts_for_it(everything):
    folder, said = everything
    for rule, spec, module in jobs(said):
        assert read_json(folder / spec)["module"] == module, (rule, spec)
    drawn = {"table", "download", "translate", "testsets"}
    assert {f"flip.synthetic.{name}" for name in drawn} <= {module for _, _, module in jobs(said)}


def test_every_rule_serves_the_reports(everything):
    """But for those that fetch public test sets, of which tiny has none, and copies for Snakemake's own report;
    preflight leaves no receipt."""
    _, said = everything
    rules = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    named = set(re.findall(r"^rule (\w+):", rules, re.MULTILINE))
    assert named - {rule for rule, _, _ in jobs(said)} == {"preflight", "mirror", "mirror_set", "retry", "copy_report"}


def test_every_job_is_a_command_with_help(everything, capsys):
    _, said = everything
    for name in {module for _, _, module in jobs(said)}:
        module = import_module(name if find_spec(name).submodule_search_locations is None else f"{name}.__main__")
        with pytest.raises(SystemExit, match="0"):
            module.main(["--help"])
        assert f"usage: python -m {name} " in capsys.readouterr().out


def test_a_set_of_ones_own_is_checked_by_code_without_the_world(copy):
    edit(copy, "params.yaml", "sketch: world", "sketch: ./mine")
    found = {spec: module for _, spec, module in jobs(snakemake(copy, "-n", "-p", "ablations"))}
    module = found["specs/tiny/data/tests/sketch/test_sets.json"]
    assert module == "flip.testsets.revision"
    assert read_json(copy / "specs/tiny/data/tests/sketch/test_sets.json")["module"] == module
    assert found["specs/tiny/data/tests/fine/test_sets.json"] == "flip.synthetic.testsets"


def test_sources_follow_imports():
    from flip.provenance.sources import sources

    def names(module):
        return {str(path.relative_to(ROOT)) for path in sources(module)}

    assert {"flip/train/__main__.py", "flip/train/loop.py", "flip/model/text.py", "flip/losses/tiling.py"} <= names(
        "flip.train"
    )
    assert not {name for name in names("flip.train") if "/report/" in name or "/evaluate/" in name}
    assert "flip/synthetic/server.py" in names("flip.synthetic.download")
    assert "flip/config/kinds/pointing.py" in names("flip.testsets.revision")  # which the package finds by itself
    assert "flip/evaluate/kinds/pointing.py" in names("flip.evaluate")
    assert not {name for name in names("flip.report.tables") if "/model/" in name or "/train/" in name}


def test_make_help_lists_each_target():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {line.split()[0] for line in done.stdout.splitlines()} == targets
