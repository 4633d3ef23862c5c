"""Measure which copies of images the search for duplicates finds, and which different images it drops.

    python -m benchmarks.duplicates                          # images of the synthetic data set: two minutes on one core
    python -m benchmarks.duplicates --images FOLDER          # one's own photos, all below the folder

Each image is there as it is, and once more in another form: cut, mirrored, smaller, in other light and so on, and as a
JPEG of quality 85. The stages of the pipeline then drop what they take for copies. Beside the share of the copies that
they find stands that of one hash of the whole image, which they had before. `another` are images that should stay: the
same in another hue, and all others of the folder, which must not hold copies itself.
"""

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from benchmarks.table import Row, arguments, attempt, publish
from flip.config.resolve import read_project
from flip.data import duplicates, fingerprints
from flip.formats.images import decode
from flip.synthetic.world import jpeg, origin
from flip.testsets.fingerprints import TESTS
from tests.dropping import drop

SIDE, QUALITY = 256, 85  # shorter side in pixels, as downloads of real images have; of the copies' JPEGs
COUNT, FEW = 500, 4  # images, and those of a dry run
RANDOM = np.random.default_rng(0)
Change = Callable[[Image.Image], Image.Image]


def cropped(shares: Sequence[float], image: Image.Image) -> Image.Image:
    """Cut shares of the sides from left, top, right and bottom."""
    left, top, right, bottom = shares
    width, height = image.size
    return image.crop(
        (round(width * left), round(height * top), round(width * (1 - right)), round(height * (1 - bottom)))
    )


def bordered(share: float, colour: str, image: Image.Image) -> Image.Image:
    """Put an image on a larger one, of whose sides the border has a share at each end."""
    width, height = (round(edge / (1 - 2 * share)) for edge in image.size)
    large = Image.new("RGB", (width, height), colour)
    large.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return large


def written(words: str, opacity: int, image: Image.Image) -> Image.Image:
    """Write in white over an image, in letters of an eighth of its shorter side."""
    layer, size = Image.new("RGBA", image.size), min(image.size) // 8
    place = image.width // 12, image.height // 2
    ImageDraw.Draw(layer).text(place, words, (255, 255, 255, opacity), ImageFont.load_default(size))
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def mirrored(image: Image.Image) -> Image.Image:
    """Mirror an image."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def warmer(image: Image.Image) -> Image.Image:
    """Raise red by 8 % and lower blue by 10 %."""
    return Image.fromarray((np.asarray(image) * [1.08, 1, 0.9]).clip(0, 255).astype(np.uint8))


def hue(degrees: int, image: Image.Image) -> Image.Image:
    """Turn the hue of all colours."""
    planes = np.array(image.convert("HSV"))
    planes[..., 0] += np.uint8(degrees * 256 // 360)
    return Image.fromarray(planes, "HSV").convert("RGB")


def enhanced(kind: type, factor: float, image: Image.Image) -> Image.Image:
    """Change brightness, contrast or saturation by a factor."""
    return kind(image).enhance(factor)


def copies() -> dict[str, Change]:
    """Return the forms in which an image is published again."""
    found: dict[str, Change] = {
        f"crop, {share} % a side": partial(cropped, [share / 100] * 4) for share in (1, 2, 3, 4, 5, 6, 7, 10)
    }
    found |= {
        "crop, 0 to 5 %, each side by itself": lambda image: cropped(RANDOM.uniform(0, 0.05, 4).tolist(), image),
        "crop, 5 % on one side": partial(cropped, [0, 0, 0.05, 0]),
        "mirror": mirrored,
        "mirror, crop of 5 % a side": lambda image: mirrored(cropped([0.05] * 4, image)),
        "half the size": lambda image: image.resize([edge // 2 for edge in image.size], Image.Resampling.BICUBIC),
        "JPEG of quality 30": lambda image: Image.open(encoded(image, 30)).convert("RGB"),
        "border, white, 3 %": partial(bordered, 0.03, "white"),
        "border, black, 5 %": partial(bordered, 0.05, "black"),
        "text": partial(written, "Summer SALE 2026", 255),
        "watermark": partial(written, "(c) stock photo", 110),
        "grey": lambda image: image.convert("L").convert("RGB"),
        "warmer": warmer,
    }
    kinds = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast, "saturation": ImageEnhance.Color}
    return found | {
        f"{name} x {factor}": partial(enhanced, kind, factor) for name, kind in kinds.items() for factor in (0.7, 1.3)
    }


def encoded(image: Image.Image, quality: int) -> io.BytesIO:
    """Encode as a JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file


