"""Read the results of the runs of one scale, and check that they are comparable."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flip.config.resolve import Project
from flip.config.schema import Bootstrap
from flip.files import read_json
from flip.metrics.names import Metric
from flip.provenance.layout import Records
from flip.report.bootstrap import Resampled, resampled
from flip.report.intervals import Estimates
from flip.report.runs import Run, existing, must_be_same, read_run


@dataclass(frozen=True)
class Results:
    """Hold all that the tables are made of; `codebook` are the image tokenizer's metrics and sheet, if a run reads it;
    `data` is the folder of the shards, `receipts` that of the receipts."""

    project: Project
    runs: dict[str, Run]
    cost: dict
    manifest: dict
    ledger: dict
    codebook: tuple[dict, Path] | None
    data: Path
    receipts: Path

    @property
    def bootstrap(self) -> Bootstrap:
        return self.project.baseline.bootstrap

    @property
    def sets(self) -> dict:
        """Return the sets of all runs; runs that read one language have fewer."""
        return {name: content for run in reversed(self.runs.values()) for name, content in run.sets.items()}

    @property
    def curated(self) -> dict[str, dict]:
        """Return the ledger rows of the variants whose pairs were chosen, of their first seed."""
        ledgers = {name: run.training[0].get("curation") for name, run in self.runs.items()}
        return {name: one for name, one in ledgers.items() if one}

    @property
    def share_used(self) -> float:
        return self.ledger["total"]["used"] / self.ledger["total"]["wanted"]

    def trained(self, variants: list[str]) -> dict[str, dict]:
        """Return the data of each variant and of those that they build on."""
        behind = [one for variant in variants for one in self.project.chain(variant)]
        return {name: self.runs[name].data for name in dict.fromkeys([*variants, *behind])}

    def check_rows(self, where: str, variants: list[str], remedy: str) -> None:
        """Refuse rows that were trained on different data, or on other data than what exists now."""
        manifests = {f"variant '{name}'": data["manifest"] for name, data in self.trained(variants).items()}
        must_be_same("training data", manifests | {"manifest.json": self.manifest["id"]}, f" ({where}){remedy}")

    def check(self) -> "Results":
        """Refuse rows on other data or other test sets, and a ledger that does not add up."""
        for run in self.runs.values():
            run.check_data()
        for name, table in self.project.tables.items():
            if not table.mixed_data:
                key = f"tables.{name}.mixed_data"
                self.check_rows(
                    f"table {name}",
                    table.variants,
                    f"; or set {key}: true in the file of its report: the table then says what each row was trained on",
                )
        if self.project.tradeoff:
            curves, remedy = (
                self.project.tradeoff.curves.values(),
                "; or take them out of tradeoff.curves",
            )
            self.check_rows("trade-off figure", [variant for curve in curves for variant in curve], remedy)
        for name in self.sets:
            found = {
                str(folder): one["sets"].get(name, {})
                for run in self.runs.values()
                if not run.unread(name)
                for folder, one in zip(run.folders, run.metrics, strict=True)
            }
            must_be_same(f"test set '{name}'", {place: one.get("sha256", "none") for place, one in found.items()}, "")
            fitted = {place: one.get("train", {}).get("sha256", "none") for place, one in found.items()}
            must_be_same(f"training split of '{name}'", fitted, "")
        total = self.ledger["total"]
        if total["rows"] != total["used"] + sum(total["lost"].values()):
            raise ValueError(f"ledger.json: {total['rows']} rows are not {total['used']} used plus those lost")
        return self

    def estimates(self) -> Estimates:
        """Return those of all tables and the trade-off figure by (variant, metric), but for what a row lacks."""
        project = self.project
        wanted = [
            (v, m) for name, table in project.tables.items() for v in table.variants for m in project.metrics(name)
        ]
        if tradeoff := project.tradeoff:
            metric = project.metric(tradeoff.metric)
            wanted += [(variant, metric) for curve in tradeoff.curves.values() for variant in curve]
        groups: dict[tuple[str, str, tuple[int, ...]], dict[tuple[str, Metric], np.ndarray]] = defaultdict(dict)
        for variant, metric in dict.fromkeys(wanted):
            if self.runs[variant].missing(metric):
                continue
            values = self.runs[variant].outcomes(metric)
            measure = metric.measure(self.sets)
            groups[metric.set, measure, values.shape[1:]][variant, metric] = values
        found: dict[tuple[str, Metric], Resampled] = {}
        for (name, measure, _), outcomes in groups.items():
            found |= resampled(outcomes, name, self.bootstrap.resamples, measure)
        return Estimates(found)


def _read_codebook(project: Project, folder: Path) -> tuple[dict, Path] | None:
    if not any(project.variants[name].flava.reads_codes for name in project.named):
        return None
    return read_json(existing(folder / "metrics.json")), existing(folder / "images.webp")


def read_results(
    project: Project, data: str | Path, folder: str | Path, receipts: str | Path, cost: str | Path
) -> Results:
    """Read the results of every variant that a table or the trade-off figure names, and of those they start from.

    `data`, `folder` and `receipts` are those of the project's scale, `cost` is the file with all costs,
    beside which lies what was trained to be measured.

    Raises:
        ValueError: a file is missing, or the runs are not comparable.
    """
    data, folder, receipts, trained = Path(data), Path(folder), Path(receipts), Path(cost).parent
    at = Records(str(receipts))
    return Results(
        project=project,
        runs={name: read_run(project, folder / name, at, trained / name) for name in project.named},
        cost=read_json(existing(cost)),
        manifest=read_json(existing(data / "manifest.json")),
        ledger=read_json(existing(data / "ledger.json")),
        codebook=_read_codebook(project, data / "codebook"),
        data=data,
        receipts=receipts,
    ).check()
