"""Define the synthetic data set: rows of captioned images, each a pure function of the parameters and its number.

python -m flip.synthetic.world sheet --params specs/tiny/params/clip.yaml --out sheet.png
"""

import argparse
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from random import Random

import cv2
from PIL import Image, ImageDraw, ImageFont

from flip.config.frozen import load
from flip.config.schema import NetworkErrors, World
from flip.files import atomic
from flip.synthetic import render
from flip.synthetic.captions import describe
from flip.synthetic.languages.base import Language
from flip.synthetic.languages.english import ENGLISH
from flip.synthetic.scenes import Scene, draw_scene, stream
from flip.synthetic.shifts import LEAKING, SETS, jpeg_of, scene_of, size, wording

HOST = "http://world.test/"
FORBIDDEN = "private/"  # the folder that robots.txt forbids


def url(row: int, folder: str = "") -> str:
    """Return the URL of a row."""
    return f"{HOST}{folder}{row:09d}.jpg"


def row_of(address: str) -> int:
    """Return the row that a URL belongs to.

    Raises:
        ValueError: it is no URL of the synthetic data set.
    """
    match = re.fullmatch(re.escape(HOST) + rf"(?:{FORBIDDEN})?(\d{{9,}})\.jpg", address)
    if not match:
        raise ValueError(f"'{address}' is no URL of this world; one is {url(0)}")
    return int(match[1])


def origin(world: World, row: int) -> int | tuple[str, int]:
    """Return the row whose image this row repeats, most often itself; or the test set and index that it leaked from."""
    while True:
        random = stream(world, "origin", row)
        chance = random.random()
        if chance >= 1 - world.leaked:
            name = random.choice(LEAKING)
            return name, random.randrange(size(world, name))
        if chance >= world.duplicates or row == 0:
            return row
        row = random.randrange(row)


def scene(world: World, row: int) -> Scene:
    """Return the scene that a row's image shows."""
    source = origin(world, row)
    if isinstance(source, tuple):
        return scene_of(world, *source)
    return draw_scene(stream(world, "scene", source), f"{world.seed}/look/{source}")


def again(encoded: bytes, random: Random) -> bytes:
    """Return a JPEG as it was published again: with probability 0.5 the same file, otherwise resized and re-encoded."""
    if random.random() < 0.5:
        return encoded
    image = render.decode(encoded)
    scale = random.uniform(0.85, 1.15)
    return render.encode(
        cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), random.randint(55, 95)
    )


def jpeg(world: World, row: int) -> bytes:
    """Return the JPEG file that a row's URL serves unless a network error is simulated."""
    source = origin(world, row)
    if isinstance(source, tuple):
        return again(jpeg_of(world, *source), stream(world, "again", row))
    drawn = scene(world, source)
    encoded = render.encode(render.draw(drawn), render.quality(drawn))
    return encoded if source == row else again(encoded, stream(world, "again", row))


def described(world: World, row: int) -> int:
    """Return the row whose image the caption describes: this one, or another for a wrong caption."""
    random = stream(world, "wrong caption", row)
    wrong = random.random() < world.wrong_captions and world.images > 1
    return (row + random.randrange(1, world.images)) % world.images if wrong else row


def caption(world: World, row: int, language: Language = ENGLISH) -> str:
    """Return a row's caption in a language; it says the same, mistakes included, in every language."""
    return describe(scene(world, described(world, row)), stream(world, "caption", row), language=language)


def fault(world: World, row: int) -> str | None:
    """Return the network error that a row's URL fails with, a field of `NetworkErrors`; None if it does not fail."""
    chance = stream(world, "fault", row).random()
    for name in NetworkErrors.model_fields:
        chance -= getattr(world.faults, name)
        if chance < 0:
            return name
    return None


def urls(world: World) -> Iterator[tuple[str, str]]:
    """Yield (URL, caption) of every row, in order."""
    for row in range(world.images):
        yield url(row, FORBIDDEN if fault(world, row) == "disallowed" else ""), caption(world, row)


def examples(world: World, name: str | None, count: int) -> Iterator[tuple[bytes, str]]:
    """Yield (JPEG, text) of the first `count` rows, or of the first images of the test set `name`."""
    if name is None:
        yield from ((jpeg(world, row), caption(world, row)) for row in range(min(count, world.images)))
    else:
        for index in range(min(count, size(world, name))):
            yield jpeg_of(world, name, index), wording(world, name, index)


def sheet(pairs: Iterable[tuple[bytes, str]], columns: int = 8, cell: int = 170) -> Image.Image:
    """Draw a contact sheet of (JPEG, text) pairs: a grid of cells `cell` pixels wide, the text below each image."""
    pairs = list(pairs)
    font = ImageFont.load_default(11)
    page = Image.new("RGB", (columns * cell, -(-len(pairs) // columns) * (cell + 45)), "white")
    draw = ImageDraw.Draw(page)
    for place, (encoded, words) in enumerate(pairs):
        left, top = place % columns * cell, place // columns * (cell + 45)
        image = Image.fromarray(render.decode(encoded))
        image.thumbnail((cell - 8, cell - 8))
        page.paste(image, (left + (cell - image.width) // 2, top + cell - 4 - image.height))
        draw.text((left + 6, top + cell - 2), "\n".join(textwrap.wrap(words, 28)[:3]), "black", font)
    return page


def main(argv: Sequence[str] | None = None) -> None:
    """Write a contact sheet of rows or test images, by the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m flip.synthetic.world", description=__doc__.splitlines()[0])
    command = parser.add_subparsers(dest="command", required=True).add_parser("sheet", help="draw a contact sheet")
    command.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    command.add_argument("--set", choices=SETS, help="a test set (default: the rows of the URL table)")
    command.add_argument("--count", type=int, default=48, help="images (default: 48)")
    command.add_argument("--out", required=True, help="PNG file")
    options = parser.parse_args(argv)
    try:
        page = sheet(examples(load(options.params).world, options.set, options.count))
        with atomic(options.out) as file:
            page.save(file, "PNG")
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
