"""The commands of README, docs and CONTRIBUTING are real: each is a target, a module or a program of the environment,
and runs dry; links lead somewhere; the README can be read in a minute."""

import itertools
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
import yaml

import flip
from flip.commands import app
from flip.config.faults import ParameterError
from flip.config.frozen import dump
from flip.config.resolve import read_project
from flip.files import write_json
from flip.provenance.sources import sources
from flip.report import published
from flip.report.published import RESULTS, replace_between
from tests.miniature import ROOT, copy_workflow, snakemake

pytestmark = pytest.mark.long(2)

PAGES = {
    path: path.read_text()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/methods").glob("*.md")]
}
README, CONTRIBUTING = (PAGES[ROOT / name] for name in ("README.md", "CONTRIBUTING.md"))
ALL = "\n".join(text for path, text in PAGES.items() if path.name != "CHANGELOG.md")


def shell_lines(text=ALL):
    """The commands of a text's blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return list(filter(None, lines))


def test_make_targets_are_there():
    targets = {word for line in shell_lines() for word in re.findall(r"^make ([a-z0-9-]+)", line)}
    assert {"ablations", "test"} <= targets
    for target in targets | set(re.findall(r"`make ([a-z0-9-]+)", ALL)):
        subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=True)


@pytest.mark.parametrize("page", ["README.md", "docs/variants.md"])
def test_the_message_of_a_mistake_is_the_printed_one(page, tmp_path):
    """Wrapped, as lines are of one length."""
    (shown,) = re.findall(r"```\n(params\.yaml, variant 'flip-60'.*?)\n```", PAGES[ROOT / page], re.DOTALL)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    wrong = "\nvariants:\n  flip-60: {like: flip-50, masking: {imgae: 0.6}}\n"
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text().replace("\nvariants:\n", wrong))
    with pytest.raises(ParameterError) as said:
        read_project(tmp_path / "params.yaml", "tiny").resolve("flip-60")
    assert shown.split() == str(said.value).split()


def test_the_readme_can_be_read_in_a_minute():
    assert len(README.splitlines()) <= 200
    assert len(README.encode()) <= 12_000


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", PAGES[path]):
        file, _, heading = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), target
        titles = re.findall(r"^#+ (.*)", found.read_text(), re.MULTILINE) if heading else []
        anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
        assert not heading or heading in anchors, target


def test_every_page_of_the_docs_can_be_reached_from_the_readme():
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", README))
    assert linked == {f"docs/{path.name}" for path in PAGES if path.parent.name == "docs"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_tables_have_at_most_eight_columns(path):
    rows = re.findall(r"^\| .*$", PAGES[path], re.MULTILINE)
    assert [row[:60] for row in rows if row.count(" | ") > 7] == []


def test_every_page_is_in_the_sites_list():
    listed = set(re.findall(r"([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text()))
    assert {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} <= listed


def test_pages_of_methods_have_what_differs_and_their_tables(tmp_path):
    """Both stand elsewhere: the differences follow from parameters, the tables from the last run."""
    page = SimpleNamespace(file=SimpleNamespace(src_uri="methods/one.md"))
    hooks = runpy.run_path(str(ROOT / "docs/hooks.py"))
    for path in (ROOT / "docs/methods").glob("*.md"):
        made = hooks["on_page_markdown"](path.read_text(), page)
        assert "<!--" not in made, path
        assert ("## What differs from the paper\n\n- `" in made) == ("<!-- deviations" in path.read_text()), path
        assert ("### Table " in made) == ("<!-- table" in path.read_text()), path


def test_the_docs_are_a_site_without_broken_links_that_asks_for_nothing(tmp_path):
    """Strictly built: a link or an anchor that leads nowhere fails. The pages made from code are among them."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=True, capture_output=True)
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert "<code>masking.image</code>" in pages["reference/parameters.html"]
    assert "python -m flip.evaluate" in pages["reference/commands.html"]
    assert "flip mirror newest" in pages["reference/commands.html"]
    for name, text in pages.items():
        loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=.?(?:https?:)?//", text)
        assert not loaded + re.findall(r"<link[^>]+rel=.?stylesheet[^>]+href=.?(?:https?:)?//", text), name


def test_ci_runs_the_readmes_test_command():
    assert "make test" in shell_lines(README)
    assert "make test" in shell_lines(CONTRIBUTING)
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def import_starts(folder, text):
    """Make folders as `flip import` does, of empty weights, where variants start from such."""
    for start in re.findall(r"start: ([\w-]+/[\w-]+)", text):
        (folder / start).mkdir(parents=True)
        (folder / start / "params.yaml").write_text(dump(read_project(ROOT / "params.yaml").baseline))
        write_json(folder / start / "tokenizer.json", {"kind": "clip", "vocabulary": 49408, "definition": None})
        (folder / start / "weights.safetensors").touch()


EXAMPLES = re.findall(r"```yaml\n(.*?)```", ALL, re.DOTALL)


# But for Snakemake's own report, which shows what is there: test_pipeline makes one.
DRY = {line for line in shell_lines() if line.startswith("snakemake") and "--report" not in line}


@pytest.mark.parametrize("command", sorted(DRY))
def test_snakemake_commands_run_dry(tmp_path, command):
    folder = copy_workflow(tmp_path)
    (folder / "sources").mkdir()
    (folder / "sources" / "cc12m.tsv").touch()
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    for text in EXAMPLES:  # scales and variants that the pages show
        for section in ("scales", "variants"):
            tree[section] |= yaml.safe_load(text).get(section, {})
        import_starts(folder, text)
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    snakemake(folder, *command.split()[1:], "-n", "--quiet", "all")


