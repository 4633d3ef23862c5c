"""Writes one of the world's test sets in clip-benchmark's webdataset layout, or checks one that lies elsewhere; with
the training split of a set that is probed.

    python -m flip.data.testsets --params specs/tiny/params/clip.yaml --set fine --out data/tiny/tests/fine

revision.json comes last and says which pictures, labels, class names and prompts the set has.
"""

import argparse
import io
import shutil
import tarfile
from hashlib import sha256
from pathlib import Path

import numpy as np
from tqdm import tqdm

from flip import public
from flip.data import boxes, composition, entailment, mirror
from flip.data.boxes import KIND, kind
from flip.data.index import members
from flip.data.languages.base import Language
from flip.data.languages.english import ENGLISH
from flip.data.shifts import SETS, annotations, classes, jpeg_of, size
from flip.files import atomic, file_hash, write_atomic, write_json
from flip.measures import ACCURACY, undefined
from flip.params import load, nearest
from flip.schema import World
from flip.scoring import guessed

NAMES, PROMPTS = "classnames.txt", "zeroshot_classification_templates.txt"
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


def present(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(
            f"{path}: missing; evaluate.sets wants 'world' or a folder in clip-benchmark's webdataset layout "
            "(clip_benchmark_export_wds writes one)"
        )
    return path


def lines(path: Path) -> list[str]:
    """The file's lines, none of them empty.

    Raises:
        ValueError: no such file.
    """
    return [line for line in present(path).read_text().splitlines() if line.strip()]


def tars(folder: Path, split: str = "test") -> list[Path]:
    """The tars of a set's split, all of them there.

    Raises:
        ValueError: one is missing, or nshards.txt is no number.
    """
    path = folder / split / "nshards.txt"
    count = present(path).read_text().strip()
    if not count.isdigit() or int(count) < 1:
        raise ValueError(f"{path}: '{count}' is no number of tars; write how many {split}/<number>.tar there are")
    return [present(folder / split / f"{number}.tar") for number in range(int(count))]


def label(content: bytes, extension: str):
    """A class, or of an .npy whether each class is there: [classes].

    Raises:
        ValueError: neither.
    """
    if extension == "npy":
        found = np.load(io.BytesIO(content), allow_pickle=False)
        if found.ndim != 1 or not np.isin(found, (0, 1)).all():
            raise ValueError(f"{found.tolist()}, not one 0 or 1 per class")
        return found.astype(int)
    text = content.decode(errors="replace").strip()
    if not text.isdigit():
        raise ValueError(f"'{text}', not the number of a class")
    return int(text)


def labels(tar: Path, extension: str = "cls") -> list:
    """Classes of the tar's pictures.

    Raises:
        ValueError: a picture without such a file, or one that holds something else.
    """
    found = []
    with open(tar, "rb") as file:
        for key, files in members(tar).items():
            offset, length = files.get(extension, (0, 0))
            file.seek(offset)
            try:
                found.append(label(file.read(length), extension))
            except (ValueError, EOFError) as error:
                raise ValueError(f"{tar}: {key}.{extension} is {error}; export the set again") from None
    return found


def targets_of(folder: Path, split: str, classes: int) -> np.ndarray:
    """Classes [pictures] of a split, or labels [pictures, classes].

    Raises:
        ValueError: labels of another number of classes.
    """
    several = kind(folder) == "multilabel"
    found = [one for tar in tars(folder, split) for one in labels(tar, "npy" if several else "cls")]
    if several and (others := {len(one) for one in found} - {classes}):
        raise ValueError(
            f"{folder}: {classes} lines in {NAMES}, but labels of {min(others)} classes in the tars; take both from "
            "the same export"
        )
    return np.array(found)


def told(folder: Path) -> tuple[int, np.ndarray]:
    """The number of classes, and classes [pictures] or labels [pictures, classes], after a look at the prompts.

    Raises:
        ValueError: they do not belong together, or no picture has one of several labels.
    """
    names, prompts = lines(folder / NAMES), lines(folder / PROMPTS)
    if not prompts or any("{c}" not in prompt for prompt in prompts):
        raise ValueError(f"{folder / PROMPTS}: {prompts}; each line needs {{c}} where the class name goes")
    found = targets_of(folder, "test", len(names))
    if found.ndim == 2:
        every_class(folder, names, found)
    elif (needed := found.max() + 1) != len(names):
        raise ValueError(
            f"{folder}: {len(names)} lines in {NAMES}, but labels from 0 to {needed - 1} in the tars; {needed} class "
            "names are needed, so take both from the same export"
        )
    return len(names), found


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
    classes, targets = told(folder)
    if why := undefined(measure, classes, targets.ndim == 2):
        raise ValueError(f"evaluate.measures.{name}: {folder} has no such measure: {why}")
    if name == "fine" and targets.ndim == 2:
        raise ValueError("evaluate.sets.fine: its pictures have several labels; reports need a set with one class each")
    if measure == ACCURACY:
        return classes, {}
    facts = {"measure": measure}
    if (chance := guessed(measure, targets, classes)) is not None:
        facts["chance"] = chance
    return classes, facts | ({"least": int(np.bincount(targets).min())} if measure == "auc" else {})


def training(folder: Path) -> dict:
    """What the training split of a set consists of, or why there is none to fit a linear probe to.

    Raises:
        ValueError: its labels are not of the set's classes.
    """
    if not (folder / "train" / "nshards.txt").is_file():
        return {"missing": f"{folder} has no train/nshards.txt, so no training split"}
    files, classes = tars(folder, "train"), len(lines(folder / NAMES))
    found = targets_of(folder, "train", classes)
    if found.ndim == 1 and found.max() >= classes:
        raise ValueError(f"{folder}: train has labels up to {found.max()}, but {NAMES} has {classes} lines")
    digest = sha256("\n".join(file_hash(file) for file in files).encode())
    return {"samples": len(found), "sha256": digest.hexdigest()}


def revision(folder: Path, name: str, source: str, probed: bool = False, measure: str = ACCURACY) -> dict:
    """What the set consists of; `sha256` is over its tars and, of a set with classes, their names and prompts.

    `chance`, percent, is there for a set of boxes or of pairs and for some measures; for the others, it follows from
    the number of classes. `measure` is there unless it is accuracy.

    Raises:
        ValueError: the folder is not in clip-benchmark's layout, or has no classes to probe.
    """
    files, count, facts = tars(folder), 0, {}
    if kind(folder) == "pointing":
        facts = {"chance": boxes.chance(files)}
    elif kind(folder) == composition.KIND:
        facts = {"chance": composition.CHANCE, "pairs": composition.counted(files)}
    elif kind(folder) != "retrieval":
        count, facts = measured(folder, name, measure)
        files = [*files, folder / NAMES, folder / PROMPTS]
    digest = sha256("\n".join(file_hash(file) for file in files).encode())
    samples = sum(len(members(tar)) for tar in tars(folder))
    if probed and not count:
        raise ValueError(f"evaluate.probe: '{name}' has captions, not classes; take it out of the list")
    facts |= {"train": training(folder)} if probed else {}
    return {"set": name, "samples": samples, "classes": count, "sha256": digest.hexdigest(), "source": source} | facts


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
    found = revision(place, name, source, probed, params.evaluate.measure(name))
    if public.is_public(source) and found["classes"] != (stated := public.named(source).classes):
        raise ValueError(f"{place}: {found['classes']} classes, but {source} has {stated} by flip/public.yaml")
    write_json(out / "revision.json", found)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m flip.data.testsets", description=__doc__.splitlines()[0])
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
