"""Read images with captions: a .txt holds one or more, a line each."""

from collections.abc import Callable
from pathlib import Path

from flip.config.kinds.kind import Kind
from flip.formats import layout
from flip.metrics.sets import RECALLS


class Retrieval(Kind):
    """Measure whether captions find their images among all, and images their captions."""

    name = "retrieval"
    endings = tuple(f"-{side}-r{k}" for side in ("image", "text") for k in RECALLS)

    def target(self, folder: Path) -> tuple[str, Callable]:
        """Return how captions are read: list[str]."""
        return "txt", layout.captions


KIND = Retrieval()
