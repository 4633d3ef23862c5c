"""Proves that what strangers encode is seen as browsers display it, by all who look (fingerprints, test sets, pages),
and that what cannot be decoded is named."""

import io
import tarfile
import warnings
import weakref
from contextlib import suppress
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image, ImageCms, ImageOps

from flip.config.kinds import pointing as boxes
from flip.config.schema import Compact
from flip.data import fingerprints
from flip.data.compact import resize_jpeg
from flip.data.crops import decode_crops
from flip.data.duplicates import DISTANCE
from flip.data.shard import Shard
from flip.data.shard_index import write_index
from flip.download.failures import failure
from flip.formats.images import FORMATS, MAX_PIXELS, decode, displayed_size, is_plain
from flip.formats.jpeg import is_plain_jpeg
from flip.report.images import example
from flip.show.viewer import Viewer
from flip.testsets import cache as squares
from flip.testsets.reader import examples, read_set, to_square
from flip.transfer.splits import folder_batches
from tests.images import LINEAR, LINEAR_GREY, SWAPPED, UNTURNED, encoded, icc, pattern, png, png16, shorts, turned

GREY = pattern(1)[:, :, 0]
CLEAR = np.dstack([pattern(3), np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))])


def on_white(image: np.ndarray) -> np.ndarray:
    """As img2dataset computes it."""
    alpha = image[:, :, 3:]
    return np.rint((alpha / 255 * image[:, :, :3] + 255 - alpha).clip(0, 255)).astype(np.uint8)


def far(one, other) -> int:
    one, other = (np.asarray(x.convert("RGB") if isinstance(x, Image.Image) else x).astype(int) for x in (one, other))
    assert one.shape == other.shape
    return np.abs(one - other).max()


# Orientation.


