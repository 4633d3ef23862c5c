"""Read YAML that all programs read alike: what Snakemake (YAML 1.1) and DVC (1.2) would take for different values, or
what a mapping says twice, is refused with its line.

What is left is null, booleans, decimal numbers, strings, lists, mappings with names as keys, and aliases.
"""

import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from flip.config.faults import ParameterError, shortened
from flip.files import read_planned

DEEPEST = 40  # lists and mappings in each other
TOO_DEEP = f"more than {DEEPEST} lists and mappings in each other"
LARGEST = 100_000  # values, each alias counted as what it stands for
TAG = "tag:yaml.org,2002:"
MERGE = f"{TAG}merge"
# What ends a line, or separates, for some YAML parsers alone, cannot be seen, or is no character.
FORBIDDEN = re.compile(
    "[^\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]|\r(?!\n)"
)
# How YAML 1.2 reads a plain scalar, as far as 1.1 gives the same value.
PLAIN = {
    "null": re.compile(r"|~|null|Null|NULL"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?(0|[1-9][0-9]{0,24})"),
    "float": re.compile(r"[-+]?(0|[1-9][0-9]{0,24})\.[0-9]{0,40}([eE][-+][0-9]{1,4})?"),
}
# What some program takes for a number.
NUMERIC = re.compile(
    r"[-+]?(0[xob][0-9a-f_]+|(?=[._:]*[0-9])[0-9._][0-9._:]*(e[-+]?[0-9]*)?|\.(inf|nan))", re.IGNORECASE
)
UNLIKE = "is not read alike by all YAML programs"
AS_NUMBER = (
    f"{UNLIKE}; write a plain decimal, as 0.001, 1.0e-3 (with point and sign) or 1000; or in quotes if it is text"
)
FAULTS = {
    "bool": f"{UNLIKE}; write true or false, or in quotes if it is text",
    "timestamp": "is a date, which is no value here; write it in quotes if it is text",
    "merge": "merges mappings and is no value; write it in quotes if it is text",
} | dict.fromkeys(("null", "int", "float", "str", "value"), AS_NUMBER)


class _Reader:
    """Construct values from the nodes of one file."""

    def __init__(self, file: str):
        self.file = file
        # Id of a node -> its value, how many values it stands for, and how deep; None while it is being made.
        self.known: dict[int, Any] = {}

    def refuse(self, node: yaml.Node, fault: str) -> NoReturn:
        raise ParameterError(f"{self.file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}: {fault}")

    def value(self, node: yaml.Node) -> Any:
        """Return the node's value; one that is named by several aliases is constructed once."""
        if id(node) in self.known:
            if self.known[id(node)] is None:
                self.refuse(node, "this anchor holds an alias of itself; write the value out")
            return self.known[id(node)][0]
        self.known[id(node)] = None
        made, held = self.made(node), [self.known[id(one)] for one in parts(node)]
        size = 1 + sum(one[1] for one in held)
        height = 1 + max((one[2] for one in held), default=0)
        if height > DEEPEST:
            self.refuse(node, TOO_DEEP)
        if size > LARGEST:
            self.refuse(node, f"more than {LARGEST:,} values, with what aliases stand for; write fewer")
        self.known[id(node)] = made, size, height
        return made

    def made(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        kind = "map" if isinstance(node, yaml.MappingNode) else "seq"
        if node.tag != TAG + kind:
            self.refuse(node, f"tag {shortened(repr(node.tag))}; only plain lists, mappings and values are read")
        return self.mapping(node) if isinstance(node, yaml.MappingNode) else [self.value(one) for one in node.value]

    def scalar(self, node: yaml.ScalarNode) -> Any:
        """Return a value that YAML 1.1 and 1.2 agree on."""
        text, tag = node.value, node.tag.removeprefix(TAG)
        if node.style not in (None, "") or (tag == "str" and not read_otherwise(text)):
            return text if tag == "str" else self.refuse(node, f"tag {tag!r} before a text; write the value alone")
        if tag not in PLAIN or not PLAIN[tag].fullmatch(text):
            fault = FAULTS.get(tag, f"has the tag {tag!r}; only plain lists, mappings and values are read")
            self.refuse(node, f"{shortened(repr(text))} {fault}")
        if tag == "null":
            return None
        return text.lower() == "true" if tag == "bool" else {"int": int, "float": float}[tag](text)

    def key(self, node: yaml.Node) -> str:
        """Return a mapping's key, which is a text."""
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{TAG}str" and node.value != "<<":
            return self.value(node)
        shown = node.value if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
        return self.refuse(node, f"key {shortened(repr(shown))}: keys are names; put quotes around it if it is one")

    def mapping(self, node: yaml.MappingNode) -> dict:
        """Return its keys, each of which is there once, with their values."""
        lines: dict[str, int] = {}
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == MERGE:
                self.refuse(key_node, "<< is no key here; write `like: NAME`, which params.yaml explains")
            key = self.key(key_node)
            if key in lines:
                self.refuse(key_node, f"key {shortened(repr(key))} is also in line {lines[key]}; leave one of them")
            lines[key] = key_node.start_mark.line + 1
            found[key] = self.value(value_node)
        return found


def parts(node: yaml.Node) -> list[yaml.Node]:
    """Return the nodes that a node contains."""
    if isinstance(node, yaml.ScalarNode):
        return []
    return [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value


def read_otherwise(text: str) -> bool:
    """Return whether some YAML program takes for another value what YAML 1.1 takes for a text."""
    return bool(NUMERIC.fullmatch(text) or any(one.fullmatch(text) for one in PLAIN.values()))


def _text(path: Path, file: str) -> str:
    """Return the file's text, which must be printable."""
    content = read_planned(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ParameterError(
            f"{file}:{line}: not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8"
        ) from None
    if found := FORBIDDEN.search(text):
        line, column = text.count("\n", 0, found.start()) + 1, found.start() - text.rfind("\n", 0, found.start())
        fault = f"character {found[0]!a} has no place here; delete it, or write a space"
        raise ParameterError(f"{file}:{line}:{column}: {fault}")
    return text


def _must_be_shallow(text: str, file: str) -> None:
    """Raise ParameterError for lists nested too deeply, which would crash Python."""
    depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            mark = event.start_mark
            assert mark is not None
            raise ParameterError(f"{file}:{mark.line + 1}:{mark.column + 1}: {TOO_DEEP}")


def _explained(error: yaml.YAMLError, file: str) -> ParameterError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
    said = ", ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))) or str(error)
    return ParameterError(f"{place}: no YAML: {shortened(said)}")


def read_mapping(path: str | Path) -> dict:
    """Read the mapping that a YAML file contains.

    Raises:
        ParameterError: one line with file, line and column: no UTF-8, no YAML, more than one document, no mapping, a
            key that is there twice or is no text, a value that YAML 1.1 and 1.2 read differently, a date, a tag, an
            alias of itself, or too much.
    """
    file = str(path)
    text = _text(Path(path), file)
    try:
        _must_be_shallow(text, file)
        node = yaml.compose(text, yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise _explained(error, file) from None
    if node is None:
        raise ParameterError(f"{file}: empty; it needs a mapping of keys to values")
    found = _Reader(file).value(node)
    if not isinstance(found, dict):
        raise ParameterError(f"{file}:{node.start_mark.line + 1}: not a mapping of keys to values")
    return found
