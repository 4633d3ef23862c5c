"""Pages of the documentation that stand elsewhere, or in the code: the README, CONTRIBUTING, the reference.

MkDocs calls `on_files` and `on_page_markdown`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from flip.config.schema import Params

ROOT = Path(__file__).parent.parent
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")  # pages beside docs/
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not stand in docs/."""
    pages = {name: (ROOT / name).read_text() for name in OUTSIDE} | {"index.md": (ROOT / "README.md").read_text()}
    pages |= {"reference/parameters.md": parameters(), "reference/commands.md": commands()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links lead to where the pages are in the site."""
    inside = re.sub(r"\]\((?:\.\./|docs/)(?=[\w-]+\.(?:md|svg))", "](", markdown)
    # Files without a page are named, not linked.
    return re.sub(r"\[([\w.]+)\]\((?:\.\./)?(?:LICENSE|CITATION\.cff|README\.md)\)", r"`\1`", inside)


def parameters() -> str:
    """Describe every key of params.yaml: what it allows, its value in `base`, what it means."""
    schema, base = Params.model_json_schema(), yaml.safe_load((ROOT / "params.yaml").read_text())["base"]
    text = [
        "# Parameters",
        "",
        "Made from `flip/config/`, whose checks these are. `base` is the section of `params.yaml`.",
    ]
    for section, entry in sorted(schema["properties"].items()):
        found = list(rows(schema, resolved(schema, entry), section, base.get(section)))
        text += ["", f"## {section}", "", "| key | allowed | base | meaning |", "|---|---|---|---|", *found]
    return "\n".join(text) + "\n"


def resolved(schema: dict, entry: dict) -> dict:
    """Follow a reference of a JSON schema; of alternatives, the one that has keys."""
    for one in [entry, *entry.get("anyOf", []), *entry.get("allOf", [])]:
        if "$ref" in one:
            return schema["$defs"][one["$ref"].rpartition("/")[2]] | {
                k: v for k, v in entry.items() if k == "description"
            }
    return entry


def rows(schema: dict, entry: dict, key: str, value: object) -> Iterator[str]:
    """Yield a line per key of a section, those of its sections too."""
    if "properties" in entry:
        for name, one in entry["properties"].items():
            below = value.get(name) if isinstance(value, dict) else None
            yield from rows(schema, resolved(schema, one), f"{key}.{name}", below)
        return
    shown = "" if value is None else f"`{yaml.safe_dump(value, default_flow_style=True, width=10**6).splitlines()[0]}`"
    cells = [f"`{key}`", allowed(schema, entry), shown, entry.get("description", "")]
    yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def allowed(schema: dict, entry: dict) -> str:
    """Say what a value may be."""
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(allowed(schema, one) for one in entry["anyOf"]))
    if "enum" in entry or "const" in entry:
        return ", ".join(f"`{one}`" for one in entry.get("enum", [entry.get("const")]))
    if "$ref" in entry:
        return allowed(schema, resolved(schema, entry))
    if "prefixItems" in entry:
        return f"list of {len(entry['prefixItems'])}: {allowed(schema, entry['prefixItems'][0])}"
    if "items" in entry:
        return f"list of {allowed(schema, entry['items'])}"
    bounds = [f"{sign} {entry[name]:g}" for name, sign in LIMITS.items() if name in entry]
    return " ".join([entry.get("type", "any").replace("object", "mapping"), *bounds])


def commands() -> str:
    """List the modules that are commands, with the first line of what each says of itself."""
    found = {}
    for path in sorted((ROOT / "flip").rglob("*.py")):
        text = path.read_text()
        if "argparse.ArgumentParser(" in text and 'if __name__ == "__main__"' in text:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
            found[name] = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    lines = [f"| `python -m {name}` | {about.split(': python -m')[0]} |" for name, about in found.items()]
    head = [
        "# Commands",
        "",
        "Each has `--help`. Snakemake calls most of them; `make help` lists the targets of the Makefile.",
    ]
    return "\n".join([*head, "", "| command | |", "|---|---|", *lines]) + "\n"
