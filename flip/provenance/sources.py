"""Identify the code that a job runs, by what it means: a hash that new words leave as it is, and new meaning changes.

Comments, docstrings, the layout of lines and texts for people (help, descriptions of parameters, messages of errors)
are words. All else counts: of every module that a stage imports, of data files beside these, and of the rule. What
starts a job, watches it and writes its receipt (flip.train.launch, flip.provenance.receipt) does not: the job
computes the same.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parent.parent
MEMORY = Path(".flip/code")
DATA = {".yaml", ".html", ".css", ".js"}  # kinds of the package's own data files
# Arguments of calls that are for people to read.
WORDS = {"Field": {"description"}, "ArgumentParser": {"prog", "description", "epilog"}}
WORDS |= {"add_argument": {"help", "metavar"}, "add_parser": {"help"}}
REGISTRIES = ("flip.config.objectives", "flip.losses")  # import the objectives that a variant has, by their names
# Parts of a rule that say where and how fast it runs, and not what.
PLACEMENT = {"log", "priority", "threads", "resources", "localrule", "message"}
WAITED = {"preflight"}  # an input that looks and decides nothing


def _is_text(node) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _fields(node: ast.AST) -> Iterator[tuple[str, object]]:
    """What counts of a node. Empty fields do not: which there are differs between versions of Python."""
    for name, value in ast.iter_fields(node):
        if isinstance(value, list) and name in ("body", "orelse", "finalbody"):
            value = [one for one in value if not (isinstance(one, ast.Expr) and _is_text(one.value))]
        if name == "keywords" and isinstance(node, ast.Call):
            unread = WORDS.get(getattr(node.func, "id", getattr(node.func, "attr", None)), ())
            value = [one for one in value if one.arg not in unread]
        if name not in ("ctx", "kind", "type_comment") and value is not None and value != []:
            yield name, value


def meaning(node, message: bool = False) -> str:
    """Return a syntax tree as text, without what is said to people; in a `message`, texts do not count."""
    if isinstance(node, list):
        return f"[{','.join(meaning(one, message) for one in node)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if message and _is_text(node):
        return "text"
    said = isinstance(node, ast.Raise)
    parts = (f"{name}={meaning(value, message or said)}" for name, value in _fields(node))
    return f"{type(node).__name__}({','.join(parts)})"


@cache
def path_of(module: str) -> Path | None:
    """Find the file that `python -m module` runs; None where the package has none."""
    path = ROOT.parent / Path(*module.split("."))
    found = (path.with_suffix(".py"), path / "__main__.py", path / "__init__.py")
    return next((p for p in found if p.exists()), None)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All below a module, in whatever block they stand; what is inside of expressions imports nothing."""
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        for one in getattr(node, block, ()):
            yield one
            yield from _statements(one)


def _imported(tree: ast.Module) -> set[str]:
    """Names that a module imports, wherever in it the import stands: of modules, or of what is in them."""
    names = set()
    for node in _statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def _read(content: bytes) -> dict:
    tree = ast.parse(content)
    texts = {node.value for node in ast.walk(tree) if _is_text(node) and node.value.endswith(tuple(DATA))}
    digest = sha256(meaning(tree).encode()).hexdigest()
    return {"meaning": digest, "imports": sorted(_imported(tree)), "texts": sorted(texts)}


@cache
def _facts(path: Path) -> dict:
    """What counts of a module, remembered by its bytes: to parse the whole package takes a second, and every call of
    Snakemake asks."""
    content = path.read_bytes()
    memory = MEMORY / f"{sha256(_own_bytes() + content).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError):  # not there, or half written
        return json.loads(memory.read_text())
    found = _read(content)
    if MEMORY.parent.is_dir():  # where a workflow is at home, and nowhere else
        with suppress(OSError):  # read-only
            MEMORY.mkdir(exist_ok=True)
            memory.write_text(json.dumps(found))
    return found


@cache
def _own_bytes() -> bytes:
    """The rules by which modules are read."""
    return Path(__file__).read_bytes()


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of this package that a module imports, with the packages around it."""
    parts = module.split(".")
    names = {*(".".join(parts[:end]) for end in range(1, len(parts))), *_facts(path_of(module))["imports"]}
    if "pkgutil.iter_modules" in names:  # which a package finds its own modules by
        names |= {f"{module}.{path.stem}" for path in path_of(module).parent.glob("*.py") if path.stem != "__init__"}
    return frozenset(name for name in names if name.split(".")[0] == "flip" and path_of(name))


@cache
def sources(module: str) -> tuple[Path, ...]:
    """Return the files of this package that `python -m module` runs, found by following imports without running it."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += _imports(name)
    return tuple(sorted({path_of(name) for name in seen}))


def _data_of(code: Iterable[Path]) -> set[Path]:
    """Data files of the package that modules read: those beside one of them that bear its name or stand in its text; a
    page's templates all belong to it, as they include each other."""
    found = set()
    for module in code:
        there = {path for path in module.parent.iterdir() if path.suffix in DATA}
        if own := {path for path in there if path.stem == module.stem or path.name in _facts(module)["texts"]}:
            pages = any(path.suffix != ".yaml" for path in own)
            found |= own | ({path for path in there if path.suffix != ".yaml"} if pages else set())
    return found


