"""Fetch a public test set once from the Hugging Face hub, at the commit that evaluate.sets pins; or look at a copy.

    python -m flip.testsets.mirror --params specs/cc12m/params/clip.yaml --set cars

It lies in testsets/<name>/<commit>/, for all scales. mirror.json comes last and says what each file is; a fetch that
was cut off continues, with the file that was being fetched. The training split comes along where evaluate.probe names
the set. Every evaluation looks at its copies with what is here, so the hub's client is imported where it is called.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from flip.config import public
from flip.config.faults import nearest
from flip.config.frozen import load
from flip.files import file_hash, known_hash, read_json, write_atomic, write_json

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

RECORD = "mirror.json"
FETCHED = f"call `snakemake mirror` where there is a network, or copy {public.MIRRORS}/ from there"


@contextmanager
def reaching(what: str, remedy: str = FETCHED) -> Iterator[None]:
    """Convert errors of the client to one that names what could not be reached, and the remedy.

    Raises:
        ValueError: whatever the client has met; it has changed its HTTP library, and so its errors, more than once.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{what} could not be fetched ({type(error).__name__}: {' '.join(str(error).split())}); {remedy}"
        ) from None


def is_read(path: str, splits: list[str]) -> bool:
    """Return whether an evaluation reads a file of a set: class names, prompts and type, or what is in a split."""
    first, _, within = path.partition("/")
    return first in splits if within else path.endswith(".txt")


def within(folder: Path, name: str) -> Path:
    """Return the path of a file of a set, by its name in a list that is not trusted: the hub's, or that of a copied
    set.

    Raises:
        ValueError: the name, or a link on its way, leads out of the folder or into what Git keeps there.
    """
    parts, path = set(name.lower().split("/")), folder / name
    plain = name.isprintable() and "\\" not in name and not re.match("[A-Za-z]:", name)
    if not plain or parts & {"", ".", "..", ".git"} or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder}: a file called {name!r} leads out of the set's folder; use another copy of the set")
    return path


def recorded(folder: Path) -> tuple[list[str], dict[Path, tuple[int, str]]]:
    """Return the splits that a copy has, and by path the size and the hash of each of its files.

    Raises:
        ValueError: its list is not one that `fetch` writes, or as `within`.
    """
    try:
        content = read_json(folder / RECORD)
        stated = {name: (int(one["bytes"]), str(one["sha256"])) for name, one in content["files"].items()}
        splits = [str(one) for one in content["splits"]]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise ValueError(f"{folder / RECORD}: no list of a set's files; delete {folder} and fetch it again") from None
    return splits, {within(folder, name): facts for name, facts in stated.items()}


def stated(repository: str, commit: str) -> tuple[str | None, dict[str, "RepoFile"]]:
    """Return the commit that the hub answers with, and its files by path."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi()
    answered = api.dataset_info(repository, revision=commit).sha
    tree = api.list_repo_tree(repository, recursive=True, revision=commit, repo_type="dataset")
    return answered, {one.path: one for one in tree if isinstance(one, RepoFile)}


def download(place: str, stated: "RepoFile") -> None:
    """Download one file of a public set, resuming an interrupted call; it appears at its path when complete.

    The client's own downloads resume within a call and start anew after a kill; a tar may have a gigabyte.

    Raises:
        ValueError: it could not be fetched, or is not what the hub says it is.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    path, part = (within(public.folder(place), f"{stated.path}{end}") for end in ("", ".part"))
    path.parent.mkdir(parents=True, exist_ok=True)
    repository = public.named(place).hub
    assert repository is not None, place
    url = hf_hub_url(repository, stated.path, repo_type="dataset", revision=public.commit(place))
    with reaching(place), open(part, "ab") as file:
        http_get(url, file, resume_size=file.tell(), headers=build_hf_headers(), expected_size=stated.size)
    if stated.lfs and file_hash(part) != stated.lfs.sha256:
        part.unlink()
        raise ValueError(f"{path}: arrived otherwise than the hub has it; call `snakemake mirror` again")
    part.replace(path)


