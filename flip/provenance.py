"""Where a result comes from: source files, commit, versions, machine."""

import ast
import platform
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "torch",
    "numpy",
    "img2dataset",
    "webdataset",
    "clip-benchmark",
    "open_clip_torch",
    "tokenizers",
    "snakemake",
    "dvc",
)
ROOT = Path(__file__).parent
# What these say reaches a job through its frozen parameters.
PARAMETERS = {"flip.params", "flip.schema"}
DATA = {".yaml", ".html", ".css", ".js"}  # kinds of the package's own data files


@cache
def _source(module: str) -> Path | None:
    path = ROOT.parent / Path(*module.split("."))
    found = (path.with_suffix(".py"), path / "__main__.py", path / "__init__.py")
    return next((p for p in found if p.exists()), None)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All below a module, in whatever block they stand; what is inside of expressions imports nothing."""
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        for one in getattr(node, block, ()):
            yield one
            yield from _statements(one)


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of this package that a module imports, wherever in it the import stands."""
    names = set()
    for node in _statements(ast.parse(_source(module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return frozenset(n for n in names if n.startswith("flip.") and n not in PARAMETERS and _source(n))


@cache
def sources(module: str) -> tuple[Path, ...]:
    """The files of this package that `python -m module` runs, found by following its imports without running it."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += _imports(name)
    return tuple(sorted({_source(name) for name in seen}))


@cache
def source_hash(module: str) -> str:
    """Changes when a file that the module imports, itself included, or a data file beside one of them, changes."""
    code = sources(module)
    data = {path for folder in {one.parent for one in code} for path in folder.iterdir() if path.suffix in DATA}
    digest = sha256()
    for path in sorted({*code, *data}):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


# Tracked files that results are written to.
RESULTS = ("receipts", "metrics", "dvc.lock", "benchmarks/results.json")


def git_state() -> dict:
    """Commit and whether tracked files, other than results, differ from it; nothing outside a repository."""

    def git(*words):
        done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        commit = git("rev-parse", "HEAD")
    except FileNotFoundError:
        commit = None
    sources = [":(top)", *(f":(top,exclude){path}" for path in RESULTS)]
    changed = commit and bool(git("status", "--porcelain", "--untracked-files=no", "--", *sources))
    return {"commit": commit, "changed": changed}


def versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    installed = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def processor() -> str:
    """The processor's name."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def machine() -> dict[str, str]:
    return {"host": platform.node(), "system": platform.platform(), "processor": processor()}
