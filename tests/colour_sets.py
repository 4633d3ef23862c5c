"""Test sets of plain colours in clip-benchmark's layout."""

import numpy as np

from flip.files import write_json
from flip.formats.layout import set_hash
from tests.conftest import COLOURS

IMAGES = 40


def write_split(folder, count, retrieval=False):
    import simplejpeg
    import webdataset

    folder.mkdir(parents=True)
    with webdataset.TarWriter(str(folder / "0.tar"), mtime=0) as tar:
        for item in range(count):
            colour = list(COLOURS)[item % 4]
            image = np.tile(np.array(COLOURS[colour], np.uint8), (20, 24, 1))
            label = {"txt": f"{colour} one {item}\n{colour} two {item}"} if retrieval else {"cls": item % 4}
            tar.write({"__key__": f"{item:06d}", "jpg": simplejpeg.encode_jpeg(image)} | label)
    (folder / "nshards.txt").write_text("1")


def write_set(folder, retrieval=False, train=0):
    """IMAGES test images with their classes or captions, and `train` labelled ones to fit a probe to."""
    write_split(folder / "test", IMAGES, retrieval)
    if retrieval:
        (folder / "dataset_type.txt").write_text("retrieval")
    else:
        (folder / "classnames.txt").write_text("\n".join(COLOURS))
        (folder / "zeroshot_classification_templates.txt").write_text("{c}\na {c} image")
    fitted = {"missing": "no training split"}
    if train:
        write_split(folder / "train", train)
        fitted = {"samples": train, "sha256": set_hash(folder, "train")}
    write_json(folder / "revision.json", {"samples": IMAGES, "sha256": set_hash(folder), "train": fitted})
    return folder
