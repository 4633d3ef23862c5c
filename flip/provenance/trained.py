"""Find the training run of a variant with one seed, for commands that people give a variant's name."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flip.config.faults import nearest
from flip.config.frozen import load
from flip.config.resolve import read_project
from flip.config.schema import Params
from flip.provenance.layout import Layout


@dataclass(frozen=True)
class Trained:
    """Give the paths of a variant with one seed, whether it has been trained or not."""

    scale: str
    variant: str
    seed: int

    @property
    def layout(self) -> Layout:
        return Layout(self.scale)

    @property
    def folder(self) -> Path:
        return Path(self.layout.run(self.variant, self.seed))

    @property
    def data(self) -> Path:
        return Path(self.layout.data)

    @property
    def checkpoints(self) -> Path:
        return Path(self.layout.checkpoints(self.variant, self.seed))

    @property
    def curve(self) -> Path:
        return Path(self.layout.curve(self.variant, self.seed))

    @property
    def remedy(self) -> str:
        """Return how to obtain a trained variant, for messages."""
        return (
            f"`snakemake variant --config scale={self.scale} variant={self.variant}` trains it, "
            f"`dvc pull {self.layout.variant(self.variant)}` fetches what DVC has recorded"
        )

    @property
    def data_remedy(self) -> str:
        """Return how to obtain the data, for messages."""
        return f"`snakemake data --config scale={self.scale}` makes it, `dvc pull data` fetches what DVC has recorded"

    @cached_property
    def params(self) -> Params:
        """Read the parameters that it is, or was, trained with.

        Raises:
            ValueError: no training has begun.
        """
        path = self.folder / "params.yaml"
        if not path.exists():
            raise ValueError(f"{path}: not found, so '{self.variant}' has not been trained; {self.remedy}")
        return load(path)

    @property
    def weights(self) -> Path:
        """Return the path of the final weights.

        Raises:
            ValueError: they do not exist.
        """
        path = self.folder / "weights.safetensors"
        if not path.exists():
            raise ValueError(f"{path}: not found; {self.remedy}")
        return path


def find(variant: str, scale: str | None, seed: int, path: str | Path = "params.yaml") -> Trained:
    """Find the training run of a variant at a scale (by default the one that params.yaml names).

    Raises:
        ValueError: params.yaml has no such variant, scale or seed.
    """
    project = read_project(path, scale)
    if variant not in (known := project.tree["variants"]):
        raise ValueError(f"unknown variant '{variant}'; {nearest(variant, known)}")
    if seed not in (seeds := project.resolve(variant).seeds):
        known = ", ".join(map(str, seeds))
        raise ValueError(f"--seed {seed}: '{variant}' is trained with {known}; add it to `seeds` in params.yaml")
    return Trained(project.scale, variant, seed)
