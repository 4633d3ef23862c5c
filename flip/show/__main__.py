"""Show what a trained variant makes of a sentence and of a picture, as one page to open in a browser.

    python -m flip.show flip-50 "a red star on grass"                       what fits best, and that picture closely
    python -m flip.show flip-50 "a red star on grass" --picture photo.jpg   a picture of your own
    python -m flip.show flip-50 --number 17                                 a test picture, and its best class

The page has the best matches, zero-shot scores, the patches before and after masking, and where the model looks. What a
variant cannot do is said there.
"""

import argparse
from pathlib import Path

from flip.data.words import has_words
from flip.files import write_atomic
from flip.provenance.layout import Trained, find
from flip.show.page import render
from flip.show.viewer import Picture, Shelf, Viewer


def chosen(viewer: Viewer, shelves: list[Shelf], options) -> Picture:
    """The file, or the test picture of a number; without either the one that fits the sentence best, else the first."""
    if options.picture:
        return viewer.open(options.picture)
    if options.number is None and options.sentence and viewer.params.aligned:
        return viewer.matches(options.sentence, shelves, 1)[0].picture
    return viewer.picture(shelves[0], options.number or 0)


def look(trained: Trained, options) -> str:
    """The page.

    Raises:
        ValueError: something is not there, or the variant reads no pictures.
    """
    if options.sentence is not None and not has_words(options.sentence):
        raise ValueError("the sentence has no word: write one, or leave it out to look for the best class")
    viewer = Viewer(trained)
    names = options.sets or viewer.searched
    shelves = [viewer.shelf(name) for name in names]
    picture, sentence, matches = chosen(viewer, shelves, options), options.sentence, []
    if viewer.params.aligned:
        sentence = sentence or viewer.best_class(picture)
        matches = viewer.matches(sentence, shelves, options.count)
    return render(viewer, picture, sentence, matches, shelves)


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m flip.show", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variant")
    parser.add_argument("sentence", nargs="?", help="default: the class of the primary set that the picture fits best")
    parser.add_argument("--picture", type=Path, help="a file (default: the test picture that fits the sentence best)")
    parser.add_argument("--number", type=int, help="a test picture, by its place in the first of --sets, from 0")
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
        write_atomic(out, look(trained, options))
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{out}: open it in a browser")


if __name__ == "__main__":
    main()
