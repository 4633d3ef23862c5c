"""Build a table as rows of cells: value, interval, paired difference, the paper's value, verdict, cost."""

from dataclasses import dataclass
from functools import cached_property

from flip.config.resolve import Project
from flip.config.sections.report import Table
from flip.metrics.names import INFERENCE, PROBE, Metric, lacking
from flip.report import costs, formats
from flip.report.columns import Cell, Column, TableRow, of_metric
from flip.report.costs import cost
from flip.report.deviations import Deviation, deviations
from flip.report.equal_time import equal_times
from flip.report.intervals import Estimates
from flip.report.labels import labels
from flip.report.paper import noise, printed, read_paper
from flip.report.paper import tested as tested_by_paper
from flip.report.results import Results
from flip.report.swept import swept
from flip.report.verdicts import ONE_RUN, Contrast, holm


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
            | row.cost
            | {f"paper_{one.column.key}": one.paper for one in row.cells if one.column.paper}
            | row.behind
            | self.tested(cell)
            for row in self.rows
            for cell in row.metrics
        ]

    def wide(self) -> list[dict]:
        """Return one record per row."""
        return [
            {"variant": row.variant, "label": row.label}
            | {name: number for cell in row.cells for name, number in cell.in_files().items()}
            | row.behind
            for row in self.rows
        ]


def leading_metric(project: Project) -> Metric:
    """Return the one that stands for a report: the figure's, or else the first column of the first table."""
    if project.tradeoff:
        return project.metric(project.tradeoff.metric)
    return project.metrics(next(iter(project.tables)))[0]


def chance(test: dict) -> float | None:
    """Return the accuracy of guessing, percent: the set's own, or that of its classes; None where there is neither."""
    return test.get("chance") or (100 / test["classes"] if test.get("classes") else None)


def tested(test: str, content: dict, metrics: list[Metric]) -> dict:
    """Return what a table says of a test set: content and chance; its training split only where a probe is shown."""
    kept = {key: value for key, value in content.items() if key != "train" or Metric(test, PROBE) in metrics}
    return kept | {"chance": chance(content)}


def rounded(record: dict) -> dict:
    """Round floats to four digits, once, so that files and page round the same number; of p-values two digits count."""
    found = {key: round(value, 4) if isinstance(value, float) else value for key, value in record.items()}
    return found | ({"p_value": float(f"{record['p_value']:.2g}")} if record.get("p_value") is not None else {})


