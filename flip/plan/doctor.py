"""Look at what a scale reads from elsewhere, before any job starts: its source's files, its test sets.

Headers and first lines alone are read. Every call of Snakemake asks, too, and says so in a dry run; jobs do not start
while something is wrong. What stands in the images and captions is checked by the stages that read them.
"""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from glob import glob
from pathlib import Path

from flip.config import kinds, public
from flip.config.faults import ParameterError
from flip.config.resolve import Project
from flip.config.schema import Params, Source
from flip.formats import layout
from flip.plan.data import find_data, stored_bytes
from flip.provenance.layout import Layout

Made = Callable[[str], bool]

STEPS = 100  # of an epoch: with fewer, a batch was made for more data


def source_faults(source: Source) -> Iterator[str]:
    """Find what is wrong with the source's files: none there, of no known kind, columns that are missing or hold no
    text."""
    if source.kind == "several":
        for name, one in source.named.items():
            yield from (f"source.several.{name}: {fault}" for fault in source_faults(one))
        return
    if source.kind == "tars":
        yield from caught(partial(look_at_tars, source))
        return
    paths = sorted(glob(source.place, recursive=True))
    if not paths and Path(source.place).exists():
        yield f"source.table '{source.table}': [ ] means one of several letters; write [[] for [, or rename it"
    elif not paths:
        yield f"source.table '{source.table}': no such file; copy it there, or name another one"
    else:
        from flip.sources.read_table import look_at  # here, as it takes a fifth of a second, and the world needs none

        for path in paths:
            yield from caught(partial(look_at, source, path))
    if source.images and not Path(source.images).is_dir():
        yield f"source.images '{source.images}': no such folder; name the one that the table's files are in"


def look_at_tars(source: Source) -> None:
    """Look for the tars of a source, and for names of classes. Of thousands, about each of which a server is asked, the
    first stands for all.

    Raises:
        ValueError: some are missing, or the first cannot be read.
    """
    from flip.sources import list_tars, take_in  # here, as it takes a fifth of a second

    if source.classes:
        take_in.class_captions(source.classes)
    _, faults = list_tars.look_at(list_tars.find_tars(source.place)[:1])
    if faults:
        raise ValueError(faults[0])


def caught(check: Callable[[], object]) -> Iterator[str]:
    """Yield the messages of a check that fails."""
    try:
        check()
    except (ValueError, OSError) as error:
        yield from str(error).splitlines()


def folders(params: Params, made: Made) -> dict[str, Path]:
    """Return the folders of sets that are still to be looked at, by the keys that name them."""
    receipts = Layout(params.scale).receipts
    roles = {role: place for role, place in params.evaluate.sets.items() if not made(receipts.test(role))}
    tasks = {name: getattr(params.transfer, name) for name in ("caption", "nocaps", "vqa")}
    named = {"evaluate.sets": roles, "evaluate.languages": params.evaluate.languages, "transfer": tasks}
    every = {f"{key}.{name}": place for key, places in named.items() for name, place in places.items() if place}
    return {key: Path(place) for key, place in every.items() if place != "world" and not public.is_public(place)}


def set_faults(params: Params, made: Made) -> Iterator[str]:
    """Find test sets that are not there, all in one line, and what is wrong with what all samples of a set share."""
    missing, named = {}, folders(params, made)
    for key, folder in named.items():
        if not folder.is_dir():
            missing[key] = folder
        else:
            yield from (f"{key}: {fault}" for fault in caught(partial(check_set, folder)))
    if missing:
        said = ", ".join(f"{key} ('{folder}')" for key, folder in missing.items())
        yield f"no such folder: {said}; put the sets there, pin public ones (flip mirror pin), or say null"


def check_set(folder: Path) -> None:
    """Check the files that all samples of a set share.

    Raises:
        ValueError: one is missing or cannot be read.
    """
    layout.tars(folder)
    if kinds.of_folder(folder).has_classes:
        layout.class_names(folder)
        layout.prompts(folder)


def synthetic_faults(params: Params) -> Iterator[str]:
    """Find test sets of the synthetic data set where the training data are others."""
    roles = [role for role, place in params.evaluate.sets.items() if place == "world"]
    if roles:
        yield (
            f"evaluate.sets: {', '.join(roles)} are the synthetic world's, and source.{params.source.key} is "
            f"'{params.source.place}'; name folders of images like yours, or say null"
        )


def batch_faults(project: Project) -> Iterator[str]:
    """Find batches that are large for the rows of the source, where parquet files say how many there are."""
    import pyarrow.parquet as pq

    params, paths = project.baseline, sorted(glob(project.baseline.source.table or "", recursive=True))
    if not paths or not all(path.endswith(".parquet") for path in paths):
        return
    rows, batch = sum(pq.read_metadata(path).num_rows for path in paths), params.train.batch
    if rows < STEPS * batch:
        yield (
            f"train.batch = {batch}: the {rows} rows of source.table are {rows // batch} steps an epoch; lower it "
            "(`tiny` has 32), with train.base_lr and train.warmup_samples, or be `like` a scale of such a size"
        )


def space_faults(project: Project, folder: str | Path = ".") -> Iterator[str]:
    """Find that images, as downloaded and in shards, need more than is free, where it is known how many rows there
    are and nothing has been made yet."""
    params = project.baseline
    if params.source.kind != "urls" or Path(Layout(project.scale).data).exists():
        return
    try:
        data = find_data(params, None, 1.0)
    except ParameterError:
        return
    needed, free = 2 * data.used * stored_bytes(params.download.image_size), shutil.disk_usage(folder).free
    if needed > free:
        yield (
            f"{Path(folder).absolute()}: images of {data.used:,} rows need about {needed / 1e12:.1f} TB, "
            f"{free / 1e12:.1f} TB are free; make room, link data/ to a larger disk, or set source.sample"
        )


def faults(project: Project, made: Made = lambda receipt: False) -> list[str]:
    """Find all that is wrong with what a scale reads from elsewhere, each with what to do.

    `made` says of a receipt whether its result is there and holds, so that what it was made from is not needed.
    """
    params, found = project.baseline, []
    if params.source.kind != "world" and not made(Layout(project.scale).receipts.data("table")):
        found = [*source_faults(params.source)] or [*batch_faults(project), *synthetic_faults(params)]
    return [*found, *set_faults(params, made)]


def message(scale: str, found: list[str]) -> str:
    """Say all that was found."""
    return "\n  ".join([f"Jobs at scale '{scale}' would fail:", *found])
