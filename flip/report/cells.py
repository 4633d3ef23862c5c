"""Build a table as rows of cells: value, interval, paired difference, the paper's value, agreement, cost."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import yaml

from flip.config.resolve import Project
from flip.config.sections.report import Table
from flip.metrics.names import ENSEMBLE, MASKED, PROBE, Metric, lacking
from flip.report import costs, formats
from flip.report.bootstrap import Estimate
from flip.report.columns import Cell, Column, TableRow, of_metric
from flip.report.costs import cost
from flip.report.labels import labels
from flip.report.results import Results
from flip.report.swept import swept

INFERENCE = {MASKED, ENSEMBLE}  # ways to measure what is measured on whole images, too
PAPER = Path(__file__).with_name("paper.yaml")


@dataclass(frozen=True)
class Comparison:
    """Hold a table of params.yaml with its numbers."""

    name: str
    title: str
    columns: list[Column]
    rows: list[TableRow]
    sets: dict[str, dict]
    trained: str
    notes: list[str]

    def tested(self, cell: Cell) -> dict:
        """Return what a record says of the test set of a metric's cell."""
        assert cell.metric
        test = self.sets[cell.metric.set]
        return {"chance": test["chance"], "test_samples": test["samples"], "test_sha256": test["sha256"]}

    def records(self) -> list[dict]:
        """Return the table in long form: one record per row and metric."""
        return [
            {"table": self.name, "variant": row.variant, "label": row.label, "metric": cell.column.key}
            | cell.fields()
            | {"agrees": cell.agrees}
            | row.cost
            | {f"paper_{one.column.key}": one.paper for one in row.cells if one.column.paper}
            | row.evidence
            | self.tested(cell)
            for row in self.rows
            for cell in row.metrics
        ]

    def wide(self) -> list[dict]:
        """Return one record per row."""
        return [
            {"variant": row.variant, "label": row.label}
            | {name: number for cell in row.cells for name, number in cell.in_files().items()}
            | row.evidence
            for row in self.rows
        ]


def leading_metric(project: Project) -> Metric:
    """Return the one that stands for a report: the figure's, or else the first column of the first table."""
    if project.tradeoff:
        return project.metric(project.tradeoff.metric)
    return project.metrics(next(iter(project.tables)))[0]


def read_paper() -> dict:
    return yaml.safe_load(PAPER.read_text())


def chance(test: dict) -> float | None:
    """Return the accuracy of guessing, percent: the set's own, or that of its classes; None where there is neither."""
    return test.get("chance") or (100 / test["classes"] if test.get("classes") else None)


def tested(test: str, content: dict, metrics: list[Metric]) -> dict:
    """Return what a table says of a test set: content and chance; its training split only where a probe is shown."""
    kept = {key: value for key, value in content.items() if key != "train" or Metric(test, PROBE) in metrics}
    return kept | {"chance": chance(content)}


def rounded(record: dict) -> dict:
    """Round floats to four digits, once, so that files and page round the same number."""
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in record.items()}


