"""Paths of the workflow are spelled in flip/provenance/layout.py alone, and lie where they say."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from flip.provenance.layout import Layout, Records

ROOT = Path(__file__).parent.parent
LAYOUT = ROOT / "flip" / "provenance" / "layout.py"
SPOKEN_OF = {"ArgumentParser", "add_argument", "add_parser", "Field"}  # calls whose texts are for people


def all_paths(one) -> list[str]:
    """Every path that a layout gives, with the names of arguments as wildcards."""
    found = []
    for name, member in inspect.getmembers(type(one)):
        if name.startswith("_"):
            continue
        if inspect.isfunction(member):
            names = list(inspect.signature(member).parameters)[1:]
            found.append(member(one, *(f"{{{name}}}" for name in names if name != "parts")))
        elif isinstance(member, property):
            found.append(getattr(one, name))
    return [path for path in found if isinstance(path, str)]


WILD = Layout("{scale}")
PATHS = all_paths(WILD) + all_paths(WILD.receipts) + all_paths(WILD.specs)
# Without .flip, where modules keep what can be deleted at any time.
FOLDERS = sorted({path.split("/")[0] for path in PATHS} - {".flip"})


def said(tree: ast.Module) -> set[int]:
    """Nodes whose texts are documentation: docstrings, and what command lines say of their options."""
    words = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    words = [node for node in words if isinstance(node, ast.Constant)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in SPOKEN_OF:
            words += [one for keyword in node.keywords for one in ast.walk(keyword)]
    return set(map(id, words))


def spelled(path: Path) -> list[str]:
    """Texts of a module that begin with one of the workflow's folders, or are one that a path is made of."""
    tree = ast.parse(path.read_text())
    unread, begin = said(tree), re.compile(rf"({'|'.join(map(re.escape, FOLDERS))})/")
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    found = [node.value for node in texts if id(node) not in unread and begin.match(node.value)]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Path"]
    return found + [one.value for call in calls for one in call.args if getattr(one, "value", None) in FOLDERS]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_of_the_workflow_is_one_that_git_or_dvc_knows(folder):
    known = (ROOT / ".gitignore").read_text() + "receipts chosen"
    assert folder in known


@pytest.mark.parametrize("path", sorted((ROOT / "flip").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_spells_a_path(path):
    assert path == LAYOUT or spelled(path) == []


@pytest.mark.parametrize("path", [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))], ids=lambda p: p.name)
def test_no_rules_file_spells_a_path(path):
    code = re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.MULTILINE)
    assert re.findall(rf"[\"' ](?:{'|'.join(map(re.escape, FOLDERS))})/.*", code) == []


def test_the_scan_finds_paths():
    assert {"receipts", "specs", "data", "results", "tables", "checkpoints", "features", "logs"} <= {*FOLDERS}
    assert spelled(LAYOUT) != []


def test_receipts_and_specs_of_a_job_lie_alike():
    receipts, specs = Records("receipts/tiny"), Records("specs/tiny")
    assert receipts.variant("clip", "pretrain", 0) == "receipts/tiny/variants/clip/seed-0/pretrain.json"
    assert specs.variant("clip", "pretrain") == "specs/tiny/variants/clip/pretrain.json"
    assert receipts.transfer("transfers", "clip", "heads", 1).endswith(
        "tables/transfers/clip/heads/seed-1/transfer.json"
    )


def test_no_two_results_share_a_path():
    assert len(PATHS) == len(set(PATHS))
