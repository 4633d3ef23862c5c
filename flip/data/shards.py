"""Write uniform shards of a downloaded part: what cannot be used is dropped and counted, the rest is in key order.

    python -m flip.data.shards --params specs/tiny/params/clip.yaml --download data/tiny/download/0000.json \\
        --fingerprints data/tiny/fingerprints/0000.parquet --duplicates data/tiny/duplicates/0.parquet ... \\
        --out data/tiny/shards/0000.json

Beside the shards lies the list of their samples (samples.parquet: key, url, caption, sha256 of the image as it came),
which another site can download and compare. Equal inputs give equal bytes, so a part that was killed is simply written
again from its start.
"""

import argparse
import io
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq
from tqdm import tqdm

from flip.config.frozen import load
from flip.config.schema import Compact, Shards
from flip.data.compact import resize_jpeg
from flip.data.duplicates import REASONS
from flip.data.pairs import NAME, SampleList, batches, files
from flip.data.shard import write_index
from flip.files import atomic, file_hash, read_json, write_json
from flip.formats.tar_members import members

Verdict = tuple[dict[str, Any], str | None]  # row of the fingerprints, why the image is lost
NO_VERDICT: Verdict = {"key": None}, None


def duplicates_of(part: str, paths: list) -> dict[str, str]:
    """Map keys of a part to reasons to drop them; the files are sorted by key, so most of each is not read."""
    prefix = [("key", ">=", f"{part}-"), ("key", "<", f"{part}.")]
    reasons: dict[str, str] = {}
    for path in paths:
        for row in pq.read_table(path, filters=prefix).to_pylist():
            reasons[row["key"]] = min(reasons.get(row["key"], row["reason"]), row["reason"], key=REASONS.index)
    return reasons


def allowed_of(fingerprints: str | Path, only: str | None) -> set[str] | None:
    """Return the SHA-256 of the part's images that the list `shards.only` has; None if there is no such list.

    Only the part's own hashes are in memory, however long the list is.

    Raises:
        ValueError: the list does not exist, or has no column sha256.
    """
    if only is None:
        return None
    paths = files("shards.only", only, ["sha256"])
    mine = {digest.hex() for digest in pq.read_table(fingerprints, columns=["sha256"])["sha256"].to_pylist()}
    return set().union(*(mine.intersection(table["sha256"].to_pylist()) for table in batches(paths, ["sha256"])))


def why_lost(image: dict, reasons: dict[str, str], allowed: set[str] | None) -> str | None:
    """Return the class that an image is lost under, by its row of the fingerprints; None if it is used."""
    if image["looks"] is None:
        return "broken"
    if not image["captioned"]:
        return "no caption"
    if reason := reasons.get(image["key"]):
        return reason
    return None if allowed is None or image["sha256"].hex() in allowed else "not in shards.only"


def verdicts(fingerprints: str | Path, reasons: dict[str, str], allowed: set[str] | None) -> Iterator[Verdict]:
    """Yield (row of the fingerprints, why it is lost or None) of every image of a part, by key."""
    with pq.ParquetFile(fingerprints) as file:
        for batch in file.iter_batches(columns=["key", "url", "sha256", "looks", "captioned"]):
            for image in batch.to_pylist():
                yield image, why_lost(image, reasons, allowed)


def usable(
    download: Path, verdict: Iterator[Verdict], lost: Counter[str], compact: Compact | None = None
) -> Iterator[dict]:
    """Yield samples for `write_shard`, by key; count in `lost` what is left out, and why.

    Raises:
        ValueError: the verdicts are not about these images.
    """
    for tar in sorted(download.with_suffix("").glob("*.tar")):
        with open(tar, "rb") as file:
            for key, sample in sorted(members(tar).items()):
                key, (image, reason) = f"{download.stem}-{key}", next(verdict, NO_VERDICT)
                if image["key"] != key:
                    raise ValueError(
                        f"{download}: {key} has no fingerprint where it should be ({image['key']}); run the "
                        "fingerprints stage again"
                    )
                if reason:
                    lost[reason] += 1
                else:
                    facts = {"__key__": key, "__url__": image["url"], "__sha256__": image["sha256"].hex()}
                    jpeg, caption = (read(file, sample[kind]) for kind in ("jpg", "txt"))
                    yield facts | {"jpg": resize_jpeg(jpeg, compact, key) if compact else jpeg, "txt": caption}


