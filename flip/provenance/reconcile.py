"""Check after `git clone` and `dvc pull` that files are as recorded, and tell both tools that they are up to date.

It looks at every file that DVC has recorded. If one exists with another content, it is named and nothing is touched.
Otherwise the specs are written; `snakemake -n` then compares contents, and no job runs again for a new file time. What
was not pulled may be missing: no job needs it before something changes.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any


def call(*words: str) -> str:
    """Run a Python module of the environment as a command and return what it prints.

    Raises:
        ValueError: it failed; the message repeats its output.
    """
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(words)} failed:\n{done.stderr or done.stdout}")
    return done.stdout


def differing(status: dict[str, Any]) -> list[str]:
    """List the files that exist with another content; folders are left out, as their files are listed."""
    return sorted(path for path in status.get("modified", []) if not path.endswith("/"))


def missing(status: dict[str, Any]) -> list[str]:
    """List the paths that do not exist; of a missing folder, the folder alone."""
    paths = sorted(status.get("deleted", []))
    folders = tuple(path for path in paths if path.endswith("/"))
    return [path for path in paths if path in folders or not path.startswith(folders)]


def files(paths: Sequence[str]) -> int:
    """Count the files among paths."""
    return sum(not path.endswith("/") for path in paths)


def reconcile() -> tuple[int, int, list[str]]:
    """Write the specs; return how many recorded files are here, of how many, and the recorded paths that are not.

    Raises:
        ValueError: a file differs from what was recorded, or a command failed.
    """
    said = json.loads(call("dvc", "data", "status", "--json", "--granular", "--unchanged"))
    status = said.get("uncommitted", {})
    if changed := differing(status):
        raise ValueError(
            f"not what was recorded: {', '.join(changed)}. Nothing was touched. `dvc checkout --force {changed[0]}` "
            f"brings the recorded content (`dvc pull` if it is not in the cache); `dvc commit` records what is here"
        )
    call("snakemake", "specs", "--quiet", "all")
    here, gone = files(said.get("unchanged", [])), files(status.get("deleted", []))
    return here, here + gone, missing(status)
