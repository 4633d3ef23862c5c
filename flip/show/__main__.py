"""Show what a trained variant computes for a sentence and an image, as an HTML file to open in a browser.

    python -m flip.show flip-50 "a red star on grass"                       the best matches, and details of the first
    python -m flip.show flip-50 "a red star on grass" --picture photo.jpg   an image of your own
    python -m flip.show flip-50 --number 17                                 a test image, and its best class

The page has the best matches, zero-shot scores, the patches before and after masking, and the cosine of each patch with
the sentence. It says what a variant cannot do.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from flip.files import write_atomic
from flip.formats.words import has_words
from flip.provenance.trained import Trained, find
from flip.show.page import render
from flip.show.viewer import Picture, SearchedSet, Viewer


def chosen(viewer: Viewer, test_sets: list[SearchedSet], options: argparse.Namespace) -> Picture:
    """Return the file, or the test image of a number; without either the best match of the sentence, else the first."""
    if options.picture:
        return viewer.open(options.picture)
    if options.number is None and options.sentence and viewer.params.aligned:
        return viewer.matches(options.sentence, test_sets, 1)[0].picture
    return viewer.picture(test_sets[0], options.number or 0)


def make_page(trained: Trained, options: argparse.Namespace) -> str:
    """Return the HTML page.

    Raises:
        ValueError: something is missing, or the variant has no image tower.
    """
    if options.sentence is not None and not has_words(options.sentence):
        raise ValueError("the sentence has no word: write one, or leave it out to look for the best class")
    viewer = Viewer(trained)
    names = options.sets or viewer.searched
    test_sets = [viewer.load_set(name) for name in names]
    picture, sentence, matches = chosen(viewer, test_sets, options), options.sentence, []
    if viewer.params.aligned:
        sentence = sentence or viewer.best_class(picture)
        matches = viewer.matches(sentence, test_sets, options.count)
    return render(viewer, picture, sentence, matches, test_sets)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page by the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flip.show", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variant")
    parser.add_argument("sentence", nargs="?", help="default: the class of the primary set that fits the image best")
    parser.add_argument("--picture", type=Path, help="a file (default: the test image that fits the sentence best)")
    parser.add_argument("--number", type=int, help="a test image, by its place in the first of --sets, from 0")
    parser.add_argument("--sets", nargs="+", help="test sets that are searched (default: primary, probed, captions)")
    parser.add_argument("--count", type=int, default=12, help="best matches to show (default: 12)")
    parser.add_argument("--scale", help="default: the scale that params.yaml names")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--out", type=Path, help="the page (default: shown/<scale>/<variant>.html)")
    options = parser.parse_args(argv)
    if options.count < 1:
        parser.error(f"--count {options.count}: allowed: 1 and more")
    try:
        trained = find(options.variant, options.scale, options.seed)
        out = options.out or Path(trained.layout.shown(trained.variant))
        write_atomic(out, make_page(trained, options))
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{out}: open it in a browser")


if __name__ == "__main__":
    main()
