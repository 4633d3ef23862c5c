"""Writes one of the world's test sets in clip-benchmark's webdataset layout, or checks one that lies elsewhere; with
the training split of a set that is probed.

    python -m flip.testsets --params specs/tiny/params/clip.yaml --set fine --out data/tiny/tests/fine

revision.json comes last and says which pictures, labels, class names and prompts the set has.
"""

import argparse
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from flip.config.faults import nearest
from flip.config.frozen import load
from flip.config.schema import World
from flip.data.images import decode
from flip.data.shard import PICTURES, members
from flip.files import atomic, write_atomic, write_json
from flip.metrics.measures import ACCURACY, undefined
from flip.metrics.scoring import guessed
from flip.synthetic import composition, entailment
from flip.synthetic.languages.base import Language
from flip.synthetic.languages.english import ENGLISH
from flip.synthetic.shifts import SETS, annotations, classes, jpeg_of, size
from flip.testsets import boxes, layout, mirror, public
from flip.testsets.contents import encoded_picture, image_extension, read
from flip.testsets.layout import KIND, NAMES, PROMPTS, kind, tars

TEMPLATES = (
    "{c}",
    "a {c}",
    "the {c}",
    "photo of a {c}",
    "picture of a {c}",
    "stock photo of {c}",
    "a {c} on a plain background",
)


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """A member without a time or an owner, so that equal pictures make equal files."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_pictures(world: World, name: str, out: Path, split: str, language: Language = ENGLISH) -> None:
    count = size(world, name, split)
    with atomic(out / split / "0.tar") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for index in tqdm(range(count), desc=f"{name} {split}", unit="picture", disable=None):
            add(tar, f"{index:06d}.jpg", jpeg_of(world, name, index, split))
            for extension, text in annotations(world, name, index, language, split).items():
                add(tar, f"{index:06d}.{extension}", text.encode())
    write_atomic(out / split / "nshards.txt", "1\n")


def write_set(world: World, name: str, out: Path, probed: bool) -> None:
    """The world's test set in the folder `out`; with a training split if it is to be probed.

    Raises:
        ValueError: the world has no such set.
    """
    if name not in SETS:
        raise ValueError(f"evaluate.sets.{name}: the world has no such set, {nearest(name, SETS)}; or give a folder")
    for split in ("test", "train") if probed else ("test",):
        write_pictures(world, name, out, split)
    names = classes(name)
    if names:
        write_atomic(out / NAMES, "\n".join(names) + "\n")
        write_atomic(out / PROMPTS, "\n".join(TEMPLATES) + "\n")
    if not names or name == entailment.KIND:
        write_atomic(out / KIND, f"{name}\n")


def targets_of(folder: Path, split: str) -> list:
    """What stands beside each picture of a split: its class, its labels [classes] or its captions.

    Raises:
        ValueError: a sample without it, without a picture or with several; or none at all.
    """
    extension, target = layout.reader(folder)
    found = []
    for tar in tars(folder, split):
        with open(tar, "rb") as file:
            for key, places in members(tar).items():
                where = f"{tar}: {key}"
                image_extension(places, where)
                found.append(target(read(file, places, extension).get(extension, b""), where))
    check_some(len(found), folder / split)
    return found


def check_some(samples: int, place: Path) -> None:
    """Raises a ValueError if a split has no samples."""
    if not samples:
        raise ValueError(f"{place}: no samples in its tars; export the set again")


def decodable(folder: Path) -> int:
    """The number of test pictures, after each was decoded.

    Raises:
        ValueError: one cannot be, or as `image_extension`.
    """
    every = tqdm(layout.samples(folder, "test", *PICTURES), desc=f"{folder}", unit="picture", disable=None)
    found = sum(1 for where, content in every if decode(encoded_picture(content, where), where))
    check_some(found, folder / "test")
    return found


def every_class(folder: Path, names: list[str], labelled: np.ndarray) -> None:
    """Refuses labels [pictures, classes] of which one has no picture.

    Raises:
        ValueError: there is such a class.
    """
    if lost := [name for name, there in zip(names, labelled.any(0), strict=True) if not there]:
        raise ValueError(f"{folder}: no picture has '{lost[0]}', so it has no average precision; take the class out")


def measured(folder: Path, name: str, measure: str) -> tuple[int, dict]:
    """The number of classes; and, unless it is accuracy, the measure, what guessing gives and, for auc, the fewest
    pictures of a class.

    Raises:
        ValueError: labels, names and prompts do not belong together, or the set has no such measure.
    """
    names, targets = layout.class_names(folder), np.array(targets_of(folder, "test"))
    layout.prompts(folder)
    if targets.ndim == 2:
        every_class(folder, names, targets)
    classes = len(names)
    if why := undefined(measure, classes, targets.ndim == 2):
        raise ValueError(f"evaluate.measures.{name}: {folder} has no such measure: {why}")
    if measure == ACCURACY:
        return classes, {}
    facts = {"measure": measure}
    if (chance := guessed(measure, targets, classes)) is not None:
        facts["chance"] = chance
    return classes, facts | ({"least": int(np.bincount(targets, minlength=2).min())} if measure == "auc" else {})


def training(folder: Path) -> dict:
    """What the training split of a set consists of, or why there is none to fit a linear probe to.

    Raises:
        ValueError: as `targets_of`.
    """
    if not (folder / "train" / "nshards.txt").is_file():
        return {"missing": f"{folder} has no train/nshards.txt, so no training split"}
    if kind(folder) == entailment.KIND:
        entailment.texts(tars(folder, "train"))
    return {"samples": len(targets_of(folder, "train")), "sha256": layout.set_hash(folder, "train")}


def revision(folder: Path, name: str, source: str, probed: bool = False, measure: str = ACCURACY) -> dict:
    """What the set consists of; `sha256` is over all that its test split is read from.

    `chance`, percent, is there for a set of boxes or of pairs and for some measures; for the others, it follows from
    the number of classes. `measure` is there unless it is accuracy.

    Raises:
        ValueError: the folder is not in clip-benchmark's layout, holds what an evaluation could not read, or has no
            classes to probe.
    """
    files, count, facts = tars(folder), 0, {}
    samples = decodable(folder)
    if kind(folder) == "pointing":
        facts = {"chance": boxes.chance(files)}
    elif kind(folder) == composition.KIND:
        facts = {"chance": composition.CHANCE, "pairs": composition.counted(files)}
    elif kind(folder) == "retrieval":
        targets_of(folder, "test")
    else:
        count, facts = measured(folder, name, measure)
    if kind(folder) == entailment.KIND:
        entailment.texts(tars(folder))
    if probed and not count:
        raise ValueError(f"evaluate.probe: '{name}' has captions, not classes; take it out of the list")
    facts |= {"train": training(folder)} if probed else {}
    stated = {"set": name, "samples": samples, "classes": count, "sha256": layout.set_hash(folder), "source": source}
    return stated | facts


def clear(out: Path) -> None:
    """Removes what an earlier run left: with other parameters it may have been a set of another kind."""
    for split in ("test", "train"):
        shutil.rmtree(out / split, ignore_errors=True)
    for name in (NAMES, PROMPTS, KIND):
        (out / name).unlink(missing_ok=True)


def make(params, name: str, out: Path) -> None:
    """Writes or checks the set that evaluate.sets names, then writes its revision.

    Raises:
        ValueError: an unknown set, or a folder that is not in clip-benchmark's layout.
    """
    if name not in params.evaluate.sets:
        raise ValueError(f"evaluate.sets has no '{name}'; {nearest(name, params.evaluate.sets)}")
    source, probed = params.evaluate.sets[name], name in params.evaluate.probe
    clear(out)
    if source == "world":
        write_set(params.world, name, out, probed)
    mirror.require({name: source})
    place = out if source == "world" else public.folder(source)
    if name == params.evaluate.primary_set and kind(place) != "classification":
        raise ValueError(
            f"evaluate.primary_set = '{name}', a set for {kind(place)}; reports need one with one class per image"
        )
    found = revision(place, name, source, probed, params.evaluate.measure(name))
    if public.is_public(source) and found["classes"] != (stated := public.named(source).classes):
        raise ValueError(f"{place}: {found['classes']} classes, but {source} has {stated} by flip/testsets/public.yaml")
    write_json(out / "revision.json", found)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m flip.testsets", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--set", required=True, help="a role of evaluate.sets")
    parser.add_argument("--out", type=Path, required=True, help="the set's folder")
    options = parser.parse_args(argv)
    try:
        make(load(options.params), options.set, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
