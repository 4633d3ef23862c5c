"""Where the workflow puts what belongs to one training of a variant, for commands that only look at it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flip.config.faults import nearest
from flip.config.frozen import load
from flip.config.resolve import read_project
from flip.config.schema import Params


@dataclass(frozen=True)
class Trained:
    """A variant with one seed, whether it has been trained or not."""

    scale: str
    variant: str
    seed: int

    @property
    def place(self) -> Path:
        """Below results/ and checkpoints/."""
        return Path(self.scale) / self.variant / f"seed-{self.seed}"

    @property
    def folder(self) -> Path:
        return "results" / self.place

    @property
    def data(self) -> Path:
        return Path("data") / self.scale

    @property
    def checkpoints(self) -> Path:
        """Of a training in progress; it is gone when that has ended."""
        return "checkpoints" / self.place

    @property
    def remedy(self) -> str:
        return (
            f"`snakemake variant --config scale={self.scale} variant={self.variant}` trains it, "
            f"`dvc pull results/{self.scale}/{self.variant}` fetches what DVC has recorded"
        )

    @property
    def data_remedy(self) -> str:
        return f"`snakemake data --config scale={self.scale}` makes it, `dvc pull data` fetches what DVC has recorded"

    @cached_property
    def params(self) -> Params:
        """Those that it is, or was, trained with.

        Raises:
            ValueError: no training has begun.
        """
        path = self.folder / "params.yaml"
        if not path.exists():
            raise ValueError(f"{path}: not here, so '{self.variant}' has not been trained; {self.remedy}")
        return load(path)

    @property
    def weights(self) -> Path:
        """Of the end of the training.

        Raises:
            ValueError: they are not there.
        """
        path = self.folder / "weights.safetensors"
        if not path.exists():
            raise ValueError(f"{path}: not here; {self.remedy}")
        return path


def find(variant: str, scale: str | None, seed: int, path="params.yaml") -> Trained:
    """The training of a variant at a scale (by default the one that params.yaml names).

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