@pytest.mark.parametrize("orientation", UNTURNED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_are_upright(kind, orientation):
    stored = turned(pattern(2), orientation, kind, **({"lossless": True} if kind == "WEBP" else {}))
    found = decode(stored)
    assert far(found, pattern(2)) <= (20 if kind == "JPEG" else 0)
    with Image.open(io.BytesIO(stored)) as image:
        assert np.array_equal(found, ImageOps.exif_transpose(image))
    assert displayed_size(stored) == (96, 64)
    assert is_plain(stored) == (orientation == 1 and kind != "TIFF")


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert far(decode(encoded(pattern(2), "PNG", exif=exif)), pattern(2)) == 0


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\0\x05"])
def test_broken_exif_turns_nothing(exif):
    assert far(decode(encoded(pattern(2), exif=exif)), pattern(2)) <= 20


# Depth, transparency, colour: rows of two pixels.

BOTH = {
    "16 bits, grey": (png(shorts(10 * 257, 65535), 16, 0), [10, 255]),
    "16 bits, between two levels": (png(shorts(257 * 7 + 128, 257 * 7 + 129), 16, 0), [7, 8]),
    "16 bits, colour": (png(shorts(257, 514, 65535, 0, 0, 40000), 16, 2), [(1, 2, 255), (0, 0, 156)]),
    "16 bits, alpha": (png(shorts(257, 514, 0, 65535, 0, 0, 0, 0), 16, 6), [(1, 2, 0), (255,) * 3]),
    "16 bits, grey and alpha": (png(shorts(2570, 65535, 2570, 0), 16, 4), [(10,) * 3, (255,) * 3]),
    "16 bits, a clear grey": (png(shorts(2570, 2571), 16, 0, tRNS=shorts(2570)), [(255,) * 3, (10,) * 3]),
    "16 bits, a clear colour": (
        png(shorts(257, 514, 771, 0, 0, 0), 16, 2, tRNS=shorts(257, 514, 771)),
        [(255,) * 3, (0,) * 3],
    ),
    "1 bit": (png(b"\x40", 1, 0), [0, 255]),
    "2 bits": (png(b"\x10", 2, 0), [0, 85]),
    "2 bits, a clear grey": (png(b"\x70", 2, 0, tRNS=shorts(1)), [(255,) * 3, (255,) * 3]),
    "4 bits, a clear grey": (png(b"\x17", 4, 0, tRNS=shorts(1)), [(255,) * 3, (119,) * 3]),
    "alpha": (png(bytes([10, 20, 30, 255, 0, 0, 0, 128]), 8, 6), [(10, 20, 30), (127,) * 3]),
    "grey and alpha": (png(bytes([10, 255, 10, 0]), 8, 4), [(10,) * 3, (255,) * 3]),
    "palette": (png(b"\0\1", 8, 3, PLTE=bytes(range(6))), [(0, 1, 2), (3, 4, 5)]),
    "palette with alpha": (
        png(b"\0\1", 8, 3, PLTE=bytes([0, 0, 0, 3, 4, 5]), tRNS=b"\x80"),
        [(127,) * 3, (3, 4, 5)],
    ),
    "palette with a clear entry": (
        png(b"\0\1", 8, 3, PLTE=bytes(range(6)), tRNS=b"\0"),
        [(255,) * 3, (3, 4, 5)],
    ),
}


@pytest.mark.parametrize("name", BOTH)
def test_each_form_of_png_is_what_it_shows(name):
    stored, shown = BOTH[name]
    assert np.asarray(decode(stored))[0].tolist() == [list(x) if isinstance(x, tuple) else x for x in shown]


def test_16_bits_are_those_of_8_within_one_level():
    for image in (GREY, pattern(1), CLEAR):
        assert far(decode(png16(image)), decode(encoded(image, "PNG"))) <= 1
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.abs(np.asarray(decode(encoded(levels, "PNG"))) - levels / 257).max() <= 0.5
    assert far(decode(encoded(GREY.astype(np.uint16) * 257, "TIFF")), GREY[:, :, None].repeat(3, 2)) == 0


def test_transparent_images_lie_on_white_as_in_img2dataset():
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        assert far(decode(encoded(CLEAR, kind, **options)), on_white(CLEAR)) == 0


def srgb_of(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, of light from 0 to 255."""
    light = linear / 255
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255


def test_colours_are_those_of_the_profile_in_srgb():
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        found = decode(encoded(pattern(1), kind, icc_profile=LINEAR, **options))
        assert far(found, srgb_of(pattern(1)).round()) <= 1
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for image in (levels, levels.astype(np.uint16) * 257):
        assert (
            far(decode(encoded(image, "PNG", icc_profile=LINEAR_GREY)), srgb_of(levels)[..., None].repeat(3, 2).round())
            <= 1
        )
    assert decode(encoded(levels, "PNG", icc_profile=LINEAR_GREY)).mode == "L"
    swapped = decode(encoded(pattern(1), icc_profile=SWAPPED))
    assert far(swapped, pattern(1)[..., ::-1]) < 30
    few = Image.fromarray(pattern(1)).quantize(16)
    assert far(decode(encoded(few, "PNG", icc_profile=SWAPPED)), np.asarray(few.convert("RGB"))[..., ::-1]) < 20


def test_transparent_colours_are_converted_before_they_lie_on_white():
    converted = np.dstack([srgb_of(CLEAR[..., :3]).round().astype(np.uint8), CLEAR[..., 3]])
    assert far(decode(encoded(CLEAR, "PNG", icc_profile=LINEAR)), on_white(converted)) <= 1
    grey = np.dstack([GREY, CLEAR[..., 3]])
    converted = np.dstack([srgb_of(GREY[..., None].repeat(3, 2)).round().astype(np.uint8), CLEAR[..., 3]])
    assert far(decode(encoded(Image.fromarray(grey), "PNG", icc_profile=LINEAR_GREY)), on_white(converted)) <= 1


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("profile", [SRGB, b"none", LINEAR[:200], icc(b"CMYK"), icc(b"RGB "), LINEAR_GREY, SRGB * 2000])
def test_srgb_and_what_is_no_profile_of_the_image_change_nothing(profile):
    stored = encoded(pattern(1), "WEBP", lossless=True, icc_profile=profile)
    assert far(decode(stored), pattern(1)) == 0
    assert is_plain(stored)


def test_an_image_in_other_colours_is_not_plain():
    for kind in ("JPEG", "PNG", "WEBP"):
        assert not is_plain(encoded(pattern(1), kind, icc_profile=LINEAR))
        assert not is_plain(encoded(GREY, "PNG", icc_profile=LINEAR_GREY))


def test_cmyk_is_as_another_decoder_sees_it():
    """Adobe's, whose inks are stored inverted, as Pillow writes it."""
    stored = encoded(Image.fromarray(pattern(4)).convert("CMYK"))
    inks = simplejpeg.decode_jpeg(stored, "CMYK").astype(float)
    assert far(decode(stored), (inks[..., :3] * inks[..., 3:] / 255).round()) <= 2
    assert far(decode(stored), pattern(4)) < 25


def test_the_first_frame():
    frames = [Image.fromarray(pattern(number)) for number in (5, 6)]
    moving = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert far(decode(moving), pattern(5)) == 0
    assert not is_plain(moving)


def test_plain_images_are_what_any_decoder_gives():
    for image in (pattern(7), GREY):
        for kind in ("JPEG", "PNG", "WEBP"):
            stored = encoded(image, kind)
            assert is_plain(stored)
            theirs = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(decode(stored), theirs[..., ::-1] if theirs.ndim == 3 else theirs)
    others = [png16(GREY), png16(pattern(1)), encoded(CLEAR, "PNG"), encoded(GREY, "GIF"), turned(GREY, 3)]
    assert not any(map(is_plain, others))


# Training and evaluation.


@pytest.fixture
def download(monkeypatch):
    """download(encoded): the lossless image that img2dataset stores, and its message where it stores none."""
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    with warnings.catch_warnings(action="ignore"):  # what it imports is deprecated
        from flip.download.resize import DisplayedResizer

    resize = DisplayedResizer(64, "no", True, encode_quality=9, encode_format="png")

    def stored(encoded):
        found, *_, message = resize(io.BytesIO(encoded))
        return found, message

    return stored


SQUARE = np.dstack([pattern(5, 64, 64), np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))])
KINDS = {
    "JPEG": encoded(SQUARE[..., :3], subsampling=2),
    "JPEG, grey": encoded(SQUARE[..., 0]),
    "JPEG, progressive": encoded(SQUARE[..., :3], progressive=True),
    "JPEG, turned": turned(SQUARE[..., :3], 6),
    "JPEG, CMYK": encoded(Image.fromarray(SQUARE[..., :3]).convert("CMYK")),
    "JPEG, a profile": encoded(SQUARE[..., :3], icc_profile=SWAPPED),
    "PNG": encoded(SQUARE[..., :3], "PNG"),
    "PNG, 16 bits": png16(SQUARE[..., :3]),
    "PNG, 16 bits, alpha": png16(SQUARE),
    "PNG, alpha": encoded(SQUARE, "PNG"),
    "PNG, alpha and a profile": encoded(SQUARE, "PNG", icc_profile=LINEAR),
    "PNG, grey and alpha": encoded(Image.fromarray(SQUARE).convert("LA"), "PNG"),
    "PNG, palette": encoded(Image.fromarray(SQUARE[..., :3]).quantize(16), "PNG"),
    "PNG, 1 bit": encoded(Image.fromarray(SQUARE[..., 0]).convert("1"), "PNG"),
    "WebP": encoded(SQUARE[..., :3], "WEBP"),
    "WebP, alpha": encoded(SQUARE, "WEBP"),
    "WebP, animated": encoded(
        Image.fromarray(SQUARE[..., :3]), "WEBP", save_all=True, append_images=[Image.fromarray(pattern(6, 64, 64))]
    ),
    "GIF": encoded(SQUARE[..., :3], "GIF"),
    "TIFF": encoded(SQUARE, "TIFF"),
    "AVIF": encoded(SQUARE[..., :3], "AVIF"),
    "AVIF, alpha": encoded(SQUARE, "AVIF"),
}


