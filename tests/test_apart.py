"""The synthetic world lies apart: nothing imports it but itself, so that no change of a word or of a texture in it
reaches what is made of users' own data."""

import ast
from pathlib import Path

from flip.provenance.sources import sources
from flip.provenance.specs import DATA, EMBED, EVALUATE, PRETRAIN, TRANSFER, TRANSLATED_SET, TRANSLATIONS
from tests.miniature import ROOT


def imported(path: Path) -> set[str]:
    """Names that a module imports, wherever the import stands, and those that its texts name."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    found = {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
    return found | {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


def test_nothing_imports_the_synthetic_world_but_itself():
    package = ROOT / "flip"
    others = [path for path in package.rglob("*.py") if "synthetic" not in path.relative_to(package).parts]
    assert len(others) > 200
    guilty = {path: names for path in others if (names := {n for n in imported(path) if "flip.synthetic" in n})}
    assert guilty == {}


def test_data_does_not_import_test_sets():
    for path in (ROOT / "flip" / "data").glob("*.py"):
        assert not {name for name in imported(path) if name.startswith("flip.testsets")}, path


def drawn(module: str) -> set[Path]:
    return {path for path in sources(module) if "synthetic" in path.parts}


def test_a_texture_counts_for_what_draws_the_world_and_for_nothing_else():
    stages = [*DATA.values(), TRANSLATIONS, TRANSLATED_SET, PRETRAIN, EMBED, EVALUATE, *TRANSFER.values()]
    assert {stage.module for stage in stages if drawn(stage.at("elsewhere").module)} == set()
    for_world = {stage.at("world").module for stage in stages if drawn(stage.at("world").module)}
    assert for_world == {stage.world for stage in stages if stage.world}
    assert all(any(path.name == "world.py" or path.name == "textures.py" for path in drawn(one)) for one in for_world)
