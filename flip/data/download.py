"""Download the images of one part of the URL table with img2dataset, and account for those that did not arrive.

    python -m flip.data.download --params specs/tiny/params/clip.yaml --table data/tiny/table/0000.parquet \\
        --out data/tiny/download/0000.json

The images lie beside the account, in the folder of its name. A job that was killed resumes: img2dataset skips the
shards that have their statistics, the others are downloaded again from their start.
"""

import argparse
import math
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from flip.config.frozen import load
from flip.config.schema import Params
from flip.data.schemes import fetchable
from flip.files import atomic, file_hash, read_json, workspace, write_json
from flip.formats.tar_members import members
from flip.processes import background, given_options

# Raised when an image's bytes become other pixels than before, so that no data set mixes the two.
# 2: upright, 16 bits scaled, as flip.formats.images decodes.
DECODING = 2
# img2dataset keeps the words of whatever library failed; the first pattern that is found names the class.
CLASSES = {
    "refused": r"unknown url type|Redirection to url .* is not allowed",
    "changed": r"hash mismatch",
    "not found": r"HTTP Error (404|410)",
    "forbidden": r"HTTP Error (401|402|403|451)|X-Robots-Tag",
    "time-out": r"timed out|HTTP Error (408|504)",
    "truncated": r"IncompleteRead",
    "too small": r"image too small",
    "too elongated": r"aspect ratio too large",
    "no readable picture": r"Image decoding error|OpenCV",
    "connection": r"urlopen error|Errno|[Cc]onnection|SSL",
}


def failure(message: str) -> str:
    """Return the class of a failure that img2dataset describes by `message`."""
    return next((name for name, pattern in CLASSES.items() if re.search(pattern, message)), "other")


def img2dataset_options(table: Path, folder: Path, params: Params) -> dict:
    """Return img2dataset's options.

    With `source.sha256_column`, it refuses an image whose bytes have another SHA-256 than its row.
    """
    options = params.download
    return {
        "url_list": str(table.absolute()),
        "output_folder": str(folder.absolute()),
        "input_format": "parquet",
        "url_col": "url",
        "caption_col": "caption",
        "save_additional_columns": ["row"],
        "output_format": "webdataset",
        "number_sample_per_shard": options.samples_per_shard,
        "processes_count": options.processes,
        "thread_count": options.threads,
        "timeout": options.timeout,
        "retries": options.retries,
        "image_size": options.image_size,
        "resize_mode": "keep_ratio",
        "resize_only_if_bigger": True,
        "min_image_size": options.min_image_size,
        "max_aspect_ratio": options.max_aspect_ratio,
        "encode_format": "jpg",
        "encode_quality": options.quality,
        "extract_exif": False,
        "compute_hash": "sha256",
        "verify_hash": ["sha256", "sha256"] if params.source.sha256_column else None,
        "incremental_mode": "incremental",
    }


def identity(params: Params, table: Path, drawn_by: str | Path | None = None, refused: int = 0) -> str:
    """Return what images that are there must have been made from; img2dataset itself matches shards by number only.

    Schemes count where they refuse a row. Images of real URLs do not depend on this code, but on DECODING: editing it
    must not download millions of them again.
    """
    options = params.download.model_dump_json(exclude={"parts", "processes", "threads", "schemes"})
    drawn = file_hash(drawn_by) if drawn_by else ""
    return f"{file_hash(table)} {options} {DECODING} {drawn}" + (f" {params.download.schemes}" if refused else "")


def run_child() -> None:
    """Run img2dataset with the options in one line of JSON on standard input; `fetch` starts this in a process of its
    own."""
    options = given_options()
    from flip.data.resize import DisplayedResizer
    from flip.data.workers import FORKED, ForkedLogger, KeptDownloader

    module: Any = import_module("img2dataset.main")  # what the package calls `main` is a function in it
    module.Downloader = partial(KeptDownloader, options.pop("schemes"))
    module.Resizer = DisplayedResizer  # there is no option for it
    module.LoggerProcess = ForkedLogger
    distributor: Any = import_module("img2dataset.distributor")
    distributor.get_context = lambda _: FORKED
    module.download(**options)


