"""Record finished results with DVC: its cache has their content, a file `<path>.dvc` beside each names it, for Git.

A file for each result, so that branches on which others were made merge. It also says which receipts the content
belongs to (`meta`), so that DVC is called for what is new alone. Until a result is recorded, `dvc exp run` and
`dvc checkout --force` replace it with the one that was recorded before, and the new one is lost.
"""

import os
import subprocess
import sys
from hashlib import sha256

import yaml

from flip.config.resolve import Project
from flip.files import write_atomic
from flip.provenance.freshness import Receipts, read_receipts
from flip.provenance.layout import Layout
from flip.provenance.receipt import SEAL, absent
from flip.provenance.tracked import clear_damaged_notes, file_of, tracked


def results(project: Project) -> dict[str, list[str]]:
    """Return the receipts that each result which DVC keeps ends with, by the path of the result."""
    at, baseline = Layout(project.scale), project.baseline
    receipts = at.receipts
    found = {path: [receipts.data("manifest")] for path in (at.manifest, at.ledger, at.shards)}
    found |= {at.tokenizer: [receipts.data("tokenizer")], at.codebook(): [receipts.codebook]}
    found |= {at.test(name): [receipts.test(name)] for name in baseline.evaluate.sets}
    for name in project.variants:
        found[at.variant(name)] = [receipts.variant(name, "evaluate", seed) for seed in baseline.seeds]
    return found | {at.report(name): [receipts.tables(name, "tables")] for name in project.reports}


def is_finished(receipts: Receipts, ends: list[str]) -> bool:
    """Return whether receipts, and all upstream of them, are fresh, and all outputs exist but intermediate ones."""
    chains = [receipts.chain(path) for path in ends]
    return all(receipts.chain_is_fresh(path) for path in ends) and all(
        receipt["scratch"] or not absent(receipt) for chain in chains for receipt in chain.values()
    )


def mark(receipts: Receipts, ends: list[str]) -> str:
    """Return what tells the receipts of a result from earlier ones."""
    seals = [receipts.known.get(path, {}).get(SEAL, "") for path in ends]
    return sha256(" ".join(seals).encode()).hexdigest()


def call(*words: str) -> str:
    """Run a command of DVC and return what it prints.

    Raises:
        ValueError: it failed, for instance because another DVC is at work.
    """
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split()).removeprefix("ERROR: ")
        raise ValueError(f"not recorded with DVC ({reason}); `dvc repro` does it later")
    return done.stdout


def record(project: Project) -> list[str]:
    """Record the results that are finished and not recorded as they are now; return their paths.

    Raises:
        ValueError: as `call`.
    """
    receipts, known = read_receipts(Layout(project.scale).receipts.root), tracked(project.scale)
    kept = results(project)
    marks = {path: mark(receipts, ends) for path, ends in kept.items()}
    new = [path for path in kept if (known.get(path, {}).get("meta") or {}).get("receipts") != marks[path]]
    found = [path for path in new if is_finished(receipts, kept[path])]
    if found:
        clear_damaged_notes()
        call("add", *found)
    for path in found:
        content = yaml.safe_load(file_of(path).read_text())
        write_atomic(file_of(path), yaml.safe_dump(content | {"meta": {"receipts": marks[path]}}, sort_keys=False))
    if found and "DVC_STAGE" in os.environ:
        # An experiment's commit has what Git knows of.
        subprocess.run(["git", "add", "--intent-to-add", "--", *map(str, map(file_of, found))], check=False)
    return found
