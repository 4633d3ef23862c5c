"""Run img2dataset on what a part is missing, in a process that ends with this one, and as often as it takes."""

import errno
import os
import re
import sys
import threading
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from tqdm import tqdm

from flip.config.schema import Params
from flip.config.sections.download import Download
from flip.download.shards import DownloadShards
from flip.processes import background, given_options
from flip.space import is_full

FAILED_AT_ONCE = 100  # rows that img2dataset collects before it writes them
ATTEMPTS = 3  # at a shard, and at starting img2dataset where that was killed


def img2dataset_options(shards: DownloadShards, params: Params) -> dict:
    """Return img2dataset's options.

    With `source.sha256_column`, it refuses an image whose bytes have another SHA-256 than its row.
    """
    options = params.download
    return {
        "url_list": str(shards.rounds.absolute()),
        "output_folder": str(shards.folder.absolute()),
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
        "max_shard_retry": ATTEMPTS - 1,
    }


def shares(options: Download) -> dict[str, float | None]:
    """Return a part's share of what a host is asked at most: equal ones hold on any machines, which need no word of
    each other."""
    second = options.per_host_second
    return {"connections": options.per_host // options.sharing, "per_second": second and second / options.sharing}


def fetching(params: Params, hosts: str) -> dict:
    """Return how each image is fetched (flip.download.fetch.Fetcher); `hosts` is a folder for what is known of them."""
    options = params.download
    return {
        "schemes": options.schemes,
        "private": options.private_addresses,
        "contact": options.contact,
        "deadline": options.deadline,
        "largest": options.largest_body,
        "hosts": {"folder": hosts, **shares(options)},
    }


def stall_seconds(params: Params) -> float:
    """Return after how many seconds without growth a shard stands still: at least as long as it may take until the rows
    that img2dataset writes at once have all failed at their deadline."""
    options = params.download
    return max(60 * options.stall_minutes, options.deadline * (1 + FAILED_AT_ONCE / options.threads))


def run_child() -> None:
    """Run img2dataset with the options in one line of JSON on standard input; `fetch` starts this in a process of its
    own."""
    options = given_options()
    from flip.download.resize import DisplayedResizer
    from flip.download.workers import ForkedLogger, KeptDownloader, ShardProcesses

    module: Any = import_module("img2dataset.main")  # what the package calls `main` is a function in it
    module.Downloader = partial(KeptDownloader, options.pop("fetching"))
    module.Resizer = DisplayedResizer  # there is no option for it
    module.LoggerProcess = ForkedLogger
    distributor: Any = import_module("img2dataset.distributor")
    pool = partial(ShardProcesses, options.pop("stall"))
    distributor.get_context = lambda _: SimpleNamespace(Pool=pool)
    try:
        module.download(**options)
    except Exception as error:
        if is_full(error):
            sys.exit(errno.ENOSPC)
        raise


def show_progress(shards: DownloadShards, stop: threading.Event) -> None:
    """Show how many shards are complete, until `stop`."""
    with tqdm(total=len(shards.sizes()), desc="download", unit="shard", disable=None) as bar:
        while not stop.wait(1):
            bar.update(shards.finished() - bar.n)


def fetch(params: Params, shards: DownloadShards, log: Path, proxy: str | None) -> int:
    """Run img2dataset on what is missing, through a proxy if its address is given; its output goes to `log`. Return its
    exit code."""
    options = img2dataset_options(shards, params)
    options["stall"] = stall_seconds(params)
    environment = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}  # it would ask the network for its own updates
    environment |= {"http_proxy": proxy, "no_proxy": "", "NO_PROXY": ""} if proxy else {}
    code = "from flip.download.crawl import run_child; run_child()"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as output, TemporaryDirectory(prefix="flip-hosts-") as hosts:
        options["fetching"] = fetching(params, hosts)
        stop = threading.Event()
        progress = threading.Thread(target=show_progress, args=(shards, stop))
        progress.start()
        try:
            with background(code, options, stdout=output, stderr=output, env=environment) as process:
                return process.wait()
        finally:
            stop.set()
            progress.join()


def complete(params: Params, shards: DownloadShards, log: Path, proxy: str | None) -> bool:
    """Download what is missing of the rounds; tell whether anything was.

    img2dataset does shards again that fail, and is itself started again where the kernel killed it.

    Raises:
        ValueError: shards are missing afterwards.
        OSError: the disk is full.
    """
    missing = started = shards.discard_incomplete()
    for _ in range(ATTEMPTS):
        code = fetch(params, shards, log, proxy) if missing else 0
        missing = shards.discard_incomplete() if missing else []
        if code == errno.ENOSPC:
            raise OSError(code, os.strerror(code), str(shards.folder))
        if code >= 0:
            break
    if missing:
        raise ValueError(
            f"{shards.folder}: img2dataset left {len(missing)} of {len(shards.sizes())} shards unfinished "
            f"({last_error(log) or 'it gave no reason'}); see {log}, check the free space of disk and memory, then "
            "run the same command again: finished shards are kept"
        )
    return bool(started)


def last_error(log: Path) -> str:
    """Return the last line of a log that names a failure; img2dataset's statistics only count them."""
    lines = log.read_text(errors="replace").splitlines()
    named = re.compile(r"^(?!.* - failed to download: ).*(\w(Error|Exception)\b|Error:|failed|Killed)")
    return next((line.strip() for line in reversed(lines) if named.match(line)), "")
