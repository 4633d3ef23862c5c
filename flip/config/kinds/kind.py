"""Say what a kind of test set is: what lies beside its images, how that is checked, and which metrics it has.

Each file of flip/config/kinds declares one, as KIND; the file of the same name in flip/evaluate/kinds measures it.
Nothing else has to know of it. Both are found by themselves.
"""

from collections.abc import Callable
from pathlib import Path

from flip.formats import layout
from flip.formats.contents import image_extension, read
from flip.formats.tar_members import members


def check_some(samples: int, place: Path) -> None:
    """Raise a ValueError if a split has no samples."""
    if not samples:
        raise ValueError(f"{place}: no samples in its tars; export the set again")


class Kind:
    """Describe a kind of test set.

    `name` is what dataset_type.txt says, `endings` what may follow a set's name in the names of its metrics; where a
    set `is_open`, strangers' may have others, too. `has_classes`: it has class names and prompts, and so a measure.
    """

    name: str
    endings: tuple[str, ...] = ("",)
    is_open = False
    has_classes = False
    learned = False  # measured by heads that learn from it (flip.transfer), and named by `transfer` in params.yaml
    # What only these have: the task whose training split teaches them, the extension of their notes, how these are read
    # of a sample, and of the world's.
    taught_by: str
    beside: str
    notes: Callable[[dict[str, bytes], str], list]
    known: Callable[[list], list]

    def endings_at(self, place: str | None) -> tuple[str, ...]:
        """Return the endings of the metrics of a set that lies at `place`; None: a scale has none."""
        return self.endings

    def may_have(self, ending: str) -> bool:
        """Return whether an open set may have a metric of this ending."""
        return ending != ""

    def target(self, folder: Path) -> tuple[str, Callable]:
        """Return how what stands beside each image is read: its extension, and a function of its bytes and of the name
        of the sample, which gives a number, labels int64 [classes] or a list of captions.

        Raises:
            ValueError: the set lacks what all its samples share, as class names; or it is not read in this way.
        """
        raise ValueError(f"{folder}: a set for {self.name} has neither classes nor captions of whole images")

    def targets(self, folder: Path, split: str) -> list:
        """Read what stands beside each image of a split.

        Raises:
            ValueError: a sample without it, without an image or with several; or none at all.
        """
        extension, target = self.target(folder)
        found = []
        for tar in layout.tars(folder, split):
            with open(tar, "rb") as file:
                for key, places in members(tar).items():
                    where = f"{tar}: {key}"
                    image_extension(places, where)
                    found.append(target(read(file, places, extension).get(extension, b""), where))
        check_some(len(found), folder / split)
        return found

    def facts(self, folder: Path, name: str, measure: str) -> dict:
        """Check what stands beside the test images of the set called `name`, and return what its revision says of it:
        `classes`, unless there are none, and what guessing gives (`chance`, percent) unless that follows from them.

        Raises:
            ValueError: an evaluation could not read it, or it has no such measure.
        """
        self.targets(folder, "test")
        return {}

    def training_samples(self, folder: Path) -> int:
        """Check the training split, and return how many samples it has. Raises ValueError as `targets`."""
        return len(self.targets(folder, "train"))
