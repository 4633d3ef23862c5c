"""Trace a number of a table to its origin: training data, parameters, time and code.

Everything is read from the receipts of the runs.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flip.config.faults import nearest
from flip.config.frozen import dump
from flip.config.resolve import Project, read_project
from flip.data.shard import shard_path
from flip.files import file_hash, read_json
from flip.formats.remote import RemoteFile
from flip.metrics.names import Metric
from flip.metrics.scoring import number
from flip.provenance.layout import Layout
from flip.provenance.receipt import behind


def chain(receipt: str) -> dict[str, dict]:
    """Return a receipt and all receipts upstream of it, the earliest first.

    Raises:
        ValueError: one is missing.
    """
    if not Path(receipt).exists():
        raise ValueError(f"{receipt}: missing; `snakemake ablations` makes it")
    return behind(receipt)


def runs(project: Project, table: str, variant: str, metric: str) -> dict[int, str]:
    """Return by seed the receipt of the evaluation, or of the heads, that gave a cell.

    Raises:
        ValueError: the table has no such cell.
    """
    if table not in project.tables:
        raise ValueError(f"unknown table '{table}'; {nearest(table, project.tables)}")
    found = project.tables[table]
    for name, known, what in ((variant, found.variants, "row"), (metric, found.metrics, "column")):
        if name not in known:
            raise ValueError(f"table {table} has no {what} '{name}'; {nearest(name, known)}")
    receipts, seeds = Layout(project.scale).receipts, project.variants[variant].seeds
    if job := project.metric(metric).job:
        return {seed: receipts.transfer(found.report, variant, job, seed) for seed in seeds}
    return {seed: receipts.variant(variant, "evaluate", seed) for seed in seeds}


def made(receipt: dict) -> str:
    """Return code, machine and times of a job, as lines."""
    git = receipt["git"]
    tree = "with changes that were not committed" if git["changed"] else "clean tree"
    lines = {
        "commit": f"{git['commit']}, {tree}" if git["commit"] else git.get("why", "outside a repository"),
        "sources": receipt["spec"]["code"],
        "machine": f"{receipt['machine']['processor']}, {receipt['machine']['system']}",
        "versions": ", ".join(f"{name} {version}" for name, version in receipt["versions"].items()),
        "from, to": f"{receipt['start']}, {receipt['end']}",
    }
    return "\n".join(f"    {name:9} {text}" for name, text in lines.items())


def replaced(receipts: dict[str, dict]) -> list[str]:
    """Return the receipts whose results are no longer those that a later one was made from."""
    pairs = (pair for receipt in receipts.values() for pair in receipt["made_from"]["after"].items())
    return sorted({before for before, made_from in pairs if receipts[before]["id"] != made_from})


def counted(ledger: dict) -> str:
    """Say where the rows of a source, or of all, went."""
    lost = ", ".join(f"{count} {name}" for name, count in ledger["lost"].items())
    counts = f"{ledger['used']:,} used of {ledger['wanted']:,} wanted, of {ledger['rows']:,} rows"
    return f"{counts}; lost: {lost}"


def ledger_line(receipts: dict[str, dict]) -> str:
    """Return the data accounting of the wanted images, if the ledger is still that of the data trained on."""
    path, manifest = next((path, one) for path, one in receipts.items() if one["spec"]["stage"] == "manifest")
    if path in replaced(receipts):
        return f"the ledger is gone: {path} was made again since; `git log {path}` has the earlier ones"
    ledger = manifest["facts"]["ledger"]
    own = [f"{name}: {counted(one)}" for name, one in ledger.get("sources", {}).items()]
    return "\n            ".join([counted(ledger["total"]), *own])


def story(project: Project, seed: int, metric: Metric, receipts: dict[str, dict]) -> str:
    """Return one seed's number, as text."""
    stages: dict[str, list[dict]] = {}
    for receipt in receipts.values():
        stages.setdefault(receipt["spec"]["stage"], []).append(receipt)
    measured_by = "transfer" if "transfer" in stages else "evaluate"
    evaluation, training = stages[measured_by][-1], stages["pretrain"][-1]
    measured, trained = evaluation["facts"]["metrics"], training["facts"]["training"]
    if str(metric) not in measured["metrics"]:
        why = metric.left_out(measured["skipped"]) or "the model lacks a tower for it"
        raise ValueError(f"{metric}: not measured on these weights: {why}")
    test = measured["sets"][metric.set]
    (weights, content), *_ = training["made"].items()
    outcomes = next(path for path in evaluation["made"] if path.endswith("metrics.json"))
    lines = [
        f"seed {seed}: {metric} = {measured['metrics'][str(metric)]:.2f} %",
        f"  weights   {weights}, SHA-256 {content['sha256']}",
        f"  metrics   {outcomes}",
        f"  images    {metric.set}: {test['samples']:,}, revision {test['sha256']}",
        f"  data      manifest {trained['manifest']}, pairs {trained['pairs']}",
        f"            {ledger_line(receipts)}",
        f"  trained   {trained['samples']:,} pairs seen, {trained['seconds']:,} s on {trained['device']}",
        made(training),
        f"  evaluated\n{made(evaluation)}",
    ]
    if others := replaced(receipts):
        lines.append(f"  since then made again, with another result: {', '.join(others)}")
    return "\n".join(lines)


