"""Download the images of one part of the URL table with img2dataset, and account for those that did not arrive.

    python -m flip.download.part --params specs/tiny/params/clip.yaml --table data/tiny/table/0000.parquet \\
        --out data/tiny/download/0000.json

The images lie beside the account, in the folder of its name. A job that was killed resumes: img2dataset skips the
shards that have their statistics, the others are downloaded again from their start.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flip.config.frozen import load
from flip.config.schema import Params
from flip.download.crawl import complete
from flip.download.failures import ASKED_AGAIN, LEFT_OUT, PASSING
from flip.download.schemes import fetchable
from flip.download.shards import DownloadShards
from flip.files import file_hash, workspace, write_json
from flip.sources.columns import UNREADABLE
from flip.sources.images import MORE, by_image
from flip.space import full

# Raised when an image's bytes become other pixels than before, so that no data set mixes the two.
# 2: upright, 16 bits scaled, as flip.formats.images decodes. 3: in sRGB.
DECODING = 3
# What images that are there depend on; how their hosts are treated is not of it.
IMAGES = ("image_size", "timeout", "retries", "min_image_size", "max_aspect_ratio", "quality", "samples_per_shard")
SHARE_OF_NOTE = 0.02  # of failures by one cause


def encoding(params: Params) -> str:
    """Return what, besides an image's bytes, decides what is stored of it."""
    return f"{params.download.model_dump_json(include=set(IMAGES))} {DECODING}"


def identity(params: Params, table: Path, drawn_by: str | Path | None = None, refused: int = 0) -> str:
    """Return what images that are there must have been made from; img2dataset itself matches shards by number only.

    Schemes count where they refuse a row. Images of real URLs do not depend on this code, but on DECODING: editing it
    must not download millions of them again.
    """
    drawn = file_hash(drawn_by) if drawn_by else ""
    return f"{file_hash(table)} {encoding(params)} {drawn}" + (f" {params.download.schemes}" if refused else "")


def enough(account: dict, least: float) -> bool:
    """Tell whether at least this share arrived of what could be asked for."""
    asked = account["wanted"] - count(account, LEFT_OUT | {MORE})
    return account["arrived"] > 0 and account["arrived"] >= least * asked


def count(account: dict, classes: Set[str]) -> int:
    """Count the images that failed in these ways."""
    return sum(number for name, number in account["failed"].items() if name in classes)


def too_few(params: Params, account: dict, table: Path) -> ValueError:
    """Return the error that too few images arrived."""
    arrived, wanted = account["arrived"], account["wanted"]
    causes = ", ".join(f"{number} {name}" for name, number in account["failed"].items())
    least = f"{arrived} of {wanted} images arrived, below download.least_share = {params.download.least_share:g}"
    cure = f"the same command again, which asks for the {count(account, ASKED_AGAIN)} whose reason may have passed"
    return ValueError(
        f"{table}: {least if arrived else f'no image arrived of {wanted}'} ({causes}); try a URL of the table by hand, "
        f"check the network, then run {cure}{', or lower the key' if arrived else ''}"
    )


def advice(params: Params, account: dict) -> Iterator[str]:
    """Yield what may be done about the images that did not arrive, and about who asked."""
    if params.source.table != "world" and params.download.contact is None:
        yield "download.contact is null: name a page or an address, so that owners of hosts can write before they block"
    failed = account["failed"]
    if passing := count(account, PASSING):
        yield f"{passing} failed for a reason that passes; `snakemake retry`, then `snakemake data`, asks again"
    if failed.get("name server", 0) > SHARE_OF_NOTE * account["wanted"]:
        yield "the name server leaves many requests without an answer; run a resolver here (knot-resolver, bind9)"


def asked_for(urls: pa.ChunkedArray, schemes: Sequence[str]) -> tuple[pa.ChunkedArray, Counter[str]]:
    """Tell which URLs are asked for, and count the others by class."""
    allowed = fetchable(urls, schemes)
    unreadable = pc.sum(pc.equal(urls, UNREADABLE), min_count=0).as_py()
    refused = len(allowed) - pc.sum(allowed, min_count=0).as_py() - unreadable
    return allowed, Counter({"refused": refused, "unreadable text": unreadable})


def images_of(params: Params, table: Path, allowed: pa.ChunkedArray, not_asked: Counter[str]) -> pa.Table | None:
    """Return the rows to ask for, one per image with all its captions, and count the others in `not_asked`; None where
    these are all rows of the table."""
    rows = pq.read_table(table)
    asked = rows.filter(allowed)
    # The synthetic web gives what it gives by the row.
    if params.source.kind == "urls":
        asked = by_image(asked).drop_columns("rows")
        not_asked[MORE] += len(rows.filter(allowed)) - len(asked)
    return asked if len(asked) < len(rows) else None


def download(
    params: Params,
    table: str | Path,
    out: str | Path,
    drawn_by: str | Path | None = None,
    log: str | Path | None = None,
    proxy: str | None = None,
) -> dict:
    """Download a part of the URL table into the folder beside `out`; write the account to `out`, and return it.

    `drawn_by` is a file that changes with what draws the images, where they are not from the web; those of another one
    are deleted. `proxy` is the address of one that answers for all hosts. Where too few images
    had arrived, those that failed for a reason that may have passed are asked for again.

    Raises:
        ValueError: shards are missing when img2dataset ends, or too few images arrived.
    """
    table, out = Path(table), Path(out)
    allowed, not_asked = asked_for(pq.read_table(table, columns=["url"])["url"], params.download.schemes)
    folder = workspace(out.with_suffix(""), identity(params, table, drawn_by, not_asked["refused"]))
    shards = DownloadShards(folder, params.download.samples_per_shard)
    shards.begin(table, images_of(params, table, allowed, not_asked))
    log = Path(log) if log else folder / "img2dataset.log"
    resumed = complete(params, shards, log, proxy)
    account = shards.account(not_asked)
    least = params.download.least_share
    if not resumed and not enough(account, least):
        shards.ask_again()
        complete(params, shards, log, proxy)
        account = shards.account(not_asked)
    if not account["arrived"]:
        shards.discard_all()
    if not enough(account, least):
        raise too_few(params, account, table)
    # The receipt says what came by this file: counts alone would be the same for other images, or other captions.
    write_json(out, account | {"images": shards.arrived(encoding(params))})
    return account


def main(argv: list[str] | None = None, download: Callable[..., dict] = download) -> None:
    """Run the command; `download` is the function that downloads a part."""
    parser = argparse.ArgumentParser(prog=f"python -m {download.__module__}", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--table", required=True, help="one part of the URL table")
    parser.add_argument("--out", required=True, help="the account (JSON); the images go to the folder of its name")
    parser.add_argument("--spec", help="file that changes with what draws the images, where that is no web")
    parser.add_argument("--log", help="where img2dataset's words go; default: img2dataset.log beside the images")
    options = parser.parse_args(argv)
    started = time.monotonic()
    try:
        params = load(options.params)
        account = download(params, options.table, options.out, options.spec, options.log)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{full(error) or error}\n")
    print(f"{account['arrived']} of {account['wanted']} images arrived in {time.monotonic() - started:.0f} s")
    for line in advice(params, account):
        print(line)


if __name__ == "__main__":
    main()
