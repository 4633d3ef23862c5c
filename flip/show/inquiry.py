"""Show what a trained variant computes for a sentence and an image, as an HTML file to open in a browser.

The page has the best matches, zero-shot scores, the patches before and after masking, and the cosine of each patch with
the sentence. It says what a variant cannot do.
"""

from dataclasses import dataclass
from pathlib import Path

from flip.formats.words import has_words
from flip.provenance.trained import Trained
from flip.show.page import render
from flip.show.viewer import SearchedSet, ShownImage, Viewer


@dataclass(frozen=True)
class Inquiry:
    """Hold what is asked of a variant: a sentence, an image (a file, or a test image by number), and where to look."""

    sentence: str | None = None
    image: Path | None = None
    number: int | None = None
    sets: tuple[str, ...] = ()
    count: int = 12


def chosen(viewer: Viewer, test_sets: list[SearchedSet], asked: Inquiry) -> ShownImage:
    """Return the file, or the test image of a number; without either the best match of the sentence, else the first."""
    if asked.image:
        return viewer.open(asked.image)
    if asked.number is None and asked.sentence and viewer.params.aligned:
        return viewer.matches(asked.sentence, test_sets, 1)[0].shown
    return viewer.test_image(test_sets[0], asked.number or 0)


def answer(trained: Trained, asked: Inquiry) -> str:
    """Return the HTML page.

    Raises:
        ValueError: something is missing, or the variant has no image tower.
    """
    if asked.sentence is not None and not has_words(asked.sentence):
        raise ValueError("the sentence has no word: write one, or leave it out to look for the best class")
    viewer = Viewer(trained)
    test_sets = [viewer.load_set(name) for name in asked.sets or viewer.searched]
    shown, sentence, matches = chosen(viewer, test_sets, asked), asked.sentence, []
    if viewer.params.aligned:
        sentence = sentence or viewer.best_class(shown)
        matches = viewer.matches(sentence, test_sets, asked.count)
    return render(viewer, shown, sentence, matches, test_sets)