@pytest.mark.parametrize("name", KINDS)
def test_training_and_evaluation_see_the_same_pixels(name, download, tmp_path):
    """To the bit: as the download hands an image to its encoder, as readers of test sets, and the page, see it; and as
    the loader crops it where it lies, but for colours of plain JPEGs, which it interpolates in a faster way."""
    stored, message = download(KINDS[name])
    assert message is None
    trained = np.asarray(Image.open(io.BytesIO(stored)).convert("RGB"))
    folder = set_of(tmp_path / "set", [{"png": KINDS[name], "cls": b"0"}])
    ((tested, _),) = read_set(folder, 64, 8)
    (tmp_path / "mine.png").write_bytes(KINDS[name])
    viewer = SimpleNamespace(params=SimpleNamespace(model=SimpleNamespace(image=64)))
    assert np.array_equal(trained, tested[0])
    assert np.array_equal(trained, Viewer.open(viewer, tmp_path / "mine.png").pixels)
    crops = np.empty((2, 24, 24, 3), np.uint8)
    for content, crop in zip((KINDS[name], stored), crops, strict=True):
        assert decode_crops(content, lambda height, width: [(5, 9, height - 20, width - 30)], [crop])
    assert np.abs(np.diff(crops.astype(int), axis=0)).mean() <= (6 if is_plain_jpeg(KINDS[name]) else 0)


