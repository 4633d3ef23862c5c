"""Run the command of a stage and leave a receipt: what its result was made from, and what it is.

    python -m flip.provenance.receipt --out receipts/tiny/variants/clip/seed-0/pretrain.json \\
        --spec specs/tiny/variants/clip/pretrain.json \\
        --after receipts/tiny/data/manifest.json receipts/tiny/data/tokenizer.json \\
        --made results/tiny/clip/seed-0/weights.safetensors -- python -m flip.train ...

Receipts are small, so that Git keeps them and a workflow compares them by content; weights and pictures stand behind
them. A result that is there already and was made from the same is not made again, and two processes that are to make
the same wait for each other: so a job that is called twice, by mistake or after a kill, costs nothing.
"""

import argparse
import json
import os
import shlex
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from flip.files import PLANNED, file_hash, known_hash, place_hash, read_json, write_json
from flip.processes import exit_code, foreground
from flip.provenance.environment import git_state, machine, versions
from flip.provenance.locks import alone
from flip.provenance.sources import source_hash

SEAL = "seal"
PARTS = {"spec", "made_from", "made", "beside", "scratch"}  # that an earlier version's receipt has, too


def sealed(receipt: dict) -> str:
    """A hash of all that a receipt says, so that a number which was edited later is noticed."""
    said = {name: value for name, value in receipt.items() if name != SEAL}
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def save(path, facts: dict) -> None:
    """Writes a receipt and seals it."""
    write_json(path, facts | {SEAL: sealed(facts)})


def parse(path, text: str, old: bool = False) -> dict:
    """Return the receipt that a text holds; `path` is for messages, `old` allows one from before receipts were sealed.

    Raises:
        ValueError: it is none, for instance with a conflict of a merge in it, or it was edited since it was written.
    """
    remedy = f"`git checkout {path}` brings back what was committed; to have the result made again, delete the file"
    try:
        found = json.loads(text)
        seal = found.get(SEAL)
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not a receipt ({error}); {remedy}") from None
    if seal != sealed(found) and not (old and seal is None and found.keys() >= PARTS):
        raise ValueError(f"{path}: edited since it was written, so it is no record of what was measured; {remedy}")
    if not str(path).endswith(own := found.get("receipt", "")):
        raise ValueError(f"{path}: a copy of {own}, whose result it is; delete it to have this one made")
    return found


def read(path, old: bool = False) -> dict:
    """Return the receipt in a file.

    Raises:
        ValueError: as `parse`.
    """
    return parse(path, Path(path).read_text(errors="replace"), old)


def made_from(spec: dict, after: list, places: list) -> dict:
    """What a result depends on: parameters and code, the results before it, files from outside.

    `spec` is {"path", "sha256", "content"}, as it was when the job began.

    Raises:
        ValueError: the code is another than when the job was planned, which may be long ago where jobs queue.
    """
    planned = spec["content"]
    if source_hash(planned["module"], tuple(planned.get("plugins", ()))) != planned["code"]:
        raise ValueError(
            f"{spec['path']}: the sources of {planned['module']} have changed since this job was planned; end the "
            "workflow and start it again, so that what is made says what made it"
        )
    return {
        "spec": {"path": spec["path"], "sha256": spec["sha256"]},
        "after": {str(path): read(path)["id"] for path in sorted(after)},
        "sources": {place: place_hash(place) for place in sorted(places)},
    }


def read_spec(path) -> dict:
    """The specification as it stands now: who plans the next workflow may replace it while this job runs."""
    content = Path(path).read_bytes()
    return {"path": str(path), "sha256": sha256(content).hexdigest(), "content": json.loads(content)}


def described(paths: list) -> dict:
    return {str(path): {"sha256": known_hash(path), "bytes": Path(path).stat().st_size} for path in paths}


def is_there(path, content: dict) -> bool:
    """Whether a product is there, and what the receipt says it is."""
    path = Path(path)
    return path.exists() and path.stat().st_size == content["bytes"] and known_hash(path) == content["sha256"]


def products(receipt: dict) -> dict:
    return receipt["made"] | receipt["beside"]


def within(folders: list[Path]) -> list[Path]:
    """The files of folders, whichever there are, by name."""
    return [path for folder in folders for path in sorted(folder.glob("*"))]


def absent(receipt: dict) -> list[str]:
    """Products that are not there at all."""
    return [path for path in products(receipt) if not Path(path).exists()]


