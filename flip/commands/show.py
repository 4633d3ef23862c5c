"""The command `flip show`."""

from pathlib import Path
from typing import Annotated

import typer

from flip.commands.options import Scale, Seed, Variant


def show(
    variant: Variant,
    sentence: Annotated[
        str | None, typer.Argument(help="Sentence. [default: the primary set's class that matches the image best]")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Image file. [default: the test image that matches the sentence best]")
    ] = None,
    number: Annotated[int | None, typer.Option(help="Index of a test image in the first set, from 0.")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Test set to search; may be repeated. [default: primary, probed, captions]"),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of best matches to show.")] = 12,
    scale: Scale = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Output page. [default: shown/<scale>/<variant>.html]")] = None,
) -> None:
    """Write a page with a variant's results for a sentence or image.

    The page has the best test images, class scores, unmasked patches, and maps of where the model looks:

        flip show flip-50 "a red star on grass"
    """
    from flip.files import write_atomic
    from flip.provenance.trained import find
    from flip.show.inquiry import Inquiry, answer

    trained = find(variant, scale, seed)
    page = answer(trained, Inquiry(sentence, image, number, tuple(sets or ()), count))
    out = out or Path(trained.layout.shown(trained.variant))
    write_atomic(out, page)
    print(f"{out}: open it in a browser")
