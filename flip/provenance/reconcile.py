"""After `git clone` and `dvc pull`: see that what came is what was recorded, and tell both tools that it is up to date.

    python -m flip.provenance.reconcile

Looks at every file that DVC has recorded. If one is here with another content, it is named and nothing is touched.
Otherwise the specs are written; `snakemake -n` and `dvc status` then look at contents, and no job runs again for a new
file time. What was not pulled may be missing: no job needs it before something changes.
"""

import argparse
import json
import subprocess
import sys


def call(*words: str) -> str:
    """What a command of the environment prints.

    Raises:
        ValueError: it failed; with its words.
    """
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(words)} failed:\n{done.stderr or done.stdout}")
    return done.stdout


def differing(status: dict) -> list[str]:
    """Files that are here with another content; a folder's own line says no more than those of its files."""
    return sorted(path for path in status.get("modified", []) if not path.endswith("/"))


def missing(status: dict) -> list[str]:
    """What is not here, a folder without the files in it."""
    paths = sorted(status.get("deleted", []))
    folders = tuple(path for path in paths if path.endswith("/"))
    return [path for path in paths if path in folders or not path.startswith(folders)]


def reconcile() -> list[str]:
    """Writes the specs; gives the recorded paths that are not here.

    Raises:
        ValueError: a file is not what was recorded.
    """
    status = json.loads(call("dvc", "data", "status", "--json", "--granular")).get("uncommitted", {})
    if changed := differing(status):
        raise ValueError(
            f"not what dvc.lock says: {', '.join(changed)}. Nothing was touched. `dvc checkout --force {changed[0]}` "
            f"brings the recorded content (`dvc pull` if it is not in the cache); `dvc commit` records what is here"
        )
    call("snakemake", "specs", "--quiet", "all")
    return missing(status)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m flip.provenance.reconcile", description=__doc__.splitlines()[0])
    parser.parse_args(argv)
    try:
        absent = reconcile()
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    if absent:
        print(f"Recorded, and not here: {', '.join(absent)}. `dvc pull PATH` brings one when it is needed.")
    print("What is here is what was recorded.")


if __name__ == "__main__":
    main()
