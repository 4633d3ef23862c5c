"""Debian's packages for tests that need programs from outside Python; set up where they are missing, by root."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path


class Unavailable(Exception):
    """Why there can be no such program here."""


def install(packages: list[str]) -> None:
    """Installs packages; processes that do so at once take turns.

    Raises:
        Unavailable: this is no root, there is no apt-get, or it fails.
    """
    if os.geteuid() or not shutil.which("apt-get"):
        raise Unavailable(f"no {', '.join(packages)}, and no root with apt-get to install them")
    with open(Path(tempfile.gettempdir()) / "flip-apt.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            done = subprocess.run(
                ["apt-get", "-qq", *words],
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise Unavailable(f"apt-get {words[0]} failed: {done.stderr.strip()[-300:]}")