def looks(images: list[Image.Image], quality: int = QUALITY) -> list[fingerprints.Hashes]:
    """Fingerprint images as JPEGs."""
    return fingerprints.look_at([encoded(image, quality).getvalue() for image in images])


def of_folder(folder: Path) -> Iterator[Image.Image]:
    """Yield the images below a folder as a download would store them, by path; others are left out."""
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")):
        try:
            image = decode(path.read_bytes(), str(path)).convert("RGB")
        except ValueError:
            continue
        share = min(SIDE / min(image.size), 1)
        yield image.resize([round(edge * share) for edge in image.size], Image.Resampling.BICUBIC, reducing_gap=3)


def of_world() -> Iterator[Image.Image]:
    """Yield images of the synthetic data set of `tiny` that repeat no other."""
    world = read_project(scale="tiny").baseline.world
    rows = (row for row in range(world.images) if origin(world, row) == row)
    return (Image.open(io.BytesIO(jpeg(world, row))).convert("RGB") for row in rows)


def part(folder: Path, number: int, hashes: list[fingerprints.Hashes]) -> Path:
    """Write the fingerprints of a part, in which no two images have equal bytes."""
    rows = [
        one | {"key": f"{number:04d}-{row:08d}", "sha256": (number << 32 | row).to_bytes(32), "captioned": True}
        for row, one in enumerate(hashes)
    ]
    path = folder / f"{number:04d}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=fingerprints.PART), path)
    return path


def dropped(*parts: list[fingerprints.Hashes]) -> list[str]:
    """Return the keys that the search drops of parts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fingerprints.write([], TESTS, folder / "tests.parquet")
        paths = [part(folder, number, one) for number, one in enumerate(parts)]
        (found,) = drop(folder, folder / "tests.parquet", paths)
        return pq.read_table(found)["key"].to_pylist()


def by_one_hash(images: list[fingerprints.Hashes], others: list[fingerprints.Hashes]) -> float:
    """Return the share of pairs whose hashes of the whole image are as near as the search wants them, in percent."""
    one, other = (np.array([list(each["looks"] or b"") for each in some], np.uint8) for some in (images, others))
    return 100 * float((np.bitwise_count(one ^ other).sum(axis=1) <= duplicates.DISTANCE).mean())


def rows(images: list[Image.Image]) -> Iterator[Row]:
    """Yield a row per form: percent of the copies that are dropped, and by one hash of the whole image."""
    hashes, percent = looks(images, 92), 100 / len(images)
    alone = set(dropped(hashes))
    yield Row("another: all other images of the folder", "%", percent * len(alone), at_most=0.2)
    for name, change in copies().items():
        changed = looks([change(image) for image in images])
        found = [key for key in dropped(hashes, changed) if key.startswith("0001")]
        target = 95 if name in ("crop, 5 % a side", "mirror") else None
        yield Row(name, "%", percent * len(found), "one hash", by_one_hash(hashes, changed), at_least=target)
    for degrees in (60, 180):
        changed = looks([hue(degrees, image) for image in images])
        found = [key for key in dropped(hashes, changed) if key.startswith("0001")]
        yield Row(f"another: hue + {degrees}", "%", percent * len(found), "one hash", by_one_hash(hashes, changed))
    files = [encoded(image, QUALITY).getvalue() for image in images]
    start = time.process_time()
    fingerprints.look_at(files)
    yield Row("fingerprints, images a second of one core", "", len(files) / (time.process_time() - start))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure by the options of the command line."""
    parser = arguments("duplicates", __doc__ or "")
    parser.add_argument("--images", type=Path, help="a folder of photos, none of them twice (default: synthetic ones)")
    parser.add_argument("--count", type=int, default=COUNT, help="images at most (default: %(default)s)")
    options = parser.parse_args(argv)
    source = of_folder(options.images) if options.images else of_world()
    images = list(islice(source, FEW if options.dry else options.count))
    if not images:
        parser.error(f"--images {options.images}: no image that can be read; allowed: .jpg, .jpeg, .png, .webp")
    found = attempt("duplicates", lambda: rows(images))
    publish("duplicates", found, options.results, {"images": len(images)})


if __name__ == "__main__":
    main()
