"""Name the programs from outside Python that some tests run, and Debian's package of each.

    python3 tests/programs.py

prints the packages that this machine lacks, for .ci/install. The tests install nothing: those that need a program
that is missing are skipped, and say what to install.
"""

import shutil

PACKAGES = {
    "chromium": "chromium",
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server-core",
    "java": "default-jre-headless",
    "kubectl": "kubernetes-client",
}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SLURM = ("munged", "slurmctld", "slurmd", "sbatch")
DATABASE = ("slurmdbd", "mariadbd")


class Unavailable(Exception):
    """Say why a program cannot run here."""


def find(name: str) -> str | None:
    """Return where a program is, under any of its names; None: nowhere."""
    names = CHROMIUM if name == "chromium" else (name,)
    return next(filter(None, map(shutil.which, names)), None)


def lacking(*names: str) -> list[str]:
    """Return the packages of those programs that are not here."""
    return sorted(PACKAGES[name] for name in names if not find(name))


def need(*names: str) -> None:
    """Check that programs are here.

    Raises:
        Unavailable: some are not; the message says how they are installed.
    """
    if packages := lacking(*names):
        raise Unavailable(f"needs {', '.join(packages)}: as root, .ci/install or apt-get install {' '.join(packages)}")


if __name__ == "__main__":
    print(" ".join(lacking(*PACKAGES)))
