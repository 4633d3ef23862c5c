"""Collect the evidence of numbers: data, code, and differences between the parameters of a table's rows."""

from typing import TYPE_CHECKING

from flip.metrics.measures import ACCURACY, MEASURES
from flip.report import formats
from flip.report.cells import Comparison, chance
from flip.report.labels import IGNORED, flat
from flip.report.results import Results
from flip.report.runs import Run

if TYPE_CHECKING:
    from flip.report.page import Part

Facts = list[tuple[str, str]]


def manifests(runs: dict[str, Run]) -> dict[str, list[str]]:
    """Return the variants that were trained on each manifest."""
    found: dict[str, list[str]] = {}
    for name, run in runs.items():
        found.setdefault(run.data["manifest"], []).append(name)
    return found


def versions(runs: dict[str, Run]) -> Facts:
    """Return all commits and package versions that results were made with."""
    found: dict[str, set[str]] = {}
    for run in runs.values():
        for one in run.receipts:
            for name, version in ({"flip commit": formats.commit(one["git"])} | one["versions"]).items():
                found.setdefault(name, set()).add(str(version))
    return [(name, ", ".join(sorted(values))) for name, values in sorted(found.items())]


def of_run(variant: str, run: Run) -> Facts:
    """Return the evidence of any number of a variant."""
    (_, commits), *packages = sorted(versions({variant: run}), key=lambda fact: fact[0] != "flip commit")
    training = run.training[0]
    return [
        ("Variant", variant),
        ("Seeds", ", ".join(map(str, run.params.seeds))),
        (
            "Trained on",
            f"{run.data['images']:,} images, {run.samples:,} samples seen in {training['steps']:,} steps",
        ),
        ("Data manifest", run.data["manifest"]),
        ("Pairs of the manifest", run.data["pairs"]),
        ("Weights (SHA-256)", ", ".join(one["weights"] for one in run.metrics)),
        ("Training took", ", ".join(f"{one['seconds']:,.0f} s on {one['device']}" for one in run.training)),
        ("Commit", commits),
        ("Packages", ", ".join(f"{name} {version}" for name, version in packages)),
    ]


def of_set(name: str, content: dict) -> Facts:
    """Return the evidence of any number that was measured on a test set."""
    guess, train = chance(content), content.get("train", {}).get("sha256")
    size = f"{content['samples']:,} images" + (f", {content['classes']:,} classes" if content["classes"] else "")
    measure = content.get("measure", ACCURACY)
    found = [("Evaluation set", f"{name}: {size}"), ("Its revision (SHA-256)", content["sha256"])]
    found += [("Measure", MEASURES[measure].title)] if measure != ACCURACY else []
    found += [("Chance", f"{guess:.2g}%")] if guess else []
    return found + ([("Its training split (SHA-256)", train)] if train else [])


def differing(results: Results, table: Comparison) -> dict[str, list[tuple[str, str, str]]]:
    """Return for each row the frozen parameters that differ from the first row's: key, value here, value there."""
    first, *_ = rows = [row.variant for row in table.rows]
    known = {name: flat(results.runs[name].params.model_dump(mode="json", exclude=IGNORED)) for name in rows}
    return {
        name: [
            (key, known[name].get(key, "-"), known[first].get(key, "-"))
            for key in dict.fromkeys([*known[first], *known[name]])
            if known[name].get(key) != known[first].get(key)
        ]
        for name in rows
    }


def behind_cells(parts: "list[Part]") -> dict[str, dict]:
    """Return what the page's script shows for a cell: by variant, by test set, and by table and variant."""
    found: dict[str, dict] = {"runs": {}, "sets": {}, "differ": {}, "first": {}}
    for part in parts:
        found["runs"] |= {name: of_run(name, run) for name, run in part.results.runs.items()}
        found["sets"] |= {name: of_set(name, content) for name, content in part.results.sets.items()}
        found["differ"] |= {table.name: differing(part.results, table) for table in part.tables}
        found["first"] |= {table.name: table.rows[0].variant for table in part.tables}
    return found
