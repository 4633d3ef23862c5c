"""Fetch a public test set once from the Hugging Face hub, at the commit that evaluate.sets pins; or look at a copy.

    python -m flip.data.mirror --params specs/cc12m/params/clip.yaml --set cars
    python -m flip.data.mirror --newest wds/cars     prints what to pin

It lies in testsets/<name>/<commit>/, for all scales. mirror.json comes last and says what each file is; a fetch that
was cut off continues, with the file that was being fetched. The training split comes along where evaluate.probe names
the set. Every evaluation looks at its copies with what is here, so the hub's client is imported where it is called.
"""

import argparse
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from flip import public
from flip.files import file_hash, known_hash, read_json, write_json
from flip.params import load, nearest

RECORD = "mirror.json"


@contextmanager
def reaching(what: str):
    """Names what could not be reached.

    Raises:
        ValueError: whatever the client has met; it has changed its HTTP library, and so its errors, more than once.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{what} could not be fetched ({type(error).__name__}: {' '.join(str(error).split())}); call `snakemake "
            f"mirror` where there is a network, or copy {public.MIRRORS}/ from there"
        ) from None


def is_read(path: str, splits: list[str]) -> bool:
    """Whether an evaluation reads a file of a set: class names, prompts and type, or what is in a split."""
    first, _, within = path.partition("/")
    return first in splits if within else path.endswith(".txt")


def stated(repository: str, commit: str) -> tuple[str, dict]:
    """The commit that the hub answers with, and its files (RepoFile) by path."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi()
    answered = api.dataset_info(repository, revision=commit).sha
    tree = api.list_repo_tree(repository, recursive=True, revision=commit, repo_type="dataset")
    return answered, {one.path: one for one in tree if isinstance(one, RepoFile)}


def download(place: str, stated) -> None:
    """One file (RepoFile) of a public set, continued where an earlier call was cut off; it appears at once.

    The client's own downloads continue within a call and begin anew after a kill; a tar may have a gigabyte.

    Raises:
        ValueError: it could not be fetched, or is not what the hub says it is.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    path = public.folder(place) / stated.path
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    url = hf_hub_url(public.named(place).hub, stated.path, repo_type="dataset", revision=public.commit(place))
    with reaching(place), open(part, "ab") as file:
        http_get(url, file, resume_size=file.tell(), headers=build_hf_headers(), expected_size=stated.size)
    if stated.lfs and file_hash(part) != stated.lfs.sha256:
        part.unlink()
        raise ValueError(f"{path}: arrived otherwise than the hub has it; call `snakemake mirror` again")
    part.replace(path)


def fetch(place: str, splits: list[str]) -> Path:
    """Brings the splits of a public set here, those that are there; gives its folder.

    Raises:
        ValueError: the hub cannot be reached, has no such commit, or a file is not what it says.
    """
    repository, commit, folder = public.named(place).hub, public.commit(place), public.folder(place)
    if (folder / RECORD).exists() and set(splits) <= set(read_json(folder / RECORD)["splits"]):
        if wrong := faults(place):
            raise ValueError("\n".join(wrong))
        return folder
    with reaching(place):
        answered, files = stated(repository, commit)
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
    """A public set as evaluate.sets names it, pinned to its newest commit.

    Raises:
        ValueError: clip-benchmark publishes no such set, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    there = [one for one, facts in public.known().items() if facts.hub]
    if name not in there:
        raise ValueError(f"--newest {name}: {nearest(name, there)}")
    with reaching(name):
        return f"{name}@{HfApi().dataset_info(public.known()[name].hub).sha}"


def faults(place: str) -> list[str]:
    """What is wrong with the copy of a public set; files are read again only where size or time have changed."""
    folder = public.folder(place)
    if not (folder / RECORD).exists():
        return [f"{folder}: {place} is not here; `snakemake mirror` fetches it, where there is a network"]
    found = []
    for name, content in read_json(folder / RECORD)["files"].items():
        path = folder / name
        if not path.exists():
            found.append(f"{path}: missing")
        elif path.stat().st_size != content["bytes"] or known_hash(path) != content["sha256"]:
            found.append(f"{path}: changed since it was fetched")
    remedy = f"; delete {folder} and call `snakemake mirror`"
    return [one + remedy for one in found]


def set_faults(sets: dict[str, str]) -> list[str]:
    """What is wrong with the copies of the public ones of these sets, role -> place."""
    public_ones = {role: place for role, place in sets.items() if public.is_public(place)}
    return [f"evaluate.sets.{role}: {fault}" for role, place in public_ones.items() for fault in faults(place)]


def require(sets: dict[str, str]) -> None:
    """Looks whether the public ones of these sets are as they were fetched.

    Raises:
        ValueError: one is not.
    """
    if wrong := set_faults(sets):
        raise ValueError("\n".join(wrong))


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m flip.data.mirror", description=__doc__.splitlines()[0])
    parser.add_argument("--params", help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--set", help="a role of evaluate.sets")
    parser.add_argument("--newest", metavar="NAME", help="print the newest commit of a public set and end")
    options = parser.parse_args(argv)
    try:
        if options.newest:
            print(newest(options.newest))
            return
        evaluate = load(options.params).evaluate
        fetch(evaluate.sets[options.set], ["test", "train"] if options.set in evaluate.probe else ["test"])
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
