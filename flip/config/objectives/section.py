"""Define what the section of an objective answers for it to those who must not import torch."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar, Self, TypeVar

from flip.config.sections.data import Mix
from flip.config.sections.types import Section

IMAGE, TEXT = "image", "text"  # towers
Facts = dict[str, tuple[Callable[[Any], str], tuple[str, ...]]]
Class = TypeVar("Class")


def defined_in(module: str, base: type[Class]) -> type[Class]:
    """Import a module and return the one subclass of `base` that it defines itself."""
    there = [one for one in vars(import_module(module)).values() if isinstance(one, type) and issubclass(one, base)]
    (found,) = (one for one in there if one.__module__ == module)
    return found


class ObjectiveSection(Section):
    """Answer for an objective what others ask of it; the defaults are those of one loss of pairs of features."""

    weights: ClassVar[tuple[str, ...]] = ("weight",)  # keys, of which one above 0 builds it
    aligns: ClassVar[bool] = False  # whether it ties images to captions in a common space
    trains_pooling: ClassVar[bool] = False  # whether it reads pooled image features, where it aligns nothing
    # What distinguishes a row of a table: words -> how to say it, and the keys that it stands for.
    facts: ClassVar[Facts] = {}

    @property
    def wanted(self) -> bool:
        """Tell whether a weight is above 0."""
        return any(getattr(self, name) for name in self.weights)

    @property
    def reads_patches(self) -> bool:
        """Tell whether it reads what single patches have become, which merging ends."""
        return False

    @property
    def towers(self) -> frozenset[str]:
        """Name the towers that it trains."""
        return frozenset({IMAGE, TEXT})

    @property
    def begins(self) -> float:
        """Return the share of the training before its losses begin."""
        return getattr(self, "starts_at", 0.0)

    def at(self, share: float) -> Self:
        """Return the section as it is at a share of the training: with losses from the beginning on, or with none."""
        if not self.begins:
            return self
        return self.model_copy(update={"starts_at": 0.0} if self.begins <= share else dict.fromkeys(self.weights, 0.0))

    @property
    def builds_on(self) -> str | None:
        """Return the variant, or the imported folder, that has to be trained before; None: none."""
        return None

    @property
    def relates(self) -> bool:
        """Tell whether it trains what says how an image and a caption go together."""
        return self.aligns

    @property
    def sample_types(self) -> Mix | None:
        """Say what the samples are used as where that is not pairs alone."""
        return None

    def check(self, params: Any) -> None:
        """Raise ValueError where the rest of a variant's parameters leaves it nothing to work on."""
