"""Build a table as rows of cells: value, interval, paired difference, the paper's value, agreement, cost."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import yaml

from flip.config.resolve import Project
from flip.config.sections.report import Table
from flip.metrics.names import ENSEMBLE, MASKED, PROBE, Metric, lacking
from flip.report import formats
from flip.report.bootstrap import Estimate
from flip.report.costs import cost, in_paper, relative
from flip.report.labels import labels
from flip.report.results import Results

INFERENCE = {MASKED, ENSEMBLE}  # ways to measure what is measured on whole images, too
PAPER = Path(__file__).with_name("paper.yaml")


@dataclass(frozen=True)
class Cell:
    """Hold one metric of one row, in percent and percentage points. Fields without a comparison are None, and so are
    all of a metric that was not measured, for the reason in `missing`."""

    metric: Metric
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reference: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    paper: float | None = None
    paper_difference: float | None = None
    missing: str | None = None

    @property
    def agrees(self) -> str | None:
        """Say whether the difference has the paper's sign: yes, no, or within noise if our interval includes 0."""
        if self.difference is None or self.paper_difference is None:
            return None
        assert self.difference_low is not None
        assert self.difference_high is not None
        if self.difference_low <= 0 <= self.difference_high:
            return "within noise"
        return "yes" if self.difference * self.paper_difference > 0 else "no"


@dataclass(frozen=True)
class TableRow:
    variant: str
    label: str
    cells: list[Cell]
    cost: dict[str, float]
    paper_cost: dict[str, float]
    evidence: dict


@dataclass(frozen=True)
class Comparison:
    """Hold a table of params.yaml with its numbers."""

    name: str
    title: str
    rows: list[TableRow]
    sets: dict[str, dict]
    trained: str
    notes: list[str]

    def tested(self, cell: Cell) -> dict:
        """Return the test set of a cell."""
        return self.sets[cell.metric.set]

    def records(self) -> list[dict]:
        """Return the table in long form: one record per cell."""
        return [
            {"table": self.name, "variant": row.variant, "label": row.label}
            | asdict(cell)
            | {"metric": str(cell.metric)}
            | {"agrees": cell.agrees}
            | row.cost
            | {f"paper_{one.key}": one.printed(row) for one in in_paper()}
            | row.evidence
            | {"chance": self.tested(cell)["chance"]}
            | {f"test_{key}": self.tested(cell)[key] for key in ("samples", "sha256")}
            for row in self.rows
            for cell in row.cells
        ]

    def wide(self) -> list[dict]:
        """Return one record per row."""
        numbers = ("low", "high", "difference", "difference_low", "difference_high", "reference", "paper")
        return [
            {"variant": row.variant, "label": row.label}
            | {
                key: value
                for cell in row.cells
                for key, value in {
                    str(cell.metric): cell.value,
                    **{f"{cell.metric}_{name}": getattr(cell, name) for name in numbers},
                    f"{cell.metric}_agrees": cell.agrees,
                }.items()
            }
            | row.cost
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

    def cell(self, variant: str, metric: Metric, table: Table, paper: dict) -> Cell:
        if missing := self.results.runs[variant].missing(metric):
            return Cell(metric, missing=missing)
        confidence = self.results.bootstrap.confidence
        estimate = self.estimates[variant, metric]
        low, high = estimate.interval(confidence)
        printed = paper.get(variant, {}).get(str(metric))
        cell = {"metric": metric, "value": estimate.value, "low": low, "high": high, "paper": printed}
        if reference := self.reference(variant, metric, table):
            difference = estimate - self.estimates[reference]
            low, high = difference.interval(confidence)
            other = paper.get(reference[0], {}).get(str(reference[1]))
            cell |= {
                "reference": reference[0] if reference[1] == metric else str(reference[1]),
                "difference": difference.value,
                "difference_low": low,
                "difference_high": high,
                "paper_difference": None if None in (printed, other) else round(printed - other, 1),
            }
        return Cell(**rounded(cell))

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
        printed = {one.key: paper[variant][one.key] for one in in_paper() if one.key in paper.get(variant, {})}
        return TableRow(
            variant=variant,
            label=label,
            cells=[self.cell(variant, metric, table, paper) for metric in self.results.project.metrics(name)],
            cost=rounded(relative(cost(variant, self.results), cost(table.variants[0], self.results))),
            paper_cost=printed,
            evidence=self.evidence(variant),
        )

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
            rows=[self.row(v, text, name, paper) for v, text in zip(table.variants, texts, strict=True)],
            sets={test: tested(test, sets[test], metrics) for test in used},
            trained=formats.trained(self.results.trained(table.variants), self.share(table.variants[0])),
            notes=[*self.paper["notes"].get(name, []), *self.unmeasured(name)],
        )

    def tables(self) -> list[Comparison]:
        return [self.table(name) for name in self.results.project.tables]
