"""Hash the code that a job runs by its meaning: the hash changes with the code, and not with words for people.

Comments, docstrings, the layout of lines and texts for people (help, descriptions of parameters, messages of errors)
do not count. All else does: of every module that a stage imports, and of data files in the same folder.
What starts a job, watches it and writes its receipt (flip.train.launch, flip.provenance.receipt) does not: the job
computes the same. flip/provenance/rules.py does so for the rule.
"""

import ast
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeGuard

ROOT = Path(__file__).parent.parent
MEMORY = Path(".flip/code")
PUBLIC = ROOT / "__init__.py"  # for programs that import the package; no stage calls what it offers
DATA = {".yaml", ".html", ".css", ".js"}  # suffixes of the package's own data files
# Arguments of calls that are for people to read.
WORDS = {"Field": {"description"}, "ArgumentParser": {"prog", "description", "epilog"}}
WORDS |= {"add_argument": {"help", "metavar"}, "add_parser": {"help"}}
REGISTRIES = ("flip.config.objectives", "flip.losses")  # import the objectives that a variant has, by their names


def is_text(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _fields(node: ast.AST) -> Iterator[tuple[str, object]]:
    """Yield the fields of a node that count. Empty ones do not: which there are differs between versions of Python."""
    for name, value in ast.iter_fields(node):
        if isinstance(value, list) and name in ("body", "orelse", "finalbody"):
            value = [one for one in value if not (isinstance(one, ast.Expr) and is_text(one.value))]
        if name == "keywords" and isinstance(node, ast.Call):
            unread = WORDS.get(getattr(node.func, "id", getattr(node.func, "attr", "")), set())
            value = [one for one in value if one.arg not in unread]
        if name not in ("ctx", "kind", "type_comment") and value is not None and value != []:
            yield name, value


def meaning(node: object, message: bool = False) -> str:
    """Return a syntax tree as text, without texts for people; in a `message`, no string counts."""
    if isinstance(node, list):
        return f"[{','.join(meaning(one, message) for one in node)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if message and is_text(node):
        return "text"
    said = isinstance(node, ast.Raise)
    parts = (f"{name}={meaning(value, message or said)}" for name, value in _fields(node))
    return f"{type(node).__name__}({','.join(parts)})"


@cache
def path_of(module: str) -> Path | None:
    """Return the file that `python -m module` runs; None if the package has none."""
    path = ROOT.parent / Path(*module.split("."))
    found = (path.with_suffix(".py"), path / "__main__.py", path / "__init__.py")
    return next((p for p in found if p.exists()), None)


def _file(module: str) -> Path:
    """Return the file of a module that the package has."""
    path = path_of(module)
    assert path is not None, module
    return path


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements of a module, in whatever block; expressions import nothing."""
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        for one in getattr(node, block, ()):
            yield one
            yield from _statements(one)


def _imported(tree: ast.Module) -> set[str]:
    """Return the names that a module imports anywhere: of modules, or of what is in them."""
    names = set()
    for node in _statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def _read(content: bytes) -> dict[str, Any]:
    """Parse a module: a hash of its meaning, its imports, and the names of data files among its strings."""
    tree = ast.parse(content)
    texts = {str(node.value) for node in ast.walk(tree) if is_text(node)}
    digest = sha256(meaning(tree).encode()).hexdigest()
    return {
        "meaning": digest,
        "imports": sorted(_imported(tree)),
        "texts": sorted(text for text in texts if text.endswith(tuple(DATA))),
    }


@cache
def _facts(path: Path) -> dict[str, Any]:
    """Return what `_read` gives for a file, cached on disk by its bytes.

    Parsing the whole package takes a second, and every call of Snakemake asks.
    """
    content = b"" if path == PUBLIC else path.read_bytes()
    memory = MEMORY / f"{sha256(_own_bytes() + content).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError):  # missing, or half written
        return json.loads(memory.read_text())
    found = _read(content)
    if MEMORY.parent.is_dir():  # where a workflow is at home, and nowhere else
        with suppress(OSError):  # read-only
            MEMORY.mkdir(exist_ok=True)
            memory.write_text(json.dumps(found))
    return found


@cache
def _own_bytes() -> bytes:
    """Return this file, as a change in how modules are read makes the cache invalid."""
    return Path(__file__).read_bytes()


@cache
def _imports(module: str) -> frozenset[str]:
    """Return the modules of this package that a module imports, and the packages that contain it."""
    parts, path = module.split("."), _file(module)
    names = {*(".".join(parts[:end]) for end in range(1, len(parts))), *_facts(path)["imports"]}
    if "pkgutil.iter_modules" in names:  # which a package finds its own modules by
        package = module.removesuffix(".__init__")
        names |= {f"{package}.{path.stem}" for path in path.parent.glob("*.py") if path.stem != "__init__"}
    return frozenset(name for name in names if name.split(".")[0] == "flip" and path_of(name))


def _loaded(name: str) -> str:
    """Return the module that an import of this name loads: of a package its __init__, never its __main__."""
    init = f"{name}.__init__"
    return init if path_of(init) else name


@cache
def sources(module: str) -> tuple[Path, ...]:
    """Return the files of this package that `python -m module` runs, found by following imports without running it."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += map(_loaded, _imports(name))
    return tuple(sorted({_file(name) for name in seen}))


@cache
def _data_in(folder: Path) -> frozenset[Path]:
    """Return the data files of a folder."""
    return frozenset(path for path in folder.iterdir() if path.suffix in DATA)


def _data_of(code: Iterable[Path]) -> set[Path]:
    """Return the data files that modules read: those in a module's folder that have its name or occur in its strings.

    Of a page's templates all belong to it, as they include each other.
    """
    found: set[Path] = set()
    for module in code:
        there = _data_in(module.parent)
        if own := {path for path in there if path.stem == module.stem or path.name in _facts(module)["texts"]}:
            pages = any(path.suffix != ".yaml" for path in own)
            found |= own | ({path for path in there if path.suffix != ".yaml"} if pages else set())
    return found


@cache
def _data_hash(path: Path) -> str:
    """Return the SHA-256 of a data file's text, or of what a YAML file means."""
    content = path.read_text()
    if path.suffix == ".yaml":
        import yaml  # here, as every job imports this module, and few read such files

        content = json.dumps(yaml.load(content, yaml.CSafeLoader), sort_keys=True, default=str)
    return sha256(content.encode()).hexdigest()


@cache
def source_hash(module: str, plugins: tuple[str, ...] = ()) -> str:
    """Return a hash over the meaning of a module, of the package's modules that it imports, and of their data files.

    `plugins` are modules that it imports by name as it runs. The hash has 16 hexadecimal digits.
    """
    code = {path for one in (module, *plugins) for path in sources(one)}
    parts = {path: _facts(path)["meaning"] for path in code} | {path: _data_hash(path) for path in _data_of(code)}
    digest = sha256()
    for path, part in sorted(parts.items()):
        digest.update(f"{path.relative_to(ROOT)}\0{part}\0".encode())
    return digest.hexdigest()[:16]
