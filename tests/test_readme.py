"""The README's commands are real: each is a target, a module or a program of the environment, and runs dry."""

import re
import subprocess

import pytest
import yaml

from flip.config.resolve import read_project
from flip.config.tree import read_tree
from flip.provenance.sources import sources
from flip.report import readme
from flip.report.readme import RESULTS, replace_between
from tests.miniature import ROOT, copy_workflow, snakemake

README = (ROOT / "README.md").read_text()


def shell_lines():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_make_targets_are_there():
    targets = {word for line in shell_lines() for word in re.findall(r"^make ([a-z0-9-]+)", line)}
    assert {"ablations", "test"} <= targets
    for target in targets | set(re.findall(r"`make ([a-z0-9-]+)", README)):
        subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=True)


def test_ci_runs_the_readmes_test_command():
    assert "make test" in shell_lines()
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", [line for line in shell_lines() if line.startswith("snakemake")])
def test_snakemake_commands_run_dry(tmp_path, command):
    folder = copy_workflow(tmp_path)
    (folder / "sources").mkdir()
    (folder / "sources" / "cc12m.tsv").touch()
    snakemake(folder, *command.split()[1:], "-n", "--quiet", "all")


def test_the_example_variant_resolves(tmp_path):
    example = yaml.safe_load(re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1])
    tree = read_tree(ROOT / "params.yaml")
    tree["variants"] |= example["variants"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    project = read_project(tmp_path / "params.yaml").check()
    assert set(example["variants"]) <= set(project.variants)


def test_modules_that_the_readme_names_are_commands():
    modules = {f"flip.{name}" for name in re.findall(r"flip\.([a-z_.]+[a-z])`", README)}
    assert {"flip.train", "flip.evaluate", "flip.train.step_cost"} <= modules
    for module in modules:
        assert any("argparse" in path.read_text() for path in sources(module)), module


def test_every_file_of_the_map_is_there():
    listed = re.search(r"## Map\n\n```\n(.*?)```", README, re.DOTALL)[1]
    for path in re.findall(r"^(\S+?),? ", listed, re.MULTILINE):
        assert (ROOT / path).exists(), path


def test_results_replace_what_stood_there():
    text = "a\n<!-- results: made by `make readme` -->\nold\n<!-- end of results -->\nb\n"
    once = replace_between(RESULTS, text, "new")
    assert "old" not in once
    assert once.startswith("a\n")
    assert once.endswith("\nb\n")
    assert replace_between(RESULTS, once, "new") == once
    with pytest.raises(ValueError, match="put the two marks"):
        replace_between(RESULTS, "no marks", "new")


def test_tables_of_several_reports_go_into_one_page_and_a_report_without_any_is_named(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("# A page\n<!-- results: made by `make readme` -->\n<!-- end of results -->\n")
    for name in ("systems", "siglip"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.md").write_text(f"### {name}\n")
    words = ["--readme", str(page), "--tables", *(str(tmp_path / name) for name in ("systems", "siglip"))]
    readme.main(words)
    assert re.findall("### (.*)", page.read_text()) == ["systems", "siglip"]
    with pytest.raises(SystemExit):
        readme.main([*words, str(tmp_path / "hybrids")])
    assert "run `snakemake hybrids`" in capsys.readouterr().err
