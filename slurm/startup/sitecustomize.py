"""What Python runs first in a job of the cluster (slurm/config.yaml, precommand): Snakemake starts sooner.

Snakemake imports all of its plugins, and the one for Slurm imports pandas for a report that no job makes. That takes as
long as two thirds of all else, twice per job. Here pandas is loaded when it is first used, in Snakemake alone.
"""

import sys
from importlib import util


class Later:
    """Finds pandas once, to be loaded at the first look at one of its attributes."""

    @classmethod
    def find_spec(cls, name, path, target=None):
        if name != "pandas":
            return None
        sys.meta_path.remove(cls)
        spec = util.find_spec(name)
        spec.loader = util.LazyLoader(spec.loader)
        return spec


if sys.orig_argv[1:3] == ["-m", "snakemake"] or "".join(sys.orig_argv[1:2]).endswith("/snakemake"):
    sys.meta_path.insert(0, Later)
