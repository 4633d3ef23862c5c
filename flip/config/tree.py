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


def read_tree(path: str | Path) -> dict:
    """Return what params.yaml and its reports say, of which no more than the outline is checked.

    Raises:
        ParameterError: no YAML that all programs read alike; unknown or missing top-level keys, or what is no mapping
            there; names that are none; a report's file that is not there; an entry that is like none, or like itself.
    """
    tree = read_mapping(path)
    must_know(tree, File.model_fields, "key", str(path))
    if isinstance(tree.get("reports"), dict):
        tree = _with_reports(tree, Path(path).parent)
    check(File, tree, str(path))
    return tree | {section: written_out(tree[section], section) for section in LIKE}


def _with_reports(tree: dict, folder: Path) -> dict:
    """Return the tree with each report read from its file, if it names one, and what it holds in its place."""
    found = {"tables": {}, "tradeoff": None} | tree | {"reports": {}}
    for name, report in tree["reports"].items():
        where = f"params.yaml, reports.{name}"
        report = _read_report(folder / report, where) if isinstance(report, str) else report
        found["reports"][name] = report
        if isinstance(report, dict):
            found["reports"][name] = {key: one for key, one in report.items() if key not in ("tables", "tradeoff")}
            found["tables"] = _with_tables(found["tables"], report.get("tables", {}), name, where)
            found["tradeoff"] = _only_one(found["tradeoff"], report.get("tradeoff"), name, where)
    return found


def _read_report(path: Path, where: str) -> dict:
    if not path.is_file():
        raise ParameterError((where, f"'{path}': no such file; write one, or take the report out"))
    return read_mapping(path)


def _with_tables(tables: dict, own: dict, report: str, where: str) -> dict:
    """Return all tables, those of a report with its name; what is none is left for the schema to refuse."""
    if not isinstance(own, dict):
        raise ParameterError((f"{where}.tables", f"no mapping of names to tables (value: {own!r})"))
    if twice := [name for name in own if name in tables]:
        raise ParameterError((f"{where}.tables.{twice[0]}", "another report has a table of that name; choose another"))
    named = {"report": report}
    return tables | {name: one | named if isinstance(one, dict) else one for name, one in own.items()}


def _only_one(tradeoff: dict | None, own: dict | None, report: str, where: str) -> dict | None:
    """Return the trade-off figure with the name of its report; there is one in all."""
    if own is None:
        return tradeoff
    if tradeoff is not None:
        raise ParameterError((f"{where}.tradeoff", "another report has such a figure, and there is one; remove one"))
    return own | {"report": report} if isinstance(own, dict) else own


def written_out(entries: dict[str, dict | None], section: str) -> dict[str, dict | None]:
    """Return the entries with each `like: NAME` replaced by what NAME says, and the keys beside it over that.

    Raises:
        ParameterError: every entry that is like none of the others, or like itself.
    """
    found, faults = {}, Faults()
    for name in entries:
        with faults.collected():
            found[name] = _followed([name], entries, section)
    faults.raise_all()
    return found


def _followed(chain: list[str], entries: dict, section: str) -> dict | None:
    """Return what the last of a chain of names says, of which each is like the next one."""
    own = entries[chain[-1]]
    if not own or "like" not in own:
        return own
    where, other = f"params.yaml, {section}.{chain[-1]}.like", own["like"]
    must_know([other], entries, LIKE[section], where)
    if other in chain:
        fault = f"{' -> '.join([*chain, other])} is a circle; write the keys of one of them out"
        raise ParameterError((where, fault))
    rest = {key: value for key, value in own.items() if key != "like"}
    return merge(_followed([*chain, other], entries, section) or {}, rest)
