"""Fetch a public test set once from the Hugging Face hub, at the commit that evaluate.sets pins; or look at a copy.

    python -m flip.data.mirror --params specs/cc12m/params/clip.yaml --set cars
    python -m flip.data.mirror --newest wds/cars     prints what to pin

It lies in testsets/<name>/<commit>/, for all scales. mirror.json comes last and says what each file is; a fetch that
was cut off continues, with the file that was being fetched. The training split comes along where evaluate.probe names
the set.
"""

import argparse
from pathlib import Path

import httpx
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoFile

from flip import public
from flip.files import file_hash, known_hash, read_json, write_json
from flip.params import load, nearest

RECORD = "mirror.json"


def wanted(splits: list[str]) -> list[str]:
    """Patterns of the files that an evaluation reads."""
    return ["*.txt", *(f"{split}/*" for split in splits)]


def stated(repository: str, commit: str, patterns: list[str]) -> dict[str, str | None]:
    """The files of a commit that fit, and the SHA-256 that the hub knows of the large ones.

    Raises:
        ValueError: the hub gives another commit, or no test split.
    """
    api = HfApi()
    if (found := api.dataset_info(repository, revision=commit).sha) != commit:
        raise ValueError(f"{repository}: the hub answers {commit} with {found}; pin a full commit")
    tree = api.list_repo_tree(repository, recursive=True, revision=commit, repo_type="dataset")
    files = {one.path: one.lfs.sha256 if one.lfs else None for one in tree if isinstance(one, RepoFile)}
    fitting = {path: digest for path, digest in files.items() if any(Path(path).match(one) for one in patterns)}
    if "test/nshards.txt" not in fitting:
        raise ValueError(f"{repository}@{commit}: no test/nshards.txt, so not in clip-benchmark's webdataset layout")
    return fitting


def fetch(place: str, splits: list[str]) -> Path:
    """Brings the splits of a public set here; gives its folder.

    Raises:
        ValueError: the hub cannot be reached, has no such commit, or a file is not what it says.
    """
    repository, commit, folder = public.named(place).hub, public.commit(place), public.folder(place)
    if (folder / RECORD).exists() and set(splits) <= set(read_json(folder / RECORD)["splits"]):
        if wrong := faults(place):
            raise ValueError("\n".join(wrong))
        return folder
    try:
        known = stated(repository, commit, wanted(splits))
        snapshot_download(
            repository, repo_type="dataset", revision=commit, local_dir=folder, allow_patterns=list(known)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError) as error:
        raise ValueError(
            f"{place}: {repository} could not be fetched ({' '.join(str(error).split())}); call `snakemake mirror` "
            f"where there is a network, or copy {folder} from there"
        ) from None
    files = {path: {"bytes": (folder / path).stat().st_size, "sha256": file_hash(folder / path)} for path in known}
    for path, digest in known.items():
        if digest not in (None, files[path]["sha256"]):
            (folder / path).unlink()
            raise ValueError(f"{folder / path}: arrived otherwise than the hub has it; call `snakemake mirror` again")
    facts = {"set": place, "repository": repository, "commit": commit, "splits": splits, "files": files}
    write_json(folder / RECORD, facts)
    return folder


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
            if options.newest not in public.known() or not public.known()[options.newest].hub:
                parser.error(f"--newest {options.newest}: {nearest(options.newest, public.known())}")
            print(f"{options.newest}@{HfApi().dataset_info(public.known()[options.newest].hub).sha}")
            return
        evaluate = load(options.params).evaluate
        fetch(evaluate.sets[options.set], ["test", "train"] if options.set in evaluate.probe else ["test"])
    except (ValueError, OSError, httpx.HTTPError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
