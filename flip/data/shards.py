"""Write uniform shards of a part: what cannot be used is dropped and counted, the rest is in key order.

Images in tars of others stay there: what is written is an index, a shard for each tar.

    python -m flip.data.shards --params specs/tiny/params/clip.yaml --download data/tiny/download/0000.json \\
        --fingerprints data/tiny/fingerprints/0000.parquet --dropped data/tiny/dropped/0.parquet \\
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm import tqdm

from flip.config.frozen import load
from flip.config.schema import Compact, Shards
from flip.data.arrived import Arrived, ArrivedTar, arrived
from flip.data.compact import resize_jpeg
from flip.data.pairs import NAME, SampleList, batches, files
from flip.data.shard_index import as_members, captions_path, index_path, write_index, write_taken_in
from flip.data.tar_cache import Hold, TarCache, local, not_fetched
from flip.files import atomic, file_hash, read_json, write_json
from flip.formats.remote import RemoteFile
from flip.formats.texts import Texts
from flip.formats.words import has_words

Verdict = tuple[dict[str, Any], str | None]  # row of the fingerprints, why the image is lost
NO_VERDICT: Verdict = {"key": None}, None


def dropped_of(part: str, path: str | Path) -> dict[str, str]:
    """Map keys of a part to reasons to drop them; the file is sorted by key, so most of it is not read."""
    prefix = [("key", ">=", f"{part}-"), ("key", "<", f"{part}.")]
    found = pq.read_table(path, filters=prefix)
    return dict(zip(found["key"].to_pylist(), found["reason"].to_pylist(), strict=True))


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


def usable(download: Path, verdict: Iterator[Verdict], lost: Counter[str]) -> Iterator[ArrivedTar]:
    """Yield the part's tars with those of their samples that are used, by key, each with its SHA-256; count in `lost`
    what is left out, and why.

    Raises:
        ValueError: the verdicts are not about these images.
    """
    for tar in arrived(download):
        kept = []
        for sample in tar.samples:
            image, reason = next(verdict, NO_VERDICT)
            if image["key"] != sample.key:
                raise ValueError(
                    f"{download}: {sample.key} has no fingerprint where it should be ({image['key']}); run the "
                    "fingerprints stage again"
                )
            if reason:
                lost[reason] += 1
            else:
                kept.append(sample._replace(sha256=image["sha256"].hex()))
        yield tar._replace(samples=kept)


def contents(tars: Iterable[ArrivedTar], compact: Compact | None, hold: Hold) -> Iterator[dict]:
    """Yield samples for `write_shard`, images resized where `compact` says how; `hold` gives copies of tars that lie
    elsewhere."""
    for tar in tars:
        with local(tar.path, hold) as path, open(path, "rb") as file:
            for sample in tar.samples:
                file.seek(sample.place[0])
                image, kind = file.read(sample.place[1]), sample.kind
                if compact and (smaller := resize_jpeg(image, compact, sample.key)) is not image:
                    image, kind = smaller, "jpg"
                yield listed(sample) | {kind: image} | as_members(captions_of(sample))


def captions_of(sample: Arrived) -> Texts:
    """Return the captions of a sample that have words."""
    return sample.captions.only(has_words)


def listed(sample: Arrived) -> dict:
    """Return what the list of samples says of one."""
    facts = {"__key__": sample.key, "__url__": sample.url, "__sha256__": sample.sha256}
    return facts | {"__captions__": captions_of(sample)}


def add_sample(tar: tarfile.TarFile, sample: dict) -> None:
    """Add a sample's files as webdataset's writer does, to the byte; to import that is to import torch."""
    for kind in (one for one in sample if not one.startswith("__")):
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


def take_in_tars(folder: Path, tars: Iterable[ArrivedTar], add: Callable[[dict], dict]) -> Iterator[dict]:
    """Write index and captions of each tar that stays where it is; yield their entries."""
    for number, tar in enumerate(one for one in tars if one.samples):
        assert tar.account is not None
        path = folder / f"{number:05d}.tar"
        rows = ((one.place, add(listed(one))["__captions__"]) for one in tar.samples)
        entry = {"name": f"{folder.name}/{path.name}", "samples": write_taken_in(path, rows)}
        entry |= {name: tar.account[name] for name in ("sha256", "bytes")}
        entry |= {"index": file_hash(index_path(path)), "captions": file_hash(captions_path(path))}
        yield entry | where(tar.path)


def where(place: Path | RemoteFile) -> dict[str, str]:
    """Return what an entry says of where its tar is."""
    return {"tar": place.url, "version": place.version} if isinstance(place, RemoteFile) else {"tar": str(place)}


def write_all(folder: Path, write: Callable[[Callable[[dict], dict]], list[dict]]) -> dict:
    """Write the shards of a part by `write`, which hands their samples to the function that it is given, and the list
    of these; what was in the folder is deleted."""
    shutil.rmtree(folder, ignore_errors=True)
    path = folder / NAME
    with atomic(path) as file, closing(SampleList(file)) as samples:
        shards = write(samples.add)
    facts = {"name": f"{folder.name}/{NAME}", "samples": samples.samples, "sha256": file_hash(path)}
    return {"shards": shards, "list": facts | {"pairs": samples.pairs}}


def write_part(
    download: str | Path,
    fingerprints: str | Path,
    dropped: str | Path,
    out: str | Path,
    how: Shards,
    hold: Hold = not_fetched,
) -> dict:
    """Write the shards of a part beside `out`, and to `out` their entries and the part's ledger; return these. `hold`
    gives copies of tars that lie elsewhere.

    Raises:
        ValueError: as `usable` and `allowed_of`; or a tar of the download is truncated.
    """
    download, out = Path(download), Path(out)
    lost: Counter[str] = Counter()
    account = read_json(download)
    reasons, allowed = dropped_of(download.stem, dropped), allowed_of(fingerprints, how.only)
    tars = usable(download, verdicts(fingerprints, reasons, allowed), lost)
    folder = out.with_suffix("")
    if "tars" in account and not how.compact:
        written = write_all(folder, lambda add: list(take_in_tars(folder, tars, add)))
    else:
        samples = tqdm(contents(tars, how.compact, hold), "shards", account["arrived"], unit="image", disable=None)
        written = write_all(folder, lambda add: write_shards(folder, map(add, samples), how.samples_per_shard))
    ledger = {
        "wanted": account["wanted"],
        "arrived": account["arrived"],
        "decoded": account["arrived"] - lost["broken"],
        "used": written["list"]["samples"],
        "lost": dict(sorted((Counter(account["failed"]) + lost).items())),
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
    parser.add_argument("--dropped", required=True, help="keys to drop, of the part's group")
    parser.add_argument("--out", required=True, help="entries and ledger (JSON); shards and their list go beside it")
    options = parser.parse_args(argv)
    try:
        sources = options.download, options.fingerprints, options.dropped
        params = load(options.params)
        result = write_part(*sources, options.out, params.shards, TarCache(params.source.cache).hold)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{result['ledger']['used']} pairs in {len(result['shards'])} shards")


if __name__ == "__main__":
    main()