def read(file: IO[bytes], place: tuple[int, int]) -> bytes:
    """Read a member of a tar by (offset, size)."""
    file.seek(place[0])
    return file.read(place[1])


def add_sample(tar: tarfile.TarFile, sample: dict) -> None:
    """Add a sample's files as webdataset's writer does, to the byte; to import that is to import torch."""
    for kind in ("jpg", "txt"):
        member = tarfile.TarInfo(f"{sample['__key__']}.{kind}")
        member.size, member.mode, member.uname, member.gname = len(sample[kind]), 0o444, "bigdata", "bigdata"
        tar.addfile(member, io.BytesIO(sample[kind]))


def write_shard(path: Path, samples: Iterable[dict]) -> dict:
    """Write a tar with its index; return its entry of the manifest."""
    with atomic(path) as file, tarfile.open(fileobj=file, mode="w|") as tar:
        for sample in samples:
            add_sample(tar, sample)
    name = f"{path.parent.name}/{path.name}"
    return {"name": name, "samples": write_index(path), "sha256": file_hash(path), "bytes": path.stat().st_size}


def write_shards(folder: Path, samples: Iterator[dict], per_shard: int) -> list[dict]:
    """Write all shards of a part; return their entries."""
    shards: list[dict] = []
    for first in samples:
        shard = chain([first], islice(samples, per_shard - 1))
        shards.append(write_shard(folder / f"{len(shards):05d}.tar", shard))
    return shards


def write_all(folder: Path, samples: Iterable[dict], per_shard: int) -> dict:
    """Write the shards of a part and the list of their samples; what was in the folder is deleted."""
    shutil.rmtree(folder, ignore_errors=True)
    path = folder / NAME
    with atomic(path) as file, closing(SampleList(file)) as listed:
        shards = write_shards(folder, map(listed.add, samples), per_shard)
    facts = {"name": f"{folder.name}/{NAME}", "samples": listed.samples, "sha256": file_hash(path)}
    return {"shards": shards, "list": facts | {"pairs": listed.pairs}}


def write_part(download: str | Path, fingerprints: str | Path, duplicates: list, out: str | Path, how: Shards) -> dict:
    """Write the shards of a part beside `out`, and to `out` their entries and the part's ledger; return these.

    Raises:
        ValueError: as `usable` and `allowed_of`; or a tar of the download is truncated.
    """
    download, out = Path(download), Path(out)
    dropped: Counter[str] = Counter()
    account = read_json(download)
    reasons, allowed = duplicates_of(download.stem, duplicates), allowed_of(fingerprints, how.only)
    found = usable(download, verdicts(fingerprints, reasons, allowed), dropped, how.compact)
    samples = tqdm(found, "shards", account["arrived"], unit="image", disable=None)
    written = write_all(out.with_suffix(""), samples, how.samples_per_shard)
    ledger = {
        "wanted": account["wanted"],
        "arrived": account["arrived"],
        "decoded": account["arrived"] - dropped["broken"],
        "used": written["list"]["samples"],
        "lost": dict(sorted((Counter(account["failed"]) + dropped).items())),
    }
    result = written | {"ledger": ledger}
    write_json(out, result)
    return result


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.shards", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--download", required=True, help="account of the downloaded part; the images lie beside it")
    parser.add_argument("--fingerprints", required=True, help="the part's fingerprints")
    parser.add_argument("--duplicates", nargs="*", default=[], help="keys to drop, of every bucket")
    parser.add_argument("--out", required=True, help="entries and ledger (JSON); shards and their list go beside it")
    options = parser.parse_args(argv)
    try:
        sources = options.download, options.fingerprints, options.duplicates
        result = write_part(*sources, options.out, load(options.params).shards)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{result['ledger']['used']} pairs in {len(result['shards'])} shards")


if __name__ == "__main__":
    main()
