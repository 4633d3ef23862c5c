"""A downloaded part to uniform shards: what cannot be used is dropped and counted, the rest stands in key order.

    python -m flip.data.shards --params specs/tiny/params.yaml --download data/tiny/download/0000.json \\
        --fingerprints data/tiny/fingerprints/0000.parquet --duplicates data/tiny/duplicates/0.parquet ... \\
        --out data/tiny/shards/0000.json

Equal inputs give equal bytes, so a part that was killed is simply written again from its start.
"""

import argparse
import shutil
from collections import Counter
from itertools import chain, islice
from pathlib import Path

import pyarrow.parquet as pq
import webdataset as wds
from tqdm import tqdm

from flip.data.duplicates import REASONS
from flip.data.index import members, write_index
from flip.files import atomic, file_hash, read_json, write_json
from flip.params import load


def duplicates_of(part: str, paths: list) -> dict[str, str]:
    """Reason by key, for the keys of a part; the files are sorted by key, so most of each is not read."""
    prefix = [("key", ">=", f"{part}-"), ("key", "<", f"{part}.")]
    reasons = {}
    for path in paths:
        for row in pq.read_table(path, filters=prefix).to_pylist():
            reasons[row["key"]] = min(reasons.get(row["key"], row["reason"]), row["reason"], key=REASONS.index)
    return reasons


def verdicts(fingerprints, reasons: dict[str, str]):
    """(key, why it is lost or None) of every picture of a part, by key."""
    with pq.ParquetFile(fingerprints) as file:
        for batch in file.iter_batches(columns=["key", "looks", "captioned"]):
            for key, looks, captioned in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield key, "broken" if looks is None else reasons.get(key) if captioned else "no caption"


def usable(download: Path, verdict, lost: Counter):
    """Samples for webdataset's writer, by key; counts in `lost` what is left out, and why.

    Raises:
        ValueError: the verdicts are not about these pictures.
    """
    for tar in sorted(download.with_suffix("").glob("*.tar")):
        with open(tar, "rb") as file:
            for key, sample in members(tar).items():
                key, (judged, reason) = f"{download.stem}-{key}", next(verdict, (None, None))
                if judged != key:
                    raise ValueError(
                        f"{download}: {key} has no fingerprint where it should be ({judged}); run the "
                        "fingerprints stage again"
                    )
                if reason:
                    lost[reason] += 1
                else:
                    yield {"__key__": key} | {kind: read(file, sample[kind]) for kind in ("jpg", "txt")}


def read(file, place: tuple[int, int]) -> bytes:
    file.seek(place[0])
    return file.read(place[1])


def write_shard(path: Path, samples) -> dict:
    """Writes a tar with its index; gives its entry of the manifest."""
    with atomic(path) as file, wds.TarWriter(file, encoder=False, mtime=0) as tar:
        for sample in samples:
            tar.write(sample)
    name = f"{path.parent.name}/{path.name}"
    return {"name": name, "samples": write_index(path), "sha256": file_hash(path), "bytes": path.stat().st_size}


def write_shards(folder: Path, samples, per_shard: int) -> list[dict]:
    """All shards of a part; what stood in the folder is thrown away."""
    shutil.rmtree(folder, ignore_errors=True)
    shards = []
    for first in samples:
        shard = chain([first], islice(samples, per_shard - 1))
        shards.append(write_shard(folder / f"{len(shards):05d}.tar", shard))
    return shards


def write_part(download, fingerprints, duplicates: list, out, per_shard: int) -> dict:
    """Writes the shards of a part beside `out`, and to `out` their entries and the part's ledger.

    Raises:
        ValueError: as `usable`; or a tar of the download is not whole.
    """
    download, out, dropped = Path(download), Path(out), Counter()
    account = read_json(download)
    verdict = verdicts(fingerprints, duplicates_of(download.stem, duplicates))
    samples = tqdm(usable(download, verdict, dropped), "shards", account["arrived"], unit="picture", disable=None)
    shards = write_shards(out.with_suffix(""), iter(samples), per_shard)
    ledger = {
        "wanted": account["wanted"],
        "arrived": account["arrived"],
        "decoded": account["arrived"] - dropped["broken"],
        "used": sum(shard["samples"] for shard in shards),
        "lost": dict(sorted((Counter(account["failed"]) + dropped).items())),
    }
    result = {"shards": shards, "ledger": ledger}
    write_json(out, result)
    return result


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m flip.data.shards", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params.yaml)")
    parser.add_argument("--download", required=True, help="account of the downloaded part; the pictures lie beside it")
    parser.add_argument("--fingerprints", required=True, help="the part's fingerprints")
    parser.add_argument("--duplicates", nargs="*", default=[], help="keys to drop, of every bucket")
    parser.add_argument("--out", required=True, help="entries and ledger (JSON); the shards go beside it")
    options = parser.parse_args(argv)
    try:
        per_shard = load(options.params).shards.samples_per_shard
        result = write_part(options.download, options.fingerprints, options.duplicates, options.out, per_shard)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{result['ledger']['used']} pairs in {len(result['shards'])} shards")


if __name__ == "__main__":
    main()
