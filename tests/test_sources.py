"""The identity of code is its meaning: words leave it as it is, and whatever else changes in anything that a stage
imports changes it."""

import ast
import gc
import random
import shutil
from functools import cache
from pathlib import Path

import pytest

from flip.provenance import sources, specs
from flip.provenance.collect import COLLECTING
from flip.provenance.rules import rule_hash
from flip.provenance.sources import meaning, source_hash
from tests.miniature import ROOT

KNOWN = [*specs.DATA.values(), specs.PRETRAIN, specs.EVALUATE, specs.COST, specs.TABLES, specs.EMBED, specs.CODEBOOK]
KNOWN += [specs.TRANSLATIONS, specs.TRANSLATED_SET, specs.PAGE, *specs.TRANSFER.values()]
STAGES = {stage.at(place).module for stage in KNOWN for place in ("world", "elsewhere")}

BEFORE = '''
"""A module."""
from pydantic import Field

LIMIT = 3  # of something

class One:
    """A class."""
    size: int = Field(description="its size", ge=0)

    def half(self, x):
        """Return half."""
        if x > LIMIT:
            raise ValueError(f"{x} is too large; at most {LIMIT}")
        return x / 2
'''


def of(text: str) -> str:
    return meaning(ast.parse(text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another\n\nword."""'),
        ('"""Return half."""', '"""Give the half of x."""'),
        ('        """Return half."""\n', ""),
        ("# of something", "# of something else"),
        ('"its size"', 'f"its {1} size"'),
        ("is too large; at most", "exceeds"),
        ("x / 2", "(x\n            / 2)"),
        ('f"{x}', "f'{x}"),
    ],
)
def test_words_do_not_count(old, new):
    new = new.replace("'", '"') if old == 'f"{x}' else new
    assert old in BEFORE
    assert of(BEFORE.replace(old, new)) == of(BEFORE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("ge=0", "ge=1"),
        ("ge=0", "gt=0"),
        ("x > LIMIT", "x >= LIMIT"),
        ("x / 2", "x // 2"),
        ("ValueError", "KeyError"),
        ("{x} is", "{self} is"),
        ("def half(self, x)", "def half(self, x=1)"),
        ("class One:", "class One(int):"),
        ("    def half", "    @property\n    def half"),
        ("return x / 2", "return x / 2 or None"),
        ("return x / 2", 'return "x / 2"'),
    ],
)
def test_meaning_counts(old, new):
    assert old in BEFORE
    assert of(BEFORE.replace(old, new)) != of(BEFORE)


def test_texts_that_are_no_docstrings_count():
    assert of('NAMES = {"a": "b"}\nprint("c")') != of('NAMES = {"a": "b"}\nprint("d")')
    assert of('def f(description="a"): return description') != of('def f(description="b"): return description')


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package to change, and how it is asked: nothing of it is remembered between two questions."""
    root = shutil.copytree(ROOT / "flip", tmp_path / "flip", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "ROOT", root)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".flip").mkdir()

    def forget():
        for name in ("path_of", "_facts", "_imports", "_data_in", "_data_hash", "sources", "source_hash"):
            getattr(sources, name).cache_clear()

    forget()
    gc.disable()  # which walks through all that other tests have left, for each few thousand nodes of a tree
    yield root, forget
    gc.enable()
    forget()


def hashes(forget):
    forget()
    return {module: source_hash(module) for module in sorted(STAGES)}


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def with_words(path):
    """A module with other words in all functions and classes, and comments between its lines."""
    tree = ast.parse(path.read_text())
    for node in [tree, *functions(tree), *(one for one in ast.walk(tree) if isinstance(one, ast.ClassDef))]:
        text = ast.Expr(ast.Constant(f"Other words about {getattr(node, 'name', 'a module')}."))
        has_one = ast.get_docstring(node, clean=False) is not None
        node.body = [text, *node.body[has_one:]]
        has_future = isinstance(node, ast.Module)
        node.body = node.body if not has_future else [text, *node.body[1:]]
    return "# A comment.\n" + ast.unparse(ast.fix_missing_locations(tree)).replace("\n", "  # words\n", 1)


def test_other_words_in_every_function_of_the_package_plan_nothing(package):
    root, forget = package
    before = hashes(forget)
    for path in root.rglob("*.py"):
        path.write_text(with_words(path))
    assert hashes(forget) == before


def remember_all_but_meanings(monkeypatch, known):
    """Reads a module again where it is not `known`; files beside modules, and which modules there are, stay."""

    def facts(path):
        if path not in known:
            known[path] = sources._read(path.read_bytes())
        return known[path]

    facts.cache_clear = known.clear
    beside = cache(sources._data_of)
    monkeypatch.setattr(sources, "_facts", facts)
    monkeypatch.setattr(sources, "_data_of", lambda code: beside(frozenset(code)))


def test_another_meaning_of_any_function_that_a_stage_imports_plans_it(package, monkeypatch):
    """Each module's functions are changed in turn, one in a module at a time, the one drawn; the stages whose hash
    changes are those that import the module."""
    root, forget = package
    before, draw = hashes(forget), random.Random(0)
    importers = {path: {m for m in STAGES if path in sources.sources(m)} for path in root.rglob("*.py")}
    assert sum(map(bool, importers.values())) > 120
    remember_all_but_meanings(monkeypatch, known := {})
    for path, expected in importers.items():
        text = path.read_text()
        found = [node for node in functions(ast.parse(text)) if node.body[0].lineno > node.lineno]  # none in one line
        if not (expected and found):
            continue
        with_lines = [one for one in found if one.body[-1].lineno > one.lineno]  # no `def size(self) -> int: ...`
        lines, one = text.splitlines(keepends=True), draw.choice(with_lines)
        last = one.body[-1]
        lines.insert(last.lineno - 1, f"{' ' * last.col_offset}changed = 1\n")
        path.write_text("".join(lines))
        known.pop(path, None)
        sources.source_hash.cache_clear()
        assert {module for module in STAGES if source_hash(module) != before[module]} == expected, path
        path.write_text(text)
        known.pop(path)


def test_every_function_has_a_meaning_of_its_own():
    """In all modules: a statement more in any one function is another meaning of its module."""
    for path in sorted((ROOT / "flip").rglob("*.py")):
        for statement in ast.parse(path.read_text()).body:  # a module's meaning lists that of each
            seen = {meaning(statement)}
            for node in functions(statement):
                node.body.append(ast.Pass())
                found = meaning(statement)
                assert found not in seen, (path, node.name)
                seen.add(found)
                node.body.pop()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("return int(self.model.patches * (1", "return -1 + int(self.model.patches * (1", True),
        ("Return the patches that the image tower reads", "Give the patches that the image tower is shown", False),
    ],
)
def test_a_derived_property_is_code_of_every_stage_that_reads_parameters(package, old, new, expected):
    root, forget = package
    before = hashes(forget)
    path = root / "config" / "schema.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    after = hashes(forget)
    given_none = {"flip.testsets.fingerprints", "flip.data.manifest", COLLECTING}
    assert {module for module in STAGES - given_none if after[module] != before[module]} == (
        STAGES - given_none if expected else set()
    )