def behind(path: str, read=read) -> dict[str, dict]:
    """A receipt and all that it was made after, each read once, the earliest first."""
    found = {}

    def visit(one: str) -> None:
        if one not in found:
            content = read(one)
            for before in content["made_from"]["after"]:
                visit(before)
            found[one] = content

    visit(path)
    return found


def require(receipts: list) -> None:
    """Looks whether the results that a job builds on are there.

    Raises:
        ValueError: one is not, or is another than its receipt says, or the receipt was edited.
    """
    for path in receipts:
        for product, content in read(path)["made"].items():
            if not Path(product).exists():
                raise ValueError(
                    f"{product}: not here, though {path} says that it was made; fetch it (`dvc pull {product}`), or "
                    f"delete {path} to have it made again"
                )
            if not is_there(product, content):
                raise ValueError(
                    f"{product}: not what {path} says it is; restore it (`dvc checkout {product}`), or delete {path} "
                    "to have it made again"
                )


def frozen(spec: str, command: list[str]) -> dict[str, str]:
    """SHA-256 of the frozen parameters that a command reads, by path: what it reads must be what was planned."""
    folder = f"{Path(spec).parts[0]}/"
    return {word: file_hash(word) for word in command if word.startswith(folder) and word.endswith(".yaml")}


def run(command: list[str], parameters: dict[str, str]) -> int:
    """The command's exit code; `parameters` are those that it may read (`frozen`)."""
    with foreground(command, os.environ | {PLANNED: json.dumps(parameters)}) as process:
        process.wait()
    return exit_code(process)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write(options, inputs: dict, spec: dict, start: str) -> None:
    """The receipt; `id` is over the products that make the result what it is, in the order of the command line.

    Raises:
        ValueError: the command ended well and left no product.
    """
    if lost := [path for path in (*options.made, *options.beside) if not Path(path).exists()]:
        raise ValueError(f"{', '.join(map(str, lost))}: missing, though the command that makes it ended without error")
    made = described([*options.made, *within(options.within)])
    facts = {"made_from": inputs, "made": made, "beside": described(options.beside), "scratch": options.scratch}
    facts |= {"facts": {path.stem: read_json(path) for path in options.facts}}
    facts |= {"id": sha256(" ".join(one["sha256"] for one in made.values()).encode()).hexdigest()}
    facts |= {"spec": spec, "command": shlex.join(options.command), "git": git_state()}
    facts |= {"versions": versions(), "machine": machine(), "start": start, "end": now()}
    facts |= {"receipt": Path(options.out).as_posix()}
    save(options.out, facts)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m flip.provenance.receipt", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the receipt (JSON)")
    parser.add_argument("--spec", required=True, help="parameters and sources of the stage (flip.provenance.specs)")
    parser.add_argument("--after", type=Path, nargs="*", default=[], help="receipts of the results that it builds on")
    parser.add_argument("--sources", nargs="*", default=[], help="files, globs and folders from outside the project")
    parser.add_argument("--made", type=Path, nargs="+", required=True, help="products that identify the result")
    parser.add_argument("--within", type=Path, nargs="*", default=[], help="folders whose files identify it, too")
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="further products: logs, times")
    parser.add_argument("--facts", type=Path, nargs="*", default=[], help="JSON products that the receipt repeats")
    parser.add_argument("--scratch", action="store_true", help="the products serve the next stages only")
    parser.add_argument("command", nargs="+", help="after --: what to run")
    options = parser.parse_args(argv)
    try:
        require(options.after)
        with alone(options.out):
            make(options, parser)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


def make(options, parser) -> None:
    """Runs the command and leaves its receipt, unless what it makes is there and was made from the same."""
    spec, start = read_spec(options.spec), now()
    inputs = made_from(spec, options.after, options.sources)
    if stands(options.out, inputs):
        os.utime(options.out)
        return
    if code := run(options.command, frozen(options.spec, options.command)):
        parser.exit(code)
    if other := [place for place, found in inputs["sources"].items() if place_hash(place) != found]:
        raise ValueError(f"{', '.join(other)}: changed while this job read it; start the workflow again")
    write(options, inputs, spec["content"], start)


def stands(path: Path, inputs: dict) -> bool:
    """Whether there is a receipt of a result that is here and was made from these inputs."""
    try:
        earlier = read(path)
    except (FileNotFoundError, ValueError):
        return False
    return earlier["made_from"] == inputs and all(is_there(*one) for one in products(earlier).items())


if __name__ == "__main__":
    main()
