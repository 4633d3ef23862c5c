"""From fingerprints to what is dropped, as the stages of the pipeline do it."""

from pathlib import Path

from flip.data import buckets, dropped, duplicates


def drop(folder, tests, fingerprints, count: int = 1, groups: int = 1) -> list[Path]:
    """The file of each group of parts with the keys to drop, by `count` buckets; `fingerprints` are in order."""
    size = -(-len(fingerprints) // groups)
    parts = [fingerprints[first : first + size] for first in range(0, len(fingerprints), size)]
    sorted_ = [folder / f"buckets-{group}.arrow" for group in range(len(parts))]
    for some, out in zip(parts, sorted_, strict=True):
        buckets.write_group(some, count, out)
    found = [folder / f"duplicates-{bucket}.arrow" for bucket in range(count)]
    for bucket, out in enumerate(found):
        duplicates.write_bucket(tests, sorted_, bucket, count, out)
    outs = [folder / f"dropped-{group}.parquet" for group in range(len(parts))]
    for some, out in zip(parts, outs, strict=True):
        dropped.write_group(found, some, out)
    return outs