def _data_hash(path: Path) -> str:
    content = path.read_text()
    if path.suffix == ".yaml":
        import yaml  # here, as every job loads this module, and few read such files

        content = json.dumps(yaml.load(content, yaml.CSafeLoader), sort_keys=True, default=str)
    return sha256(content.encode()).hexdigest()


@cache
def source_hash(module: str, plugins: tuple[str, ...] = ()) -> str:
    """Return a hash that changes when the meaning of a file changes that the module imports, itself included, or of a
    data file that these read. `plugins` are modules that it imports by name, as it runs."""
    code = {path for one in (module, *plugins) for path in sources(one)}
    parts = {path: _facts(path)["meaning"] for path in code} | {path: _data_hash(path) for path in _data_of(code)}
    digest = sha256()
    for path, part in sorted(parts.items()):
        digest.update(f"{path.relative_to(ROOT)}\0{part}\0".encode())
    return digest.hexdigest()[:16]


# From a line that begins something to the next one that does, as no comment and no closing bracket does.
COMMENT = re.compile(r"^[ \t]*#.*\n", re.MULTILINE)
BLOCK = re.compile(r"^[^\s)\]}].*\n(?:[ \t)\]}].*\n|\n)*", re.MULTILINE)
RULE = re.compile(r"rule (\w+):")


def _blocks(folder: Path) -> list[str]:
    """What the workflow's files consist of: rules, functions with their decorators, assignments, directives."""
    paths = [folder.parent / "Snakefile", *sorted(folder.glob("*.smk"))]
    texts = (COMMENT.sub("", path.read_text()) for path in paths if path.exists())
    return [block for text in texts for block in BLOCK.findall(re.sub(r"^(@.*)\n", r"\1; ", text, flags=re.MULTILINE))]


def _parsed(block: str) -> ast.Module | None:
    """A block as Python; None of what Snakemake alone can read."""
    try:
        return ast.parse(re.sub(r"^(@[^;]*); ", r"\1\n", block))
    except SyntaxError:
        return None


INNER = ast.FunctionDef | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def _outer(node: ast.AST) -> Iterator[ast.AST]:
    """All of a tree that is not inside of a function or a comprehension, whose names are their own."""
    yield node
    for one in ast.iter_child_nodes(node) if not isinstance(node, INNER) else ():
        yield from _outer(one)


def _stored(nodes: Iterable[ast.AST]) -> set[str]:
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _given(tree: ast.Module) -> set[str]:
    """The names that a block of Python gives a meaning to."""
    nodes = list(_outer(tree))
    return _stored(nodes) | {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@cache
def _definitions(folder: Path) -> dict[str, list[ast.AST]]:
    """Name -> the blocks that give it a meaning; what gives none to any, and so acts by itself, stands under ""."""
    found = {}
    for tree in filter(None, map(_parsed, _blocks(folder))):
        acts = any(isinstance(one, ast.Expr | ast.Assign | ast.AugAssign) for one in tree.body)
        for name in _given(tree) or ({""} if acts else set()):
            found.setdefault(name, []).append(tree)
    return found


def _parts(rule: str) -> dict[str, ast.AST]:
    """The parts of a rule's text that say what it does, as trees; what it only waits for does not."""
    found = re.findall(r"^    (\w+):(.*\n(?:(?:        .*)?\n)*)", rule, re.MULTILINE)
    trees = {name: ast.parse(f"part(\n{text})") for name, text in found if name not in PLACEMENT}
    for tree in trees.values():
        call = tree.body[0].value
        call.keywords = [one for one in call.keywords if one.arg not in WAITED]
    return trees


def _names(tree: ast.AST) -> set[str]:
    """Names that a tree takes from elsewhere, those in the braces of its texts among them."""
    nodes = list(ast.walk(tree))
    loaded = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    in_texts = (re.findall(r"\{(\w+)", node.value) for node in nodes if _is_text(node))
    own = {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= set().union(*(_stored(ast.walk(node)) for node in nodes if isinstance(node, INNER)))
    return loaded.union(*in_texts) - own


@cache
def rule_hash(rule: str, folder: Path) -> str:
    """Return a hash of what a rule does: its inputs, outputs, parameters and command, with all that these name in the
    rules files of a folder and the Snakefile above, and what acts there by itself.

    Raises:
        ValueError: no file there has such a rule.
    """
    found = next((block for block in _blocks(folder) if (match := RULE.match(block)) and match[1] == rule), None)
    if found is None:
        raise ValueError(f"{folder}: no rule '{rule}'")
    known, trees = _definitions(folder), {name: [tree] for name, tree in _parts(found).items()}
    todo = {""}.union(*(_names(tree) for (tree,) in trees.values())) & known.keys()
    while todo:
        name = todo.pop()
        trees[f"{name}()"] = known[name]
        more = set().union(*map(_names, known[name])) & known.keys()
        todo |= {one for one in more if f"{one}()" not in trees}
    parts = (f"{name} {meaning(tree)}" for name, some in sorted(trees.items()) for tree in some)
    return sha256("\n".join(parts).encode()).hexdigest()[:16]