class Builder:
    """Build tables of results; resample once for all of them."""

    def __init__(self, results: Results):
        self.results = results
        self.paper = read_paper()

    @cached_property
    def estimates(self) -> dict[tuple[str, Metric], Estimate]:
        return self.results.estimates()

    def baseline(self, variant: str, table: Table) -> str:
        """Return the row to compare with: the one it was tuned from, else the first of its mask ratio, else the first
        of all."""
        runs = self.results.runs
        start = runs[variant].params.start
        if start in table.variants:
            return start
        mask = runs[variant].params.masking.image
        alike = next(name for name in table.variants if runs[name].params.masking.image == mask)
        return alike if alike != variant else table.variants[0]

    def reference(self, variant: str, metric: Metric, table: Table) -> tuple[str, Metric] | None:
        """Return what a number is compared with: of a way of inference the plain one in the same row, else that of the
        row's baseline, or where that has no such metric, of the first row above that has."""
        if metric.task in INFERENCE and metric.set in table.metrics:
            return variant, Metric(metric.set)
        above = table.variants[: table.variants.index(variant)]
        others = [one for one in (self.baseline(variant, table), *above) if one != variant]
        return next(((one, metric) for one in others if (one, metric) in self.estimates), None)

    def compared(self, variant: str, metric: Metric, table: Table, paper: dict) -> dict:
        """Return the fields of a cell that hold the difference from what its metric is compared with, if anything."""
        if not (reference := self.reference(variant, metric, table)):
            return {}
        difference = self.estimates[variant, metric] - self.estimates[reference]
        low, high = difference.interval(self.results.bootstrap.confidence)
        printed = [paper.get(row, {}).get(str(one)) for row, one in ((variant, metric), reference)]
        return {
            "reference": reference[0] if reference[1] == metric else str(reference[1]),
            "difference": difference.value,
            "difference_low": low,
            "difference_high": high,
            "paper_difference": None if None in printed else round(printed[0] - printed[1], 1),
        }

    def measured(self, variant: str, metric: Metric, table: Table, paper: dict) -> dict:
        """Return the fields of a metric's cell."""
        if missing := self.results.runs[variant].missing(metric):
            return {"missing": missing}
        estimate = self.estimates[variant, metric]
        low, high = estimate.interval(self.results.bootstrap.confidence)
        return {"value": estimate.value, "low": low, "high": high} | self.compared(variant, metric, table, paper)

    def cell(self, variant: str, column: Column, table: Table, paper: dict) -> Cell:
        if column.metric:
            found = self.measured(variant, column.metric, table, paper)
        else:
            found = column.numbers(cost(variant, self.results), cost(table.variants[0], self.results))
        printed = None if "missing" in found else paper.get(variant, {}).get(column.key)
        return Cell(column, paper=printed, **rounded(found))

    def share(self, variant: str) -> float | None:
        """Return the share of the wanted images that are used; known for the current data only."""
        here = self.results.runs[variant].data["manifest"] == self.results.manifest["id"]
        return self.results.share_used if here else None

    def evidence(self, variant: str) -> dict:
        run = self.results.runs[variant]
        return {
            "steps": run.training[0]["steps"],
            "seconds": round(sum(one["seconds"] for one in run.training) / len(run.training), 1),
            "seeds": " ".join(map(str, run.params.seeds)),
            **run.data,
            "share_used": self.share(variant),
            "git": ", ".join(sorted({formats.commit(one["git"]) for one in run.receipts})),
            "weights": " ".join(one["weights"] for one in run.metrics),
        }

    def row(self, variant: str, label: str, name: str, paper: dict) -> TableRow:
        table = self.results.project.tables[name]
        cells = [self.cell(variant, column, table, paper) for column in self.columns(name)]
        return TableRow(variant, label, cells, self.evidence(variant))

    def columns(self, name: str) -> list[Column]:
        """Return the columns of a table: its metrics, and all costs."""
        return [*map(of_metric, self.results.project.metrics(name)), *costs.COLUMNS]

    def printed(self, name: str, metrics: list[Metric]) -> dict[str, dict[str, float]]:
        """Return the paper's values of a table, variant -> metric or cost -> value: each also by the name of the metric
        of ours that it stands beside."""
        beside = self.paper["beside"]
        theirs = {str(one): str(replace(one, set=beside.get(one.set, one.set))) for one in metrics}
        return {
            variant: row | {ours: row[other] for ours, other in theirs.items() if other in row}
            for variant, row in self.paper["tables"].get(name, {}).items()
        }

    def unmeasured(self, name: str) -> list[str]:
        """Return the sets that a table of params.yaml names and the scale does not have."""
        project = self.results.project
        stated = project.stated(name, project.tables_of_all_scales[name].metrics)
        return [formats.lacking(test) for test in lacking(stated, project.places)]

    def table(self, name: str) -> Comparison:
        table, sets = self.results.project.tables[name], self.results.sets
        metrics = self.results.project.metrics(name)
        paper = self.printed(name, metrics)
        texts = labels([self.results.runs[variant].params for variant in table.variants])
        used = dict.fromkeys(metric.set for metric in metrics)
        return Comparison(
            name=name,
            title=table.title,
            columns=self.columns(name),
            rows=[self.row(v, text, name, paper) for v, text in zip(table.variants, texts, strict=True)],
            sets={test: tested(test, sets[test], metrics) for test in used},
            trained=formats.trained(self.results.trained(table.variants), self.share(table.variants[0])),
            notes=[
                *self.paper["notes"].get(name, []),
                *self.unmeasured(name),
                *swept(self.results.project, table.variants),
            ],
        )

    def tables(self) -> list[Comparison]:
        return [self.table(name) for name in self.results.project.tables]