def test_the_command_of_a_package_counts_for_what_runs_it_alone():
    """To import flip.config.schema runs flip/config/__init__.py, and not its __main__.py."""
    for module in STAGES:
        commands = {path for path in sources.sources(module) if path.name == "__main__.py"}
        assert commands <= {sources.path_of(module)}, module


def test_the_package_itself_counts_for_every_stage(package):
    root, forget = package
    before = hashes(forget)
    (root / "__init__.py").write_text("import random\n")
    after = hashes(forget)
    assert all(after[module] != before[module] for module in STAGES)


def test_a_data_file_counts_for_those_who_read_it_by_its_content(package):
    root, forget = package
    before = hashes(forget)
    path = root / "report" / "paper.yaml"
    path.write_text(f"# A comment.\n{path.read_text()}")
    assert hashes(forget) == before
    path.write_text(path.read_text() + "\nanother: 1\n")
    changed = {module for module, found in hashes(forget).items() if found != before[module]}
    assert changed == {"flip.report.tables", "flip.report.whole"}
    page = root / "report" / "macros.html"
    page.write_text(page.read_text() + "<p>")
    assert {module for module, found in hashes(forget).items() if found != before[module]} == changed


def test_imports_are_found_in_whatever_block_they_stand():
    """As a walk through the whole syntax tree finds them, in all modules of this package."""

    def everywhere(module):
        nodes = list(ast.walk(ast.parse(sources.path_of(module).read_text())))
        froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {name for node in froms for name in (node.module, *(f"{node.module}.{a.name}" for a in node.names))}
        if ("pkgutil", "iter_modules") in {(one.module, alias.name) for one in froms for alias in one.names}:
            names |= {f"{module}.{path.stem}" for path in sources.path_of(module).parent.glob("[!_]*.py")}
        around = {str(parent).replace("/", ".") for parent in Path(*module.split(".")).parents}
        return {name for name in names | around if f"{name}.".startswith("flip.") and sources.path_of(name)}

    paths = [path.relative_to(sources.ROOT.parent).with_suffix("") for path in sources.ROOT.rglob("*.py")]
    modules = {".".join(path.parts).removesuffix(".__init__").removesuffix(".__main__") for path in paths}
    assert len(modules) > 150
    assert {module: sources._imports(module) for module in modules} == {one: everywhere(one) for one in modules}


