"""Add the pages that are not files in docs/: the README, CONTRIBUTING and the reference, which is made from the code.

MkDocs calls `on_files` and `on_page_markdown`.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import TypeAdapter

from flip.commands import app
from flip.config.resolve import read_project
from flip.config.schema import Params
from flip.report.deviations import deviations

ROOT = Path(__file__).parent.parent
RESULTS = ("results.md", "systems.md", "scaling.md")  # pages with tables
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")  # pages beside docs/
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files in docs/."""
    pages = {name: (ROOT / name).read_text() for name in OUTSIDE} | {"index.md": (ROOT / "README.md").read_text()}
    pages |= {"reference/parameters.md": parameters(), "reference/commands.md": commands()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Fill in tables and deviations, and point links at the pages' places in the site."""
    filled = re.sub(r"<!-- deviations: (.*?) -->", lambda found: deviating(found[1].split()), markdown)
    filled = re.sub(r"<!-- table: (\S+) -->", lambda found: table(found[1]), filled)
    if "/" in page.file.src_uri:
        return filled
    inside = re.sub(r"\]\((?:\.\./|docs/)(?=[\w/-]+\.(?:md|svg))", "](", filled)
    # Files without a page are named, not linked.
    return re.sub(r"\[([\w.]+)\]\((?:\.\./)?(?:LICENSE|CITATION\.cff|README\.md)\)", r"`\1`", inside)


def deviating(variants: list[str]) -> str:
    """Say how variants differ from their papers at the default scale, from flip/report/deviations.yaml."""
    found = deviations(read_project(ROOT / "params.yaml"), variants, ())
    lines = [f"- {', '.join(f'`{row}`' for row in one.rows)}: {one.text}" for one in found]
    return "\n".join(["## What differs from the paper", "", *lines])


def table(name: str) -> str:
    """Return a table, with its notes, from the pages of results.

    Raises:
        ValueError: no page has this table.
    """
    for page in RESULTS:
        text = (ROOT / "docs" / page).read_text()
        if found := re.search(rf"^### Table {name}:.*?(?=^##|^<!--)", text, re.MULTILINE | re.DOTALL):
            return found[0].strip()
    raise ValueError(f"docs: no 'Table {name}' in {', '.join(RESULTS)}; `make results` and its like put tables there")


def parameters() -> str:
    """Describe every key of params.yaml: allowed values, value in `base`, meaning."""
    schema, base = params_schema(), yaml.safe_load((ROOT / "params.yaml").read_text())["base"]
    text = [
        "# Parameters",
        "",
        "All keys of `params.yaml`, by section. The column `base` has the value in the section `base` of that file.",
    ]
    for section, entry in sorted(schema["properties"].items()):
        found = list(rows(schema, resolved(schema, entry), section, base.get(section)))
        text += ["", f"## {section}", "", "| key | allowed | base | meaning |", "|---|---|---|---|", *found]
    return "\n".join(text) + "\n"


def params_schema() -> dict:
    """Return the JSON schema of frozen parameters; a model's own method does not follow sources within sources."""
    kinds = [("Params", "validation", TypeAdapter(Params))]
    _, found = TypeAdapter.json_schemas(kinds, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    return found | found["$defs"]["Params"]


def resolved(schema: dict, entry: dict) -> dict:
    """Follow a reference of a JSON schema; among alternatives, choose the one that has keys."""
    for one in [entry, *entry.get("anyOf", []), *entry.get("allOf", [])]:
        if "$ref" in one:
            return schema["$defs"][one["$ref"].rpartition("/")[2]] | {
                k: v for k, v in entry.items() if k == "description"
            }
    return entry


def rows(schema: dict, entry: dict, key: str, value: object) -> Iterator[str]:
    """Yield a line per key of a section, including its subsections."""
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
    """Describe the commands with their options, and list the stages, which are modules."""
    lines = [f"| `python -m {name}` | {about} |" for name, about in stages().items()]
    head = ["# Commands", "", "`flip --help` lists these commands; `make help` lists the targets of the Makefile."]
    text = [*head, *described(typer.main.get_command(app), "flip"), "", "## Stages", ""]
    text += ["Snakemake calls these with paths of files. Each has `--help`.", "", "| stage | |", "|---|---|"]
    return "\n".join([*text, *lines]) + "\n"


def described(command: Any, name: str) -> Iterator[str]:
    """Yield the lines about a command (purpose, arguments, options) or about all commands of a group."""
    if inner := getattr(command, "commands", None):
        for part, one in inner.items():
            yield from described(one, f"{name} {part}")
        return
    context = typer.Context(command, info_name=name)
    records = [one.get_help_record(context) for one in command.get_params(context)]
    yield from ("", f"## {name}", "", inspect.cleandoc(command.help), "", "| | |", "|---|---|")
    for cells in filter(None, records):
        what, about = (one.replace("|", "\\|").replace("<", "&lt;") for one in cells)
        yield f"| <code>{what}</code> | {about} |"


def stages() -> dict[str, str]:
    """Return the modules that are commands, with the first line of each docstring."""
    found = {}
    for path in sorted((ROOT / "flip").rglob("*.py")):
        text = path.read_text()
        if "argparse.ArgumentParser(" in text and 'if __name__ == "__main__"' in text:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
            found[name] = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0].split(": python -m")[0]
    return found
