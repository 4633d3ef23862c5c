"""Delete what is left of variants and reports that params.yaml no longer has: results, receipts, checkpoints, choices.

What was committed stays in Git's history, and what was pushed in DVC's remote. Results that DVC has not recorded are
deleted with `force` alone.
"""

import shutil
from collections.abc import Callable, Collection, Sequence
from itertools import chain
from pathlib import Path

from flip.config.resolve import Project
from flip.provenance.layout import Layout
from flip.provenance.tracked import SUFFIX, file_of


def of_variant(at: Layout, name: str) -> list[str]:
    """Return the places of all that belongs to a variant: folders and files; `name` may be a pattern."""
    records = at.receipts
    files = [
        records.variant(name, ""),
        records.features(name),
        records.curation(name, ""),
        records.candidate(name, ""),
        records.choice(name),
    ]
    files += [records.step_time(name), at.run(name, 0), at.checkpoints(name, 0), at.candidate(name, "0")]
    files += [at.features(name, 0), at.embeddings(name, 0), records.embeddings(name), at.curated(name, 0)]
    files += [at.curve(name, 0)]
    folders = [str(Path(file).parent) for file in files]
    return [*folders, at.variant(name) + SUFFIX, at.choice(name), at.step_time(name), at.shown(name)]


def of_report(at: Layout, name: str) -> list[str]:
    """Return the places of all that belongs to a report."""
    return [at.report(name), at.report(name) + SUFFIX, str(Path(at.receipts.tables(name, "")).parent)]


def gone(places: Callable[[Layout, str], list[str]], at: Layout, known: Collection[str]) -> list[Path]:
    """Return what exists in the places of names that are not known."""
    found = chain.from_iterable(Path().glob(pattern) for pattern in places(at, "*"))
    stem = {path: path.name.split(".")[0] for path in found}
    return sorted(path for path, name in stem.items() if name not in known and name != "index")


def obsolete(project: Project) -> list[Path]:
    """Return the files and folders of variants and reports that the project does not have."""
    at = Layout(project.scale)
    reports = project.reports_of_all_scales
    return [*gone(of_variant, at, project.variants), *gone(of_report, at, reports)]


def unrecorded(paths: Sequence[Path], at: Layout) -> list[Path]:
    """Return those of the paths that are results and not recorded with DVC."""
    kept = {Path(at.results), Path(at.tables)}
    return [path for path in paths if path.is_dir() and path.parent in kept and not file_of(str(path)).exists()]


def tidy(project: Project, dry_run: bool, force: bool) -> list[Path]:
    """Delete what is obsolete, or only return it.

    Raises:
        ValueError: some of it is not recorded with DVC, and would be lost; then nothing is deleted, unless by `force`.
    """
    paths = obsolete(project)
    if (lost := unrecorded(paths, Layout(project.scale))) and not force:
        names = ", ".join(map(str, lost))
        raise ValueError(f"{names}: not recorded with DVC, so nothing was deleted; `dvc add PATH` first, or --force")
    for path in paths if not dry_run else ():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return paths
