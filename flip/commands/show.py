"""The command `flip show`."""

from pathlib import Path
from typing import Annotated

import typer

from flip.commands.options import Scale, Seed, Variant


def show(
    variant: Variant,
    sentence: Annotated[
        str | None, typer.Argument(help="[default: the class of the primary set that fits the image best]")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Image file. [default: the test image that fits the sentence best]")
    ] = None,
    number: Annotated[
        int | None, typer.Option(help="A test image, by its place in the first of the sets, from 0.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Test set to search; may be repeated. [default: primary, probed, captions]"),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Best matches to show.")] = 12,
    scale: Scale = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="The page. [default: shown/<scale>/<variant>.html]")] = None,
) -> None:
    """Write a page of what a variant makes of a sentence or image.

    It has the best test images, class scores, the patches that a mask keeps, and where the model looks:

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
