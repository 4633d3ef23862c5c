"""Write a synthetic test set in clip-benchmark's webdataset layout.

A set that is probed has a training split, too; the annotations that heads learn from (flip.formats.notes) and, last,
the revision (flip.testsets.revision) are written with it.

    python -m flip.synthetic.testsets --params specs/tiny/params/clip.yaml --set fine --out data/tiny/tests/fine
"""

import tarfile
from pathlib import Path

from tqdm import tqdm

from flip.config.faults import nearest
from flip.config.schema import Params, World
from flip.files import atomic, write_atomic
from flip.formats.contents import add
from flip.formats.layout import KIND, NAMES, PROMPTS
from flip.formats.notes import SHOWN, write_notes
from flip.metrics.sets import WORLD, retrieval_in
from flip.synthetic.languages.all import LANGUAGES
from flip.synthetic.languages.base import Language
from flip.synthetic.languages.english import ENGLISH
from flip.synthetic.questions import questions
from flip.synthetic.scenes import stream
from flip.synthetic.shifts import SETS, annotations, captions_of, classes, jpeg_of, scene_of, size
from flip.testsets.revision import clear, place_of, record
from flip.testsets.revision import main as run

TEMPLATES = (
    "{c}",
    "a {c}",
    "the {c}",
    "photo of a {c}",
    "picture of a {c}",
    "stock photo of {c}",
    "a {c} on a plain background",
)
IN_LANGUAGES = {retrieval_in(code): language for code, language in LANGUAGES.items()}


def write_images(world: World, name: str, out: Path, split: str, language: Language) -> None:
    """Write the tar file of a split, and the number of tar files, one."""
    count = size(world, name, split)
    with atomic(out / split / "0.tar") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for index in tqdm(range(count), desc=f"{name} {split}", unit="image", disable=None):
            add(tar, f"{index:06d}.jpg", jpeg_of(world, name, index, split))
            for extension, text in annotations(world, name, index, language, split).items():
                add(tar, f"{index:06d}.{extension}", text.encode())
    write_atomic(out / split / "nshards.txt", "1\n")


def notes_of(world: World, name: str, split: str, index: int) -> dict[str, list]:
    """Return the annotations of an image that heads learn from, by task."""
    random = stream(world, split, "questions", index)
    asked = questions(scene_of(world, name, index, split), random)
    return {"caption": captions_of(world, index, name=name, split=split), "vqa": asked}


def write_set(world: World, name: str, out: Path, probed: bool, language: Language = ENGLISH) -> None:
    """Write a synthetic test set into the folder `out`, with a training split if it is `probed`.

    Raises:
        ValueError: there is no such set.
    """
    if name not in SETS:
        raise ValueError(f"evaluate.sets.{name}: the world has no such set, {nearest(name, SETS)}; or give a folder")
    for split in ("test", "train") if probed else ("test",):
        write_images(world, name, out, split, language)
        if SHOWN[split] == name and language is ENGLISH:
            write_notes(out, split, (notes_of(world, name, split, index) for index in range(size(world, name, split))))
    if names := classes(name):
        write_atomic(out / NAMES, "\n".join(names) + "\n")
        write_atomic(out / PROMPTS, "\n".join(TEMPLATES) + "\n")
    if WORLD[name] != "classification":
        write_atomic(out / KIND, f"{WORLD[name]}\n")


def make(params: Params, name: str, out: Path) -> None:
    """Write a set that the section `evaluate` names, then its revision.

    Raises:
        ValueError: the set is unknown, or `evaluate` states another place for it.
    """
    if (place := place_of(params, name)) != "world":
        raise ValueError(f"evaluate: {name} = '{place}'; flip.testsets.revision checks a set that lies elsewhere")
    clear(out)
    if name in IN_LANGUAGES:
        write_set(params.world, "retrieval", out, False, IN_LANGUAGES[name])
    else:
        write_set(params.world, name, out, name in params.evaluate.probe)
    record(params, name, out, out)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    run(argv, make)


if __name__ == "__main__":
    main()
