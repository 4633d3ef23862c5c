"""List the objectives that there are: each module here has the section of one, by the module's name.

So an objective is a file here and one of the same name in flip.losses, and nothing else names it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import create_model

from flip.config.objectives.section import IMAGE, TEXT, ObjectiveSection, defined_in
from flip.config.sections.data import Mix
from flip.config.sections.types import Section

# In the order in which their losses are computed and added up.
NAMES = tuple(sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - {"__init__", "section"}))


class _Base(Section):
    """Answer what follows from all objectives together."""

    if TYPE_CHECKING:  # fields are found by name

        def __getattr__(self, name: str) -> Any: ...

    @property
    def objectives(self) -> dict[str, ObjectiveSection]:
        """Map the names of the sections with a weight above 0 to them."""
        sections = {name: getattr(self, name) for name in NAMES}
        return {name: section for name, section in sections.items() if section.wanted}

    @property
    def aligned(self) -> bool:
        """Tell whether a loss ties images to captions in a common space; without one there are no projections."""
        return any(one.aligns for one in self.objectives.values())

    @property
    def has_image_tower(self) -> bool:
        """Tell whether a loss reads images."""
        return any(IMAGE in one.towers for one in self.objectives.values())

    @property
    def has_text_tower(self) -> bool:
        """Tell whether a loss reads captions through a tower of their own."""
        return any(TEXT in one.towers for one in self.objectives.values())

    @property
    def trains_pooling(self) -> bool:
        """Tell whether a loss reads what the image tower's patches are pooled into."""
        return any(one.aligns or one.trains_pooling for one in self.objectives.values())

    @property
    def relates(self) -> bool:
        """Tell whether it can say how an image and a caption go together: by a common space, or by an encoder of
        both."""
        return any(one.relates for one in self.objectives.values())

    @property
    def mix(self) -> Mix | None:
        """Return what the samples are used as where that is not pairs alone."""
        return next((one.sample_types for one in self.objectives.values() if one.sample_types), None)


_FIELDS: dict[str, Any] = {name: (defined_in(f"{__name__}.{name}", ObjectiveSection), ...) for name in NAMES}
Objectives: Any = create_model("Objectives", __base__=_Base, **_FIELDS)