@pytest.mark.parametrize("text", EXAMPLES, ids=itertools.count())
def test_variants_and_scales_that_are_shown_resolve(tmp_path, text):
    example = yaml.safe_load(text)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, entries in example.items():
        tree[section] |= entries
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    import_starts(tmp_path, text)
    for scale in example.get("scales", ["tiny"]):
        project = read_project(tmp_path / "params.yaml", scale).check()
        assert set(example.get("variants", [])) <= set(project.variants)


@pytest.mark.parametrize("line", sorted({line for line in shell_lines() if line.startswith("flip ")}))
def test_commands_of_flip_take_what_the_pages_give_them(line):
    """Parsed, and not run: an unknown command or option, or an argument too many, is an error."""
    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(line, words)


def test_commands_of_flip_that_sentences_name_are_there():
    named = {tuple(words.split()) for words in re.findall(r"`flip ([a-z]+(?: [a-z]+)?)", ALL)}
    known = typer.main.get_command(app).commands
    assert {("import",), ("plan",)} <= {words[:1] for words in named}
    for name, *rest in named:
        inner = getattr(known[name], "commands", None)
        assert inner is None or not rest or rest[0] in inner, name


def test_modules_that_the_pages_name_are_commands():
    text = "".join(text for path, text in PAGES.items() if path.name not in ("CONTRIBUTING.md", "CHANGELOG.md"))
    modules = {f"flip.{name}" for name in re.findall(r"(?<!/)flip\.([a-z_.]+[a-z])`", text)}
    assert {"flip.train", "flip.evaluate", "flip.train.step_cost"} <= modules
    for module in modules - {f"flip.{name}" for name in flip.__all__}:
        assert any("argparse" in path.read_text() for path in sources(module)), module


def test_pytest_commands_name_files_words_and_marks_that_are_there(pytestconfig):
    words = [word for line in shell_lines() if line.startswith("pytest ") for word in shlex.split(line)[1:]]
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    marks = {line.split(":")[0] for line in pytestconfig.getini("markers")}
    for option, word in zip(["", *words], words, strict=False):
        match option:
            case "-k":
                assert re.search(rf"^def test_\w*{word}", tests, re.MULTILINE), word
            case "-m":
                assert set(word.split()) - {"not", "and"} <= marks, word
            case _ if word.startswith("--"):
                assert pytestconfig.getoption(word) is not None
            case _ if not word.startswith("-"):
                assert (ROOT / word).exists(), word


def test_every_other_command_is_one_that_a_reader_has():
    programs = {"cd", "flip", "git", "make", "pytest", "python", "snakemake", "dvc", "sha256sum", "export", "."}
    firsts = {next(word for word in line.split() if "=" not in word) for line in shell_lines()}
    assert firsts <= programs


def test_every_file_of_the_map_is_there_and_every_folder_is_in_the_map():
    listed = re.search(r"## Map\n.*?```\n(.*?)```", CONTRIBUTING, re.DOTALL)[1]
    paths = {path.rstrip("/") for line in listed.splitlines() for path in re.split(r",? ", line.split("  ")[0])}
    for path in paths:
        assert (ROOT / path).exists(), path
    for folder in (ROOT / "flip").glob("*/__init__.py"):
        assert f"flip/{folder.parent.name}" in paths, folder


def test_files_that_contributors_are_led_to_are_there():
    paths = re.findall(r"`((?:flip|tests|configs|envs)/[\w/.]*)`", CONTRIBUTING)
    paths += re.findall(r"\]\((?!https?:)([\w/.]+)\)", CONTRIBUTING)
    assert len(paths) > 8
    for path in paths:
        assert (ROOT / path.replace("/NAME.py", "")).exists(), path


def test_hooks_before_a_commit_run_the_programs_of_the_environment():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {hook["id"] for hook in hooks} == {"ruff-check", "ruff-format", "snakefmt"}
    for hook in hooks:
        program, *words = hook["entry"].split()
        assert program.startswith(".venv/bin/")
        assert hook["language"] == "system"
        path = Path(sys.executable).parent / Path(program).name
        subprocess.run([path, *words, "--help"], capture_output=True, check=True)
        assert re.search(rf"{path.name} .*{' '.join(words)}", (ROOT / "Makefile").read_text()), hook["entry"]


def test_results_replace_what_stood_there():
    text = "a\n<!-- results: made by `make results` -->\nold\n<!-- end of results -->\nb\n"
    once = replace_between(RESULTS, text, "new")
    assert "old" not in once
    assert once.startswith("a\n")
    assert once.endswith("\nb\n")
    assert replace_between(RESULTS, once, "new") == once
    with pytest.raises(ValueError, match="put the two marks"):
        replace_between(RESULTS, "no marks", "new")


def test_tables_of_several_reports_go_into_one_page_and_a_report_without_any_is_named(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("# A page\n<!-- results: made by `make results` -->\n<!-- end of results -->\n")
    for name in ("systems", "siglip"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.md").write_text(f"### {name}\n")
    words = ["--page", str(page), "--tables", *(str(tmp_path / name) for name in ("systems", "siglip"))]
    published.main(words)
    assert re.findall("### (.*)", page.read_text()) == ["systems", "siglip"]
    with pytest.raises(SystemExit):
        published.main([*words, str(tmp_path / "hybrids")])
    assert "run `snakemake hybrids`" in capsys.readouterr().err