class DownloadShards:
    """List img2dataset's shards of one part: which are to be there, and which are complete."""

    def __init__(self, table: Path, folder: Path, per_shard: int):
        self.folder, self.rows, self.per_shard = folder, pq.read_metadata(table).num_rows, per_shard
        self.numbers = range(math.ceil(self.rows / per_shard))

    def path(self, number: int, suffix: str) -> Path:
        """Return a file of a shard."""
        return self.folder / f"{number:05d}{suffix}"

    def has_statistics(self, number: int) -> bool:
        """Tell whether img2dataset has written a shard's statistics."""
        return self.path(number, "_stats.json").exists()

    def is_whole(self, number: int) -> bool:
        """Tell whether statistics, account and images agree, which a full disk or a kill can prevent."""
        rows = min(self.per_shard, self.rows - number * self.per_shard)
        try:
            stats = read_json(self.path(number, "_stats.json"))
            statuses = pq.read_table(self.path(number, ".parquet"), columns=["status"])["status"]
            images = members(self.path(number, ".tar"))
        except (OSError, ValueError, pa.ArrowException):
            return False
        return stats["count"] == rows and len(images) == pc.sum(pc.equal(statuses, "success")).as_py()

    def discard(self, number: int) -> None:
        """Delete the files of a shard."""
        for suffix in ("_stats.json", ".parquet", ".tar"):
            self.path(number, suffix).unlink(missing_ok=True)

    def discard_incomplete(self) -> None:
        """Delete the files of incomplete shards."""
        for number in self.numbers:
            if not self.is_whole(number):
                self.discard(number)

    def missing(self) -> list[int]:
        """List the shards without statistics."""
        return [number for number in self.numbers if not self.has_statistics(number)]

    def account(self, refused: int) -> dict:
        """Count images: {"wanted", "arrived", "failed": {class: count}}.

        `refused` rows were not passed to img2dataset; what it forgot counts as "other".
        """
        arrived, failed = 0, Counter({"refused": refused} if refused else {})
        for number in self.numbers:
            table = pq.read_table(self.path(number, ".parquet"), columns=["status", "error_message"])
            for group in table.group_by(["status", "error_message"]).aggregate([([], "count_all")]).to_pylist():
                if group["status"] == "success":
                    arrived += group["count_all"]
                else:
                    failed[failure(group["error_message"])] += group["count_all"]
        wanted = self.rows + refused
        if forgotten := wanted - arrived - failed.total():
            failed["other"] += forgotten
        return {"wanted": wanted, "arrived": arrived, "failed": dict(sorted(failed.items()))}


def show_progress(shards: DownloadShards, stop: threading.Event) -> None:
    """Show how many shards are complete, until `stop`."""
    with tqdm(total=len(shards.numbers), desc="download", unit="shard", disable=None) as bar:
        while not stop.wait(1):
            bar.update(len(shards.numbers) - len(shards.missing()) - bar.n)


def fetch(params: Params, table: Path, shards: DownloadShards, log: Path, proxy: str | None) -> None:
    """Run img2dataset on what is missing, through a proxy if its address is given; its output goes to `log`."""
    options = img2dataset_options(table, shards.folder, params) | {"schemes": params.download.schemes}
    environment = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}  # it would ask the network for its own updates
    environment |= {"http_proxy": proxy, "no_proxy": "", "NO_PROXY": ""} if proxy else {}
    code = "from flip.data.download import run_child; run_child()"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as output:
        stop = threading.Event()
        progress = threading.Thread(target=show_progress, args=(shards, stop))
        progress.start()
        try:
            with background(code, options, stdout=output, stderr=output, env=environment) as process:
                process.wait()
        finally:
            stop.set()
            progress.join()


def last_error(log: Path) -> str:
    """Return the last line of a log that speaks of a failure."""
    lines = log.read_text(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if re.search(r"[Ee]rror|failed|Killed", line)), "")


def without(table: Path, allowed: pa.ChunkedArray, out: Path) -> Path:
    """Write the rows that are allowed to a table of their own; return its path."""
    with atomic(out) as file:
        pq.write_table(pq.read_table(table).filter(allowed), file)
    return out


def _require_images(account: dict, shards: DownloadShards, table: Path) -> None:
    """Raise ValueError where no image arrived, after deleting the empty shards."""
    if not account["arrived"]:
        for number in shards.numbers:
            shards.discard(number)
        causes = ", ".join(f"{count} {name}" for name, count in account["failed"].items())
        raise ValueError(
            f"{table}: no image arrived of {account['wanted']} ({causes}); try a URL of the table by hand, check the "
            "network, then run the same command again"
        )


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
    are deleted. `proxy` is the address of one that answers for all hosts.

    Raises:
        ValueError: shards are missing when img2dataset ends, or no image arrived at all.
    """
    table, out = Path(table), Path(out)
    allowed = fetchable(pq.read_table(table, columns=["url"])["url"], params.download.schemes)
    refused = len(allowed) - pc.sum(allowed, min_count=0).as_py()
    folder = workspace(out.with_suffix(""), identity(params, table, drawn_by, refused))
    log = Path(log) if log else folder / "img2dataset.log"
    handed = without(table, allowed, folder / ".handed") if refused else table
    shards = DownloadShards(handed, folder, params.download.samples_per_shard)
    shards.discard_incomplete()
    if shards.missing():
        fetch(params, handed, shards, log, proxy)
        shards.discard_incomplete()
    if missing := shards.missing():
        raise ValueError(
            f"{folder}: img2dataset left {len(missing)} of {len(shards.numbers)} shards unfinished "
            f"({last_error(log) or 'it gave no reason'}); see {log}, check the free space of the disk, then run the "
            "same command again: finished shards are kept"
        )
    account = shards.account(refused)
    _require_images(account, shards, table)
    write_json(out, account)
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
        account = download(load(options.params), options.table, options.out, options.spec, options.log)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{account['arrived']} of {account['wanted']} images arrived in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