class Builder:
    """Build tables of results; resample once for all of them."""

    def __init__(self, results: Results):
        self.results = results
        self.paper = read_paper()

    @cached_property
    def estimates(self) -> Estimates:
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

    def contrast(self, variant: str, metric: Metric, name: str) -> Contrast | None:
        """Return a number of a table beside what it is compared with, if anything."""
        key, table = (variant, metric), self.results.project.tables[name]
        reference = self.reference(variant, metric, table) if key in self.estimates else None
        if reference is None:
            return None
        ours, one_run = self.estimates.difference(key, reference), self.estimates.single(key, reference)
        return Contrast(reference, ours, one_run, *self.printed_difference(key, reference, name))

    def printed_difference(
        self, key: tuple[str, Metric], reference: tuple[str, Metric], name: str
    ) -> tuple[float | None, float | None]:
        """Return the paper's difference of two numbers of a table, and its noise; None without either number."""
        paper, digits = self.printed(name), self.paper["digits"].get(name, 1)
        values = [paper.get(row, {}).get(str(one)) for row, one in (key, reference)]
        if values[0] is None or values[1] is None:
            return None, None
        sized = [(values[0], self.tested(key[1])), (values[1], self.tested(reference[1]))]
        return round(values[0] - values[1], digits), noise(sized, digits, self.results.bootstrap.confidence)

    def tested(self, metric: Metric) -> int | None:
        """Return of how many images or captions the paper's value is the accuracy, if that is known."""
        return tested_by_paper(self.paper, metric, self.results.sets)

    @cached_property
    def contrasts(self) -> dict[tuple[str, str, Metric], Contrast]:
        """Return those of all tables, by (table, variant, metric)."""
        project = self.results.project
        cells = [
            (name, v, m) for name, one in project.tables.items() for v in one.variants for m in project.metrics(name)
        ]
        found = {(name, v, m): self.contrast(v, m, name) for name, v, m in cells}
        return {cell: one for cell, one in found.items() if one}

    @cached_property
    def significant(self) -> set[tuple]:
        """Return the (variant, metric, reference) that differ, of all in the report that have a verdict."""
        p_values = {
            (variant, metric, one.reference): one.difference.p_value
            for (_, variant, metric), one in self.contrasts.items()
            if one.paper is not None and not one.one_run
        }
        return holm(p_values, 1 - self.results.bootstrap.confidence)

    def compared(self, variant: str, metric: Metric, name: str) -> dict:
        """Return the fields of a cell that hold the difference from what its metric is compared with, if anything."""
        if not (one := self.contrasts.get((name, variant, metric))):
            return {}
        confidence, (row, other) = self.results.bootstrap.confidence, one.reference
        low, high = (None, None) if one.one_run else one.difference.interval(confidence)
        return {
            "reference": row if other == metric else str(other),
            "difference": one.difference.value,
            "difference_low": low,
            "difference_high": high,
            "p_value": None if one.one_run else one.difference.p_value,
            "paper_difference": one.paper,
            "paper_noise": one.noise,
            "verdict": one.verdict(confidence, (variant, metric, one.reference) in self.significant),
        }

    def measured(self, variant: str, metric: Metric, name: str) -> dict:
        """Return the fields of a metric's cell."""
        if missing := self.results.runs[variant].missing(metric):
            return {"missing": missing}
        low, high = self.estimates[variant, metric].interval(self.results.bootstrap.confidence)
        verdict = ONE_RUN if self.estimates.single((variant, metric)) else None
        found = {"value": self.estimates[variant, metric].value, "low": low, "high": high, "verdict": verdict}
        return found | self.compared(variant, metric, name)

    def cell(self, variant: str, column: Column, name: str) -> Cell:
        table = self.results.project.tables[name]
        if column.metric:
            found = self.measured(variant, column.metric, name)
        else:
            found = column.numbers(cost(variant, self.results), cost(table.variants[0], self.results))
        theirs = None if "missing" in found else self.printed(name).get(variant, {}).get(column.key)
        return Cell(column, paper=theirs, **rounded(found))

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

    def row(self, variant: str, label: str, name: str, deviations: list[Deviation]) -> TableRow:
        cells = [self.cell(variant, column, name) for column in self.columns(name)]
        own = [one for one in deviations if variant in one.rows]
        return TableRow(variant, label, cells, self.evidence(variant), own)

    def deviations(self, name: str) -> list[Deviation]:
        """Return how the rows of a table differ from their papers."""
        project = self.results.project
        return deviations(project, project.tables[name].variants, {one.task for one in project.metrics(name)})

    def columns(self, name: str) -> list[Column]:
        """Return the columns of a table: its metrics, and all costs."""
        return [*map(of_metric, self.results.project.metrics(name)), *costs.COLUMNS]

    def printed(self, name: str) -> dict[str, dict[str, float]]:
        """Return the paper's values of a table, variant -> metric or cost -> value."""
        return printed(self.paper, name, self.results.project.metrics(name))

    def unsized(self, name: str) -> list[str]:
        """Say of which metrics of a table the paper's sampling noise is not known."""
        compared = [
            metric for (table, _, metric), one in self.contrasts.items() if table == name and one.paper is not None
        ]
        unknown = [str(metric) for metric in dict.fromkeys(compared) if not self.tested(metric)]
        return [formats.unsized(unknown)] if unknown else []

    def unmeasured(self, name: str) -> list[str]:
        """Return the sets that a table of params.yaml names and the scale does not have."""
        project = self.results.project
        stated = project.stated(name, project.tables_of_all_scales[name].metrics)
        return [formats.lacking(test) for test in lacking(stated, project.places)]

    def table(self, name: str) -> Comparison:
        table, sets = self.results.project.tables[name], self.results.sets
        metrics = self.results.project.metrics(name)
        texts = labels([self.results.runs[variant].params for variant in table.variants])
        used = dict.fromkeys(metric.set for metric in metrics)
        differing = self.deviations(name)
        return Comparison(
            name=name,
            title=table.title,
            columns=self.columns(name),
            rows=[self.row(v, text, name, differing) for v, text in zip(table.variants, texts, strict=True)],
            sets={test: tested(test, sets[test], metrics) for test in used},
            trained=formats.trained(self.results.trained(table.variants), self.share(table.variants[0])),
            notes=[
                *self.paper["notes"].get(name, []),
                *self.unsized(name),
                *self.unmeasured(name),
                *swept(self.results.project, table.variants),
                *equal_times(self.results, table.variants),
                *(one.note for one in differing),
            ],
        )

    def tables(self) -> list[Comparison]:
        return [self.table(name) for name in self.results.project.tables]
