"""Test sets in clip-benchmark's layout as strangers' tools write them."""

import io
import tarfile
from functools import cache

import numpy as np
from PIL import Image

CLASSES = ("boat", "key", "star")
PER_CLASS = 6


class Marker:
    """Whoever unpickles it has run a stranger's code: a file comes to be."""

    def __reduce__(self):
        return (open, ("CODE_HAS_RUN", "w"))


@cache
def photo(seed: int) -> bytes:
    """A JPEG of 64 x 64 pixels that resembles no other."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes | None) -> None:
    """A file, or where there is no content a folder."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
    info.size = len(content or b"")
    tar.addfile(info, io.BytesIO(content or b""))


def write(folder, members: list[tuple[str, bytes | None]], **texts: str):
    """A set of one tar; `texts` are files by name, an underscore for each dot."""
    (folder / "test").mkdir(parents=True)
    with tarfile.open(folder / "test" / "0.tar", "w") as tar:
        for name, content in members:
            add(tar, name, content)
    for name, text in {"test/nshards_txt": "1\n", **texts}.items():
        (folder / f"{name.removesuffix('_txt')}.txt").write_bytes(text.encode())
    return folder


def classified(
    folder, key="{:03d}", ext="jpg", first=(), extra=(), replaced=None, target="cls", content=None, names=CLASSES
):
    """A set with classes: PER_CLASS images of each of CLASSES, which take turns."""
    members = list(first)
    for number in range(PER_CLASS * len(CLASSES)):
        stem, encoded = key.format(number), (replaced or {}).get(number, photo(number))
        beside = content(number) if content else str(number % len(CLASSES)).encode()
        members += [(f"{stem}.{ext}", encoded), (f"{stem}.{target}", beside)]
    prompts = {"zeroshot_classification_templates_txt": "a photo of a {c}\n{c}\n"}
    return write(folder, [*members, *extra], classnames_txt="\n".join(names) + "\n", **prompts)


def captioned(folder, captions: list[bytes]):
    """A set with captions, one .txt for each image."""
    members = []
    for number, caption in enumerate(captions):
        members += [(f"{number:03d}.jpg", photo(number)), (f"{number:03d}.txt", caption)]
    return write(folder, members, dataset_type_txt="retrieval\n")
