"""Check a test set that lies somewhere in clip-benchmark's webdataset layout, with its training split if it is probed,
and write its revision: which images, labels, class names and prompts it has.

    python -m flip.testsets.revision --params specs/cc12m/params/clip.yaml --set cars --out data/cc12m/tests/cars
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from flip.config import kinds, public
from flip.config.faults import in_lines, nearest
from flip.config.frozen import load
from flip.config.kinds.kind import check_some
from flip.config.schema import Params
from flip.files import write_json
from flip.formats import layout
from flip.formats.contents import encoded_image
from flip.formats.images import decode
from flip.formats.notes import notes_path
from flip.formats.tar_members import IMAGES
from flip.metrics.measures import ACCURACY
from flip.metrics.sets import retrieval_in
from flip.testsets import mirror


def decodable(folder: Path) -> int:
    """Decode every test image, and return how many there are.

    Raises:
        ValueError: some cannot be, or as `image_extension`, with a line for each.
    """
    every = tqdm(layout.samples(folder, "test", *IMAGES), desc=f"{folder}", unit="image", disable=None)
    found, faults = 0, []
    for where, content in every:
        found += 1
        try:
            decode(encoded_image(content, where), where)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError(in_lines(faults))
    check_some(found, folder / "test")
    return found


def training(folder: Path) -> dict:
    """Return what the training split of a set consists of, or why there is none to fit a linear probe to.

    Raises:
        ValueError: an evaluation could not read it.
    """
    if not (folder / "train" / "nshards.txt").is_file():
        return {"missing": f"{folder} has no train/nshards.txt, so no training split"}
    return {"samples": kinds.of_folder(folder).training_samples(folder), "sha256": layout.set_hash(folder, "train")}


def revision(folder: Path, name: str, source: str, probed: bool = False, measure: str = ACCURACY) -> dict:
    """Return what the set consists of; `sha256` is over all that its test split is read from.

    `chance`, percent, is there where it does not follow from the number of classes; `measure` unless it is accuracy.

    Raises:
        ValueError: the folder is not in clip-benchmark's layout, holds what an evaluation could not read, or has no
            classes to probe.
    """
    samples = decodable(folder)
    facts = kinds.of_folder(folder).facts(folder, name, measure)
    if probed and not facts.get("classes"):
        raise ValueError(f"evaluate.probe: '{name}' has captions, not classes; take it out of the list")
    facts |= {"train": training(folder)} if probed else {}
    stated = {"set": name, "samples": samples, "classes": 0, "sha256": layout.set_hash(folder), "source": source}
    return stated | facts


def place_of(params: Params, name: str) -> str:
    """Return where a set of evaluate.sets lies, or of evaluate.languages, as retrieval-<language>.

    Raises:
        ValueError: there is no such set.
    """
    if name in (sets := params.evaluate.sets):
        return sets[name]
    by_language = {retrieval_in(language): place for language, place in params.evaluate.languages.items()}
    if name not in by_language:
        raise ValueError(f"evaluate.sets has no '{name}'; {nearest(name, sets | by_language)}")
    return by_language[name]


def clear(out: Path) -> None:
    """Remove what an earlier run left: with other parameters it may have been a set of another kind."""
    for split in ("test", "train"):
        shutil.rmtree(out / split, ignore_errors=True)
        notes_path(out, split).unlink(missing_ok=True)
    for name in (layout.NAMES, layout.PROMPTS, layout.KIND):
        (out / name).unlink(missing_ok=True)


def record(params: Params, name: str, folder: Path, out: Path) -> None:
    """Check the set that lies in a folder, and write its revision into `out`.

    Raises:
        ValueError: as `revision`; the primary set is not of one class per image, or a public set has other classes
            than flip/config/public.yaml says.
    """
    source, evaluate = place_of(params, name), params.evaluate
    if name == evaluate.primary_set and (kind := kinds.of_folder(folder).name) != "classification":
        raise ValueError(
            f"evaluate.primary_set = '{name}', a set for {kind}; reports need one with one class per image"
        )
    found = revision(folder, name, source, name in evaluate.probe, evaluate.measure(name))
    if public.is_public(source) and found["classes"] != (stated := public.named(source).classes):
        raise ValueError(f"{folder}: {found['classes']} classes, but {source} has {stated} by flip/config/public.yaml")
    write_json(out / "revision.json", found)


def make(params: Params, name: str, out: Path) -> None:
    """Check the set that evaluate names, where it lies, and write its revision.

    Raises:
        ValueError: an unknown set, or a folder that is not in clip-benchmark's layout.
    """
    source = place_of(params, name)
    clear(out)
    mirror.require({name: source})
    record(params, name, public.folder(source), out)


def main(argv: list[str] | None = None, make: Callable[[Params, str, Path], None] = make) -> None:
    """Run the command; `make` says how the set comes about."""
    parser = argparse.ArgumentParser(prog=f"python -m {make.__module__}", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--set", required=True, help="a role of evaluate.sets, or retrieval-<language>")
    parser.add_argument("--out", type=Path, required=True, help="the set's folder")
    options = parser.parse_args(argv)
    try:
        make(load(options.params), options.set, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
