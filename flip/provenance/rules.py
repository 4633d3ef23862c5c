"""Hash what a rule of the workflow does by its meaning: inputs, outputs, parameters, command, and what these use.

Where and how fast it runs does not count, nor do comments, docstrings and the layout of lines.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

from flip.provenance.sources import is_text, meaning

# Directives of a rule that say where and how fast it runs, and not what.
PLACEMENT = {"log", "priority", "threads", "resources", "localrule", "message"}
WAITED = {"preflight"}  # an input that is only waited for
# From an unindented line to the next one that is neither a comment nor a closing bracket.
COMMENT = re.compile(r"^[ \t]*#.*\n", re.MULTILINE)
BLOCK = re.compile(r"^[^\s)\]}].*\n(?:[ \t)\]}].*\n|\n)*", re.MULTILINE)
RULE = re.compile(r"rule (\w+):")


def _blocks(folder: Path) -> list[str]:
    """Split the workflow's files into rules, functions with their decorators, assignments and directives."""
    paths = [folder.parent / "Snakefile", *sorted(folder.glob("*.smk"))]
    texts = (COMMENT.sub("", path.read_text()) for path in paths if path.exists())
    return [block for text in texts for block in BLOCK.findall(re.sub(r"^(@.*)\n", r"\1; ", text, flags=re.MULTILINE))]


def _parsed(block: str) -> ast.Module | None:
    """Parse a block as Python; None if it is Snakemake's own syntax."""
    try:
        return ast.parse(re.sub(r"^(@[^;]*); ", r"\1\n", block))
    except SyntaxError:
        return None


INNER = ast.FunctionDef | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def _outer(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree outside of functions and comprehensions, which have local names."""
    yield node
    for one in ast.iter_child_nodes(node) if not isinstance(node, INNER) else ():
        yield from _outer(one)


def _stored(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names that nodes assign to."""
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _given(tree: ast.Module) -> set[str]:
    """Return the names that a block of Python defines."""
    nodes = list(_outer(tree))
    return _stored(nodes) | {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@cache
def _definitions(folder: Path) -> dict[str, list[ast.AST]]:
    """Return the blocks that define each name; blocks that define none but have an effect are under ""."""
    found: dict[str, list[ast.AST]] = {}
    for tree in filter(None, map(_parsed, _blocks(folder))):
        acts = any(isinstance(one, ast.Expr | ast.Assign | ast.AugAssign) for one in tree.body)
        for name in _given(tree) or ({""} if acts else set()):
            found.setdefault(name, []).append(tree)
    return found


def _part(text: str) -> ast.AST:
    """Parse the arguments of a directive as those of a call, without inputs that are only waited for."""
    tree = ast.parse(f"part(\n{text})")
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            node.value.keywords = [one for one in node.value.keywords if one.arg not in WAITED]
    return tree


def _parts(rule: str) -> dict[str, ast.AST]:
    """Parse the directives of a rule that say what it does."""
    found = re.findall(r"^    (\w+):(.*\n(?:(?:        .*)?\n)*)", rule, re.MULTILINE)
    return {name: _part(text) for name, text in found if name not in PLACEMENT}


def _names(tree: ast.AST) -> set[str]:
    """Return the names that a tree uses and does not define, those in braces of its strings included."""
    nodes = list(ast.walk(tree))
    loaded = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    in_texts = (re.findall(r"\{(\w+)", str(node.value)) for node in nodes if is_text(node))
    own = {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= set().union(*(_stored(ast.walk(node)) for node in nodes if isinstance(node, INNER)))
    return loaded.union(*in_texts) - own


@cache
def rule_hash(rule: str, folder: Path) -> str:
    """Return a hash of what a rule does: inputs, outputs, parameters, command, and the definitions that these use.

    Definitions are those in the rules files of a folder and in the Snakefile above it, where statements with an effect
    count for every rule. The hash has 16 hexadecimal digits.

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