def fetch(place: str, splits: list[str]) -> Path:
    """Download the splits that a public set has; return its folder.

    Raises:
        ValueError: the hub cannot be reached, has no such commit, lists a file that would lie elsewhere, or a file is
            not what it says.
    """
    repository, commit, folder = public.named(place).hub, public.commit(place), public.folder(place)
    assert repository is not None, place
    if (folder / RECORD).exists() and set(splits) <= set(recorded(folder)[0]):
        if wrong := faults(place):
            raise ValueError("\n".join(wrong))
        return folder
    with reaching(place):
        answered, files = stated(repository, commit)
    for path in files:
        within(folder, path)
    wanted = {path: one for path, one in files.items() if is_read(path, splits)}
    if answered != commit or "test/nshards.txt" not in wanted:
        raise ValueError(f"{place}: {repository} answers with {answered} and {sorted(wanted)}; pin one in the layout")
    for path, one in tqdm(wanted.items(), desc=place, unit="file", disable=None):
        if not (folder / path).exists():
            download(place, one)
    kept = {path: {"bytes": (folder / path).stat().st_size, "sha256": file_hash(folder / path)} for path in wanted}
    facts = {"set": place, "repository": repository, "commit": commit, "splits": splits, "files": kept}
    write_json(folder / RECORD, facts)
    return folder


def newest(name: str) -> str:
    """Return the name of a public set in evaluate.sets, pinned to its newest commit.

    Raises:
        ValueError: clip-benchmark publishes no such set, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    there = [one for one, facts in public.known().items() if facts.hub]
    if name not in there:
        raise ValueError(f"unknown set '{name}'; {nearest(name, there)}")
    repository = public.known()[name].hub
    assert repository is not None, name
    with reaching(name, "ask again where there is a network, or write a commit that its page on the hub shows"):
        return f"{name}@{HfApi().dataset_info(repository).sha}"


def written(name: str) -> re.Pattern:
    """Return a pattern of how parameters name a public set: pinned or not, or as the folder testsets/<data set> that a
    copy lies in."""
    repository = public.known()[name].hub
    assert repository is not None, name
    folder = public.MIRRORS / Path(repository).name
    return re.compile(rf"(?<![\w./-])({re.escape(name)}(@\w*)?|{re.escape(str(folder))})(?![\w./@-])")


def pin(path: Path) -> list[str]:
    """Pin every public set that a file of parameters names to its newest commit, at all scales alike, and leave the
    rest of the file as it is; return what was written.

    Raises:
        ValueError: the hub cannot be reached, or the file names no public set; it is then as it was.
    """
    text = path.read_text()
    patterns = {name: written(name) for name, facts in public.known().items() if facts.hub}
    found = {newest(name): pattern for name, pattern in patterns.items() if pattern.search(text)}
    if not found:
        raise ValueError(
            f"{path}: no set to pin; write wds/NAME, a set of flip/config/public.yaml, into evaluate.sets first"
        )
    for place, pattern in found.items():
        text = pattern.sub(place, text)
    write_atomic(path, text)
    return list(found)


def faults(place: str) -> list[str]:
    """Return what is wrong with the copy of a public set; files are read again only where size or time have changed."""
    folder = public.folder(place)
    if not (folder / RECORD).exists():
        return [f"{folder}: {place} is not here; `snakemake mirror` fetches it, where there is a network"]
    try:
        _, files = recorded(folder)
    except ValueError as error:
        return [str(error)]
    found = []
    for path, (size, digest) in files.items():
        if not path.is_file():
            found.append(f"{path}: missing")
        elif path.stat().st_size != size or known_hash(path) != digest:
            found.append(f"{path}: changed since it was fetched")
    remedy = f"; delete {folder} and call `snakemake mirror`"
    return [one + remedy for one in found]


def set_faults(sets: dict[str, str]) -> list[str]:
    """Return what is wrong with the copies of the public ones of these sets, role -> place."""
    public_ones = {role: place for role, place in sets.items() if public.is_public(place)}
    return [f"evaluate.sets.{role}: {fault}" for role, place in public_ones.items() for fault in faults(place)]


def require(sets: dict[str, str]) -> None:
    """Check that the public ones of these sets are as they were fetched.

    Raises:
        ValueError: one is not.
    """
    if wrong := set_faults(sets):
        raise ValueError("\n".join(wrong))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m flip.testsets.mirror", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--set", required=True, help="a role of evaluate.sets")
    options = parser.parse_args(argv)
    try:
        evaluate = load(options.params).evaluate
        fetch(evaluate.sets[options.set], ["test", "train"] if options.set in evaluate.probe else ["test"])
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
