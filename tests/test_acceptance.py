"""Whatever Snakemake and DVC have to do together (acceptance.yaml) is proven by tests that are there."""

import ast

from flip.config.strict_yaml import read_mapping
from tests.miniature import ROOT


def names_in(module: str) -> set[str]:
    path = ROOT / "tests" / f"{module}.py"
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_each_check_of_the_list_names_tests_that_are_there():
    checks = read_mapping(ROOT / "tests" / "acceptance.yaml")
    found = {check: [name.partition("::") for name in names] for check, names in checks.items()}
    assert all(found.values())
    missing = [
        (check, name) for check, names in found.items() for module, _, name in names if name not in names_in(module)
    ]
    assert missing == []