# What cannot be decoded.

BROKEN = {
    "empty": b"",
    "a page": b"<html><body>404</body></html>",
    "a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
    "cut": encoded(pattern(1))[:900],
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "SVG": b'<?xml version="1.0"?>\n<!-- a logo -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "cut PNG": encoded(pattern(1), "PNG")[:900],
    "floats": encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
    "32 bits": encoded(Image.fromarray(GREY.astype(np.int32)), "TIFF"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_decoded_is_named(name):
    with pytest.raises(ValueError, match=r"0\.tar: 007: cannot be read as an image \(.*\)$"):
        decode(BROKEN[name], "0.tar: 007")
    assert fingerprints.look_at([BROKEN[name]]) == [fingerprints.UNREADABLE]


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        (BROKEN["HEIC"], "HEIC"),
        (BROKEN["SVG"], "SVG"),
        (b"\xff\x0a\0\0", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    ],
)
def test_formats_that_are_not_read_are_a_class_of_their_own(stored, name, download):
    _, message = download(stored)
    assert name in message
    assert failure(message) == "format not read"
    _, message = download(BROKEN["a page"])
    assert failure(message) == "no readable image"


def test_an_image_that_is_too_large_is_refused_by_its_header():
    side = int(MAX_PIXELS**0.5) + 1
    bomb = png(b"\0" * (4 * side), 8, 6, side, side)
    for look in (decode, is_plain, displayed_size):
        with pytest.raises(ValueError, match=rf"{side} x {side} pixels, allowed: {MAX_PIXELS:,}"):
            look(bomb)
    assert fingerprints.look_at([bomb]) == [fingerprints.UNREADABLE]
    assert decode(png(b"\0" * 1000, 1, 0, 8000, 6000)).size == (8000, 6000)


@pytest.mark.filterwarnings("ignore::Warning:PIL")
def test_mutated_images_are_images_or_value_errors():
    random = np.random.default_rng(0)
    whole = [encoded(pattern(1, 24, 32), kind) for kind in FORMATS] + [turned(pattern(1, 24, 32), 6)]
    whole += [encoded(pattern(1, 24, 32), kind, icc_profile=LINEAR) for kind in ("JPEG", "PNG", "WEBP")]
    refused = 0
    for number in range(600):
        content = bytearray(whole[number % len(whole)])
        for _ in range(random.integers(1, 12)):
            content[random.integers(len(content))] = random.integers(256)
        mutated = bytes(content[: random.integers(len(content) // 2, len(content) + 1)])
        for look in (decode, is_plain, displayed_size):
            with suppress(ValueError):
                look(mutated, "0.tar: 007")
                continue
            with pytest.raises(ValueError, match=r"^0\.tar: 007: "):
                look(mutated, "0.tar: 007")
            refused += 1
    assert refused > 300


# Who looks.


@pytest.mark.parametrize(
    ("stored", "upright"),
    [
        (turned(pattern(2), 6), pattern(2)),
        (turned(pattern(2), 6, "PNG"), pattern(2)),
        (png16(pattern(2)), pattern(2)),
        (encoded(CLEAR, "PNG"), on_white(CLEAR)),
        (png16(CLEAR), on_white(CLEAR)),
    ],
    ids=["EXIF", "EXIF in a PNG", "16 bits", "alpha", "16 bits and alpha"],
)
def test_fingerprints_are_those_of_what_is_displayed(stored, upright):
    hashes = fingerprints.look_at([stored, encoded(upright)])
    one, other = (np.unpackbits(np.frombuffer(each["looks"], np.uint8)) for each in hashes)
    assert (one != other).sum() <= DISTANCE


def test_grey_is_that_of_other_decoders():
    """To the bit of a JPEG, within one level otherwise."""
    for stored in (encoded(pattern(8)), encoded(GREY), encoded(pattern(8), "PNG"), encoded(pattern(8), "WEBP")):
        grey, colour = fingerprints.decode_both(stored)
        if simplejpeg.is_jpeg(stored):
            assert np.array_equal(grey, simplejpeg.decode_jpeg(stored, colorspace="GRAY")[:, :, 0])
        else:
            theirs = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_GRAYSCALE)
            assert np.abs(grey.astype(int) - theirs).max() <= 1
        shape = colour.shape[1::-1]
        upright = np.asarray(decode(stored).convert("RGB"))
        assert far(colour, cv2.resize(upright, shape, interpolation=cv2.INTER_AREA)) < 30


def test_one_decoded_image_at_a_time_is_in_memory(monkeypatch):
    """Test sets hold images as they came, of any size."""
    alive = []

    def decoded(stored):
        image = np.zeros((100, 100), np.uint8)
        alive.append(weakref.ref(image))
        assert sum(one() is not None for one in alive) <= 2  # this one, and the last until it is replaced
        return image, image[..., None].repeat(3, 2)

    assert len(fingerprints.look_at([b"x"] * 20, decoded)) == 20


def set_of(folder, samples: list[dict[str, bytes]], **files: str):
    """A folder in clip-benchmark's layout with these samples, each its files by extension."""
    (folder / "test").mkdir(parents=True)
    with tarfile.open(folder / "test" / "0.tar", "w") as tar:
        for number, sample in enumerate(samples):
            for extension, content in sample.items():
                info = tarfile.TarInfo(f"{number:03d}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    (folder / "test" / "nshards.txt").write_text("1\n")
    for name, text in ({"classnames": "".join(f"{number}\n" for number in range(100))} | files).items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_readers_of_test_sets_see_images_upright(tmp_path):
    stored, wanted = turned(pattern(2), 6, "PNG"), to_square(Image.fromarray(pattern(2)), 32)
    classes = set_of(tmp_path / "classes", [{"png": stored, "cls": b"1"}])
    ((images, targets),) = read_set(classes, 32, 8)
    assert torch.equal(images, wanted[None])
    assert targets.tolist() == [1]
    assert torch.equal(examples(classes, 32, 1)[0], wanted[None])
    captions = set_of(tmp_path / "captions", [{"png": stored, "txt": b"one\n \n\xe2\x80\x8b\ntwo\n"}])
    ((images, notes),) = folder_batches(captions, ["caption"], "test", 32, 8)
    assert torch.equal(images, wanted[None])
    assert notes[0]["caption"] == ["one", "two"]


def test_boxes_refer_to_the_image_as_displayed(tmp_path):
    box = b'{"box": [64, 16, 96, 64]}'
    folder = set_of(tmp_path / "set", [{"jpg": turned(pattern(2), 6), "txt": b"a thing", "json": box}])
    (sample,) = boxes.samples(folder / "test" / "0.tar")
    assert sample.size == sample.image.size == (96, 64)
    assert sample.square == (0.75, 0.25, 1.0, 1.0)
    assert far(sample.image, pattern(2)) <= 20


def test_shown_images_are_upright(tmp_path):
    (tmp_path / "mine.jpg").write_bytes(turned(pattern(2), 6))
    viewer = SimpleNamespace(params=SimpleNamespace(model=SimpleNamespace(image=32)))
    assert far(Viewer.open(viewer, tmp_path / "mine.jpg").pixels, to_square(Image.fromarray(pattern(2)), 32)) < 25
    set_of(tmp_path / "set", [{"jpg": turned(pattern(2), 6), "txt": b"a thing"}])
    tar = tmp_path / "set" / "test" / "0.tar"
    write_index(tar)
    assert example(Shard(tar), 0).size == (96, 64)


def test_compact_images_are_upright():
    for side in (32, 200):
        small = resize_jpeg(turned(pattern(2), 6), Compact(image_size=side, quality=95))
        assert is_plain(small)
        size = (min(side, 64) * 96 // 64, min(side, 64))
        assert far(decode(small), np.asarray(Image.fromarray(pattern(2)).resize(size, Image.Resampling.BICUBIC))) < 30
    assert resize_jpeg(encoded(GREY), Compact(image_size=200, quality=95)) == encoded(GREY)


def test_a_set_of_16_bits_scores_as_its_twin_of_8(tmp_path):
    """Classes are patterns, seen darker, brighter and noisier; a classifier knows each class's mean."""
    random = np.random.default_rng(0)
    looks = [
        (pattern(10 + number % 3) * random.uniform(0.4, 1) + random.normal(0, 40, (64, 96, 3))).clip(0, 255)
        for number in range(36)
    ]
    images = [look.astype(np.uint8)[:, :, 0] for look in looks]

    def accuracy(name, encode):
        samples = [{"png": encode(one), "cls": str(n % 3).encode()} for n, one in enumerate(images)]
        folder = set_of(tmp_path / name, samples)
        found, targets = (torch.cat(part) for part in zip(*read_set(folder, 16, 10), strict=True))
        means = torch.stack([to_square(Image.fromarray(pattern(10 + one)[:, :, 0]), 16) for one in range(3)])
        distances = torch.cdist(found.float().flatten(1), means.float().flatten(1))
        return (distances.argmin(dim=1) == targets).float().mean().item()

    eight = accuracy("8", lambda one: encoded(one, "PNG"))
    assert 0.5 < eight < 1
    assert accuracy("16", png16) == eight


def test_squares_of_another_decoder_are_not_read(tmp_path, monkeypatch):
    folder = set_of(tmp_path / "set", [{"png": encoded(GREY, "PNG"), "cls": b"0"}])
    loader, revision = read_set(folder, 16, 8), {"sha256": "0", "samples": 1}

    def files():
        squares.decoded(loader, tmp_path / "squares", revision, 16, 8)
        return len(list((tmp_path / "squares").glob("*.bin")))

    assert (files(), files()) == (1, 1)
    monkeypatch.setattr(squares, "source_hash", lambda name: f"another {name}")
    assert files() == 2


def test_squares_with_a_changed_bit_are_decoded_again(tmp_path):
    """In the images, in the labels, or in the digest."""
    folder = set_of(tmp_path / "set", [{"png": encoded(pattern(n), "PNG"), "cls": b"%d" % n} for n in range(3)])
    loader, revision, place = read_set(folder, 16, 8), {"sha256": "0", "samples": 3}, tmp_path / "squares"

    def read():
        ((images, targets),) = squares.decoded(loader, place, revision, 16, 8)
        return images.clone(), targets

    images, targets = read()
    for path in sorted(place.iterdir()):
        for byte in (0, path.stat().st_size // 2, path.stat().st_size - 2):
            content = bytearray(path.read_bytes())
            content[byte] ^= 1
            path.write_bytes(content)
            again = read()
            assert torch.equal(again[0], images)
            assert torch.equal(again[1], targets)
