"""Write a split of COCO (Karpathy's), nocaps or VQAv2 in clip-benchmark's webdataset layout, as `transfer` in
params.yaml reads it, from the annotations as published and folders of images.

    python -m flip.transfer.convert coco dataset_coco.json --images coco --split train --out testsets/coco
    python -m flip.transfer.convert nocaps nocaps_val_4500_captions.json --images nocaps --split test \\
        --out testsets/nocaps
    python -m flip.transfer.convert vqa v2_mscoco_val2014_annotations.json v2_OpenEnded_mscoco_val2014_questions.json \\
        --images coco/val2014 --split test --out testsets/vqa

Images are copied as they are. Called again, it resumes after the last complete tar file.
"""

import argparse
import json
import tarfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from flip.files import atomic, file_hash, read_json, write_atomic, write_json
from flip.formats.contents import add
from flip.formats.tar_members import IMAGES

KARPATHY = {"train": ("train", "restval"), "test": ("test",)}  # our splits: his


class ConvertedSample(NamedTuple):
    """Hold the file of an image, and its annotations."""

    image: Path
    annotations: dict[str, str]  # extension -> text


def coco(files: list[dict[str, Any]], images: Path, split: str) -> list[ConvertedSample]:
    """Return the samples of Karpathy's split of COCO: train and restval, or test."""
    return [
        ConvertedSample(
            images / one.get("filepath", "") / one["filename"],
            {"txt": captions([sentence["raw"] for sentence in one["sentences"]])},
        )
        for one in files[0]["images"]
        if one["split"] in KARPATHY[split]
    ]


def captions(texts: list[str]) -> str:
    """Join captions, one per line."""
    return "".join(" ".join(text.split()) + "\n" for text in texts)


def nocaps(files: list[dict[str, Any]], images: Path, split: str) -> list[ConvertedSample]:
    """Return the images of nocaps with their captions and their domain."""
    texts: dict[int, list[str]] = defaultdict(list)
    for one in files[0]["annotations"]:
        texts[one["image_id"]].append(one["caption"])
    return [
        ConvertedSample(images / one["file_name"], {"txt": captions(texts[one["id"]]), "domain": one["domain"]})
        for one in files[0]["images"]
    ]


def vqa(files: list[dict[str, Any]], images: Path, split: str) -> list[ConvertedSample]:
    """Return COCO's images with their questions, each with the answers of all annotators."""
    annotations, questions = sorted(files, key=lambda one: "questions" in one)
    answers = {
        one["question_id"]: [answer["answer"] for answer in one["answers"]] for one in annotations["annotations"]
    }
    asked: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for one in questions["questions"]:
        note = {"question": one["question"], "answers": answers[one["question_id"]]}
        asked[one["image_id"]].append(note)
    name = f"COCO_{questions['data_subtype']}_{{:012d}}.jpg"
    return [ConvertedSample(images / name.format(image), {"json": json.dumps(notes)}) for image, notes in asked.items()]


KINDS = {"coco": coco, "nocaps": nocaps, "vqa": vqa}
FILES = {"coco": 1, "nocaps": 1, "vqa": 2}


def samples(kind: str, files: list[Path], images: Path, split: str) -> list[ConvertedSample]:
    """Return the samples to write, without reading an image.

    Raises:
        ValueError: the files are not those of the kind, or images are missing or of unknown formats.
    """
    if len(files) != FILES[kind]:
        raise ValueError(f"{kind} is made of {FILES[kind]} JSON file(s), not {len(files)}; see --help for examples")
    try:
        found = KINDS[kind]([read_json(path) for path in files], images, split)
    except (KeyError, TypeError, ValueError) as error:
        names = ", ".join(map(str, files))
        raise ValueError(f"{names}: not what {kind} publishes: {type(error).__name__} {error}") from None
    if not found:
        raise ValueError(f"{files[0]}: has no images of split {split}")
    missing = [one.image for one in found if not one.image.is_file()]
    if missing:
        raise ValueError(f"{missing[0]}: missing, with {len(missing) - 1} more of {len(found)} images; see --images")
    unknown = [one.image for one in found if extension(one.image) not in IMAGES]
    if unknown:
        raise ValueError(f"{unknown[0]}: not an image format that is read here; allowed: {', '.join(IMAGES)}")
    return found


def extension(path: Path) -> str:
    """Return the extension of a file, in lower case, without the dot."""
    return path.suffix[1:].lower()


def write_tar(path: Path, some: list[ConvertedSample], start: int) -> None:
    """Write a tar file of samples, numbered from `start`."""
    with atomic(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for number, one in enumerate(some, start):
            add(tar, f"{number:08d}.{extension(one.image)}", one.image.read_bytes())
            for name, text in one.annotations.items():
                add(tar, f"{number:08d}.{name}", text.encode())


def convert(kind: str, files: list[Path], images: Path, split: str, out: Path, size: int) -> None:
    """Write `out`/`split`: tar files of `size` images, then nshards.txt.

    Raises:
        ValueError: as `samples`; or the folder holds tar files that were made from other files.
    """
    found = samples(kind, files, images, split)
    made_from = {"kind": kind, "files": [file_hash(path) for path in files], "images_per_tar": size}
    mark = out / split / "made_from.json"
    if mark.exists() and read_json(mark) != made_from:
        raise ValueError(f"{out / split}: was made from other files, or with another --size; delete it")
    write_json(mark, made_from)
    starts = range(0, len(found), size)
    for number, start in enumerate(tqdm(starts, desc=f"{kind} {split}", unit="tar", disable=None)):
        if not (path := out / split / f"{number}.tar").exists():
            write_tar(path, found[start : start + size], start)
    write_atomic(out / split / "nshards.txt", f"{len(starts)}\n")


def positive(text: str) -> int:
    """Parse a number above 0."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return int(text)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert a split by the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flip.transfer.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument(
        "files", type=Path, nargs="+", help="JSON as published; of vqa the annotations and the questions"
    )
    parser.add_argument("--images", type=Path, required=True, help="folder that the files' names begin in")
    parser.add_argument("--split", choices=KARPATHY, required=True, help="split to write; of coco also the one to read")
    parser.add_argument("--out", type=Path, required=True, help="folder that transfer in params.yaml names")
    parser.add_argument("--size", type=positive, default=1000, help="images per tar file (default: 1000)")
    options = parser.parse_args(argv)
    try:
        convert(options.kind, options.files, options.images, options.split, options.out, options.size)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