def verify_files(receipts: dict[str, dict]) -> list[str]:
    """Hash every file behind a number; return what is wrong or missing."""
    faults = []
    for path, receipt in receipts.items():
        for product, content in (receipt["made"] | receipt["beside"]).items():
            if not Path(product).exists():
                if not receipt["scratch"]:
                    faults.append(f"{product}: not found; `dvc pull {product}` may bring it")
            elif file_hash(product) != content["sha256"]:
                faults.append(f"{product}: not what {path} says")
    return faults


def verify_shards(data: Path) -> list[str]:
    """Hash the shards of the manifest; those that lie elsewhere are hashed when they are fetched."""
    shards = read_json(data / "manifest.json")["shards"]
    paths = [(shard_path(data / "shards", shard), shard["sha256"]) for shard in shards]
    return [
        f"{path}: not what the manifest says, or not here"
        for path, digest in paths
        if not isinstance(path, RemoteFile) and not (path.exists() and file_hash(path) == digest)
    ]


def verify_metric(project: Project, report: str, variant: str, seed: int, metric: Metric) -> list[str]:
    """Evaluate the weights again; return what differs from the outcomes on disk."""
    from flip.evaluate.__main__ import evaluate_weights  # only here: they import torch
    from flip.transfer.__main__ import transfer

    at, params = Layout(project.scale), project.variants[variant]
    folder, data, weights = Path(at.run(variant, seed)), Path(at.data), at.weights(variant, seed)
    if metric.job:
        folder = Path(at.transfer(report, variant, metric.job, seed))
        again = transfer(params, data, weights, seed, metric.tasks)[0][str(metric)]
    else:
        again = evaluate_weights(params, data, weights, seed)[str(metric)]
    with np.load(folder / "outcomes.npz") as file:
        stored = file[str(metric)]
    same = stored.shape == again.shape and (stored == again).reshape(len(again), -1).all(axis=1)
    differing = len(again) - int(np.sum(same))
    value = number(metric.measure(read_json(folder / "metrics.json")["sets"]), again)
    print(f"seed {seed}: {metric} from the weights = {value:.2f} %, {differing} of {len(again)} outcomes differ")
    return [f"{folder}: {differing} outcomes of {metric} are not those of the weights"] if differing else []


@dataclass(frozen=True)
class TracedCell:
    """Hold a cell of a table, and by seed the receipts of all that it was made from, the earliest first."""

    project: Project
    table: str
    variant: str
    metric: Metric
    receipts: dict[int, dict[str, dict]]

    @classmethod
    def find(cls, table: str, variant: str, metric: str, scale: str | None) -> "TracedCell":
        """Find a cell at a scale (by default the one that params.yaml names).

        Raises:
            ValueError: there is no such cell, or a receipt is missing.
        """
        project = read_project(scale=scale)
        found = {seed: chain(receipt) for seed, receipt in runs(project, table, variant, metric).items()}
        return cls(project, table, variant, project.metric(metric), found)

    def verify(self) -> list[str]:
        """Hash all files behind it and evaluate the weights again; return what is not as recorded."""
        report = self.project.tables[self.table].report
        faults = verify_shards(Path(Layout(self.project.scale).data))
        for seed, receipts in self.receipts.items():
            faults += verify_files(receipts)
            faults += verify_metric(self.project, report, self.variant, seed, self.metric)
        return list(dict.fromkeys(faults))


def text(cell: TracedCell, parameters: bool) -> str:
    """Return where each seed's number comes from and, if asked for, the variant's parameters below."""
    head = f"Table {cell.table}, row {cell.variant}, column {cell.metric}, scale {cell.project.scale}"
    stories = [story(cell.project, seed, cell.metric, one) for seed, one in cell.receipts.items()]
    frozen = [f"parameters\n{dump(cell.project.variants[cell.variant])}"] if parameters else []
    return "\n\n".join([head, *stories, *frozen]).rstrip("\n")