RULES = '''
# What training needs.
def begin(wildcards):
    """The options."""
    return ["--start", START]


START = (
    "weights"
)
HOW = "fast"


rule train:
    """Train."""
    input:
        spec="a",
    output:
        "b",
    log:
        "c",
    threads: 1
    resources:
        mem_mb=1,
    params:
        begin=begin,
    shell:
        "run {params.begin}"
        # more
        " > {output}"


rule other:
    output:
        "d",
'''


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("# What training needs.", "# Another comment.", False),
        ('"""Train."""', '"""Train a model."""', False),
        ('"""The options."""', '"""What it begins with."""', False),
        ("        # more\n", "", False),
        ("mem_mb=1", "mem_mb=2", False),
        ("threads: 1", "threads: 2", False),
        ('log:\n        "c"', 'log:\n        "logs/c"', False),
        ('"d"', '"e"', False),
        ('    "weights"', '    "other weights"', True),
        ('"--start"', '"--begin"', True),
        ('spec="a"', 'spec="z"', True),
        ("run {params.begin}", "run fast {params.begin}", True),
        ("begin=begin,", "begin=[],", True),
        ('    return ["--start", START]', '# At the margin.\n    return ["--start", START]', False),
        ('    return ["--start", START]', '# At the margin.\n    return ["--other", START]', True),
        ("def begin(wildcards):", "@cached\ndef begin(wildcards):", True),
        ("\n\nrule train:", '\nSTART += "more"\n\n\nrule train:', True),
        ("\n\nrule train:", "\nif START:\n    START: str = START * 2\n\n\nrule train:", True),
        ("\n\nrule train:", '\nshell.prefix("export A=1; ")\n\n\nrule train:', True),
        ("run {params.begin}", "{HOW} {params.begin}", True),
        ('HOW = "fast"', 'HOW = "slow"', False),
    ],
)
def test_a_rule_counts_by_what_it_does_with_all_that_it_calls(tmp_path, old, new, counts):
    assert old in RULES
    for name, text in (("before", RULES), ("after", RULES.replace(old, new))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.smk").write_text(text)
    assert (rule_hash("train", tmp_path / "before") != rule_hash("train", tmp_path / "after")) == counts


def test_a_value_that_a_command_names_counts(tmp_path):
    found = set()
    for how in ("fast", "slow"):
        (tmp_path / how).mkdir()
        (tmp_path / how / "one.smk").write_text(RULES.replace("run {", "{HOW} {").replace('"fast"', f'"{how}"'))
        found.add(rule_hash("train", tmp_path / how))
    assert len(found) == 2


def test_every_rule_of_the_workflow_has_an_identity():
    names = {
        *specs.DATA,
        "pretrain",
        "embed",
        "embed_pairs",
        "codebook",
        "evaluate",
        "transfer",
        "cost",
        "tables",
        "page",
    }
    found = {name: rule_hash(name, ROOT / "rules") for name in sorted(names)}
    assert len(set(found.values())) == len(names)
    with pytest.raises(ValueError, match="no rule 'none'"):
        rule_hash("none", ROOT / "rules")
