"""Read params.yaml and the files of its reports as one tree, in which each `like: NAME` is written out.

In the tree all tables, and the trade-off figure, stand beside the reports and say whose they are: so jobs read it from
specs/<scale>/params.yaml.
"""

from pathlib import Path

from flip.config.faults import Faults, ParameterError, check, must_know
from flip.config.frozen import merge
from flip.config.schema import File
from flip.config.strict_yaml import read_mapping

# Sections whose entries may be like each other, and what one is called.
LIKE = {"scales": "scale", "variants": "variant", "tables": "table"}

Files = dict[str, str]  # the file of each report, table and figure ('tables.a') that is not in params.yaml itself


def read_tree(path: str | Path) -> dict:
    """Return what params.yaml and its reports say, of which no more than the outline is checked.

    Raises:
        ParameterError: no YAML that all programs read alike; unknown or missing top-level keys, or what is no mapping
            there; names that are none; a report's file that is not there; an entry that is like none, or like itself.
    """
    return read_files(path)[0]


def read_files(path: str | Path) -> tuple[dict, Files]:
    """Return what `read_tree` does, and in which files what is not in params.yaml stands."""
    tree, files = read_mapping(path), Files()
    must_know(tree, File.model_fields, "key", str(path))
    if isinstance(tree.get("reports"), dict):
        tree, files = _with_reports(tree, Path(path).parent)
    check(File, tree, str(path))
    return tree | {section: written_out(tree[section], section, files) for section in LIKE}, files


def place(key: str, files: Files) -> str:
    """Name the file that a key of the tree stands in, and the key there."""
    for entry, file in files.items():
        if key == entry or key.startswith((f"{entry}.", f"{entry} ")):
            inner = key.removeprefix(entry).removeprefix(".") if entry.startswith("reports.") else key
            return f"{file}, {inner}" if inner else file
    return f"params.yaml, {key}"


def _with_reports(tree: dict, folder: Path) -> tuple[dict, Files]:
    """Return the tree with each report read from its file, if it names one, and what it holds in its place."""
    found, files = {"tables": {}, "tradeoff": None} | tree | {"reports": {}}, Files()
    for name, report in tree["reports"].items():
        where = f"params.yaml, reports.{name}."
        if isinstance(report, str):
            file, report = report, _read_report(folder / report, f"params.yaml, reports.{name}")
            where, files = f"{file}, ", files | dict.fromkeys(_entries(name, report), file)
        found["reports"][name] = report
        if isinstance(report, dict):
            found["reports"][name] = {key: one for key, one in report.items() if key not in ("tables", "tradeoff")}
            found["tables"] = _with_tables(found["tables"], report.get("tables", {}), name, where)
            found["tradeoff"] = _only_one(found["tradeoff"], report.get("tradeoff"), name, where)
    return found, files


def _entries(name: str, report: dict) -> list[str]:
    """Return what a report's file holds, by the keys of the tree."""
    tables = report.get("tables")
    named = [f"tables.{table}" for table in tables] if isinstance(tables, dict) else []
    return [f"reports.{name}", *named, *(["tradeoff"] if report.get("tradeoff") else [])]


def _read_report(path: Path, where: str) -> dict:
    if not path.is_file():
        raise ParameterError((where, f"'{path}': no such file; write one, or take the report out"))
    return read_mapping(path)


def _with_tables(tables: dict, own: dict, report: str, where: str) -> dict:
    """Return all tables, those of a report with its name; what is none is left for the schema to refuse."""
    if not isinstance(own, dict):
        raise ParameterError((f"{where}tables", f"not a mapping of names to tables (value: {own!r})"))
    if twice := [name for name in own if name in tables]:
        raise ParameterError((f"{where}tables.{twice[0]}", "another report has a table of that name; choose another"))
    named = {"report": report}
    return tables | {name: one | named if isinstance(one, dict) else one for name, one in own.items()}


def _only_one(tradeoff: dict | None, own: dict | None, report: str, where: str) -> dict | None:
    """Return the trade-off figure with the name of its report; there is one in all."""
    if own is None:
        return tradeoff
    if tradeoff is not None:
        raise ParameterError((f"{where}tradeoff", "another report has this figure, and only one may; remove one"))
    return own | {"report": report} if isinstance(own, dict) else own


def written_out(entries: dict[str, dict | None], section: str, files: Files | None = None) -> dict[str, dict | None]:
    """Return the entries with each `like: NAME` replaced by what NAME says, and the keys beside it over that.

    Raises:
        ParameterError: every entry that is like none of the others, or like itself.
    """
    found, faults = {}, Faults()
    for name in entries:
        with faults.collected():
            found[name] = _followed([name], entries, section, files or {})
    faults.raise_all()
    return found


def _followed(chain: list[str], entries: dict, section: str, files: Files) -> dict | None:
    """Return what the last of a chain of names says, of which each is like the next one."""
    own = entries[chain[-1]]
    if not own or "like" not in own:
        return own
    where, other = place(f"{section}.{chain[-1]}.like", files), own["like"]
    must_know([other], entries, LIKE[section], where)
    if other in chain:
        fault = f"{' -> '.join([*chain, other])} is a circle; write the keys of one of them out"
        raise ParameterError((where, fault))
    rest = {key: value for key, value in own.items() if key != "like"}
    return merge(_followed([*chain, other], entries, section, files) or {}, rest)
