"""Delete what is left of variants and reports that params.yaml no longer has: results, receipts, checkpoints, choices.

    python -m flip.provenance.tidy --dry-run     what would go
    python -m flip.provenance.tidy

What was committed stays in Git's history, and what was pushed in DVC's remote. Results that DVC has not recorded are
deleted with `--force` alone.
"""

import argparse
import shutil
from collections.abc import Callable, Collection, Sequence
from itertools import chain
from pathlib import Path

from flip.config.faults import ParameterError
from flip.config.resolve import Project, read_project
from flip.provenance.layout import Layout
from flip.provenance.tracked import SUFFIX, file_of


def of_variant(at: Layout, name: str) -> list[str]:
    """Return the places of all that belongs to a variant: folders and files; `name` may be a pattern."""
    records = at.receipts
    files = [records.variant(name, ""), records.features(name), records.candidate(name, ""), records.choice(name)]
    files += [records.step_time(name), at.run(name, 0), at.checkpoints(name, 0), at.candidate(name, "0")]
    files += [at.features(name, 0), at.curve(name, 0)]
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


def main(argv: Sequence[str] | None = None) -> None:
    """Delete what is obsolete at a scale, by the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m flip.provenance.tidy", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", help="default: the scale that params.yaml names")
    parser.add_argument("--dry-run", action="store_true", help="name what would be deleted, and delete nothing")
    parser.add_argument("--force", action="store_true", help="delete results, too, that DVC has not recorded")
    options = parser.parse_args(argv)
    try:
        project = read_project(scale=options.scale)
    except ParameterError as error:
        parser.exit(1, f"{error}\n")
    paths = obsolete(project)
    if (lost := unrecorded(paths, Layout(project.scale))) and not options.force:
        names = ", ".join(map(str, lost))
        parser.exit(1, f"{names}: not recorded with DVC, so nothing was deleted; `dvc add PATH` first, or --force\n")
    for path in paths:
        print(f"{'would delete' if options.dry_run else 'deleted'} {path}")
        if not options.dry_run:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if not paths:
        print("Nothing is left of variants or reports that params.yaml does not have.")


if __name__ == "__main__":
    main()
