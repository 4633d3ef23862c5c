"""What lies apart stays apart: imports lead from folder to folder in one direction, by the order of CONTRIBUTING's map.
Nothing imports the synthetic world, so that no change of a word or of a texture in it reaches what is made of users'
own data. And a class has a name of its own."""

import ast
import re
from collections import Counter, defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from flip.provenance.sources import sources
from flip.provenance.specs import DATA, EMBED, EVALUATE, PRETRAIN, TRANSFER, TRANSLATED_SET, TRANSLATIONS
from tests.miniature import ROOT

PACKAGE = ROOT / "flip"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def names(node: ast.AST) -> set[str]:
    """Names that an import gives: of modules, or of what is in them."""
    if isinstance(node, ast.ImportFrom):
        assert not node.level, f"{ast.unparse(node)}: a relative import, which is not followed here"
        return {f"{node.module}.{alias.name}" for alias in node.names}
    return {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()


def imported(path: Path) -> set[str]:
    """Names that a module imports, wherever the import stands."""
    return set().union(*map(names, ast.walk(parsed(path))))


def imported_for_types(path: Path) -> set[str]:
    """Names that a module imports for a type checker alone."""
    nodes = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.If)]
    checked = [node for node in nodes if ast.unparse(node.test) == "TYPE_CHECKING"]
    return set().union(*(names(one) for node in checked for one in node.body))


def file_of(name: str) -> Path | None:
    """The package's file of a module, or of the module that something of this name is in; None of other packages."""
    for parts in (name.split("."), name.split(".")[:-1]):
        place = ROOT.joinpath(*parts)
        if parts and parts[0] == "flip":
            found = next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.exists()), None)
            if found:
                return found
    return None


def folder_of(path: Path) -> str:
    """The folder below flip/ that a file is in; a file that is in none stands for itself."""
    return path.relative_to(PACKAGE).parts[0]


def arrows_between(places, among=lambda path: path, kept=imported) -> dict:
    """Which imports lead from one place to another, by both: places are files, or what `among` says of them."""
    arrows = defaultdict(set)
    for path in places:
        for name in kept(path):
            if (other := file_of(name)) and among(other) != among(path):
                arrows[among(path), among(other)].add(f"{path.relative_to(ROOT)} imports {name}")
    return arrows


def cycle(arrows) -> list[str]:
    """The imports of which a cycle consists; none where there is none."""
    below = defaultdict(set)
    for upper, lower in arrows:
        below[upper].add(lower)
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        places = error.args[1]
        return [one for pair in zip(places[1:], places, strict=False) for one in sorted(arrows[pair])]
    return []


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_folders_import_each_other_in_no_cycle():
    arrows = arrows_between(modules(), folder_of)
    assert {("train", "model"), ("evaluate", "config")} <= arrows.keys()
    assert not (found := cycle(arrows)), "\n".join(found)


def test_modules_import_each_other_in_no_cycle():
    """But for types, which only a checker imports."""
    arrows = arrows_between(modules(), kept=lambda path: imported(path) - imported_for_types(path))
    assert not (found := cycle(arrows)), "\n".join(found)


@pytest.mark.parametrize("at", ["", "    "])  # at the top of a module, within a function
def test_a_cycle_is_found_and_its_imports_named(tmp_path, monkeypatch, at):
    monkeypatch.setattr("tests.test_apart.ROOT", tmp_path)
    monkeypatch.setattr("tests.test_apart.PACKAGE", tmp_path / "flip")
    function = "def call():\n" if at else ""
    for path, text in (
        ("one/a.py", "from flip.two.b import B"),
        ("two/b.py", "from flip.three import c"),
        ("three/c.py", f"{function}{at}import flip.one.a"),
        ("three/d.py", "from flip.one.a import A"),
        ("four/e.py", "import flip.one.a"),
    ):
        (tmp_path / "flip" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "flip" / path).write_text(text)
    paths = sorted((tmp_path / "flip").rglob("*.py"))
    expected = {"flip/one/a.py imports flip.two.b.B", "flip/two/b.py imports flip.three.c"}
    expected |= {"flip/three/c.py imports flip.one.a"}
    assert {*cycle(arrows_between(paths))} == expected
    assert {*cycle(arrows_between(paths, folder_of))} == expected | {"flip/three/d.py imports flip.one.a.A"}


def test_folders_build_on_those_above_them_in_the_map_of_contributing():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    order = re.findall(r"^flip/(\w+)/ ", text[text.index("## Map") :], re.MULTILINE)
    assert sorted(order) == sorted({folder_of(path) for path in modules() if path.parent != PACKAGE})
    arrows = arrows_between(modules(), folder_of)
    wrong = [
        one
        for (upper, lower), found in arrows.items()
        if upper in order and lower in order and order.index(upper) < order.index(lower)
        for one in sorted(found)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_name_of_a_class_stands_for_one_class():
    classes = [one.name for path in modules() for one in ast.walk(parsed(path)) if isinstance(one, ast.ClassDef)]
    assert [name for name, count in Counter(classes).items() if count > 1] == []


def long_functions(path: Path) -> list[str]:
    """Functions of more than 40 lines in a module."""
    functions = [one for one in ast.walk(parsed(path)) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    lines = {one.name: one.end_lineno - one.lineno + 1 for one in functions}
    return [f"{path.relative_to(ROOT)}: {name} has {count} lines" for name, count in lines.items() if count > 40]


def test_no_function_is_longer_than_40_lines_no_module_than_300_and_no_workflow_file_than_200():
    paths = [*modules(), *sorted((ROOT / "benchmarks").glob("*.py"))]
    shared = [path for path in (ROOT / "tests").glob("*.py") if not path.name.startswith("test_")]
    assert [fault for path in [*paths, *shared] for fault in long_functions(path)] == []
    most = dict.fromkeys(paths, 300) | dict.fromkeys([ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")], 200)
    lines = {path: len(path.read_text().splitlines()) for path in most}
    assert {str(path.relative_to(ROOT)): count for path, count in lines.items() if count > most[path]} == {}


def test_nothing_imports_the_synthetic_world_but_itself():
    package = ROOT / "flip"
    others = [path for path in package.rglob("*.py") if "synthetic" not in path.relative_to(package).parts]
    assert len(others) > 200
    guilty = {path: names for path in others if (names := {n for n in imported(path) if "flip.synthetic" in n})}
    assert guilty == {}


def test_data_does_not_import_test_sets():
    folders = [PACKAGE / name for name in ("data", "sources", "download")]
    paths = [path for folder in folders for path in folder.glob("*.py")]
    assert len(paths) > 40
    for path in paths:
        assert not {name for name in imported(path) if name.startswith("flip.testsets")}, path


def drawn(module: str) -> set[Path]:
    return {path for path in sources(module) if "synthetic" in path.parts}


def test_a_texture_counts_for_what_draws_the_world_and_for_nothing_else():
    stages = [*DATA.values(), TRANSLATIONS, TRANSLATED_SET, PRETRAIN, EMBED, EVALUATE, *TRANSFER.values()]
    assert {stage.module for stage in stages if drawn(stage.at("elsewhere").module)} == set()
    for_world = {stage.at("world").module for stage in stages if drawn(stage.at("world").module)}
    assert for_world == {stage.world for stage in stages if stage.world}
    assert all(any(path.name == "world.py" or path.name == "textures.py" for path in drawn(one)) for one in for_world)
