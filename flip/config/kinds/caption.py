"""Read images with captions, for a head that learns to write them: a .txt holds them, a line each, and a .domain the
name of the domain, where the set has several."""

from flip.config.kinds.kind import Kind
from flip.formats.layout import captions
from flip.metrics.sets import SCORES


class Caption(Kind):
    """Declare that what a head says is compared with the captions; `taught_by` is the task whose training split it
    learns from."""

    name = taught_by = "caption"
    endings = tuple(f"-{score}" for score in SCORES)
    is_open = True  # images of several domains
    learned = True
    beside = "txt"

    def may_have(self, ending: str) -> bool:
        """Return whether it is a score, of all images or of a domain."""
        return ending.endswith(self.endings)

    def notes(self, content: dict[str, bytes], where: str) -> list[str]:
        """Read the captions of a sample. Raises ValueError where there is none."""
        return [caption.strip() for caption in captions(content.get(self.beside, b""), where)]

    def known(self, notes: list) -> list[str]:
        """Return the captions of an image of the world, as its set's notes have them."""
        return notes


KIND = Caption()
