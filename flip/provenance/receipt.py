"""Run the command of a stage and write a receipt: what its result was made from, and what it is.

    python -m flip.provenance.receipt --out receipts/tiny/variants/clip/seed-0/pretrain.json \\
        --spec specs/tiny/variants/clip/pretrain.json \\
        --upstream receipts/tiny/data/manifest.json receipts/tiny/data/tokenizer.json \\
        --outputs results/tiny/clip/seed-0/weights.safetensors -- python -m flip.train ...

Receipts are small, so that Git keeps them and a workflow compares them by content; they vouch for weights and images
by hash. A result that exists and was made from the same inputs is not made again, and two processes that are to make
the same result wait for each other: a job that is called twice, by mistake or after a kill, costs nothing.
"""

import argparse
import json
import os
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from flip.files import PLANNED, expand, file_hash, known_hash, place_hash, read_json, write_atomic, write_json
from flip.processes import end_with_parent, exit_code, foreground
from flip.provenance.environment import git_state, machine, versions
from flip.provenance.lease import leased
from flip.provenance.sources import source_hash
from flip.space import full

SEAL = "seal"
REFUSED = Path(".flip/refused")  # a file for each receipt whose job refused to begin, until it is run again
# Fields that the receipts of an earlier version, which had no seal, have, too.
PARTS = {"spec", "made_from", "made", "beside", "scratch"}


def sealed(receipt: dict[str, Any]) -> str:
    """Return the SHA-256 of all that a receipt says, so that a number which was edited later is noticed."""
    said = {name: value for name, value in receipt.items() if name != SEAL}
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def save(path: str | Path, facts: dict[str, Any]) -> None:
    """Write a receipt, with its seal, to a JSON file."""
    write_json(path, facts | {SEAL: sealed(facts)})


def parse(path: str | Path, text: str, old: bool = False) -> dict[str, Any]:
    """Return the receipt that a text holds; `path` is for messages, `old` allows one from before receipts were sealed.

    Raises:
        ValueError: it is no receipt, for instance for a merge conflict, or it was edited after it was written.
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


def read(path: str | Path, old: bool = False) -> dict[str, Any]:
    """Return the receipt in a file.

    Raises:
        ValueError: as `parse`.
        OSError: the file cannot be read.
    """
    return parse(path, Path(path).read_text(errors="replace"), old)


def made_from(spec: dict[str, Any], upstream: Sequence[str | Path], places: Sequence[str]) -> dict[str, Any]:
    """Return what a result depends on: parameters and code, the receipts upstream, files from outside the project.

    `spec` is {"path", "sha256", "content"}, as it was when the job began.

    Raises:
        ValueError: the code has changed since the job was planned, which may be long ago where jobs queue.
    """
    planned = spec["content"]
    if source_hash(planned["module"], tuple(planned.get("plugins", ()))) != planned["code"]:
        raise ValueError(
            f"{spec['path']}: the sources of {planned['module']} have changed since this job was planned; end the "
            "workflow and start it again, so that what is made says what made it"
        )
    return {
        "spec": {"path": spec["path"], "sha256": spec["sha256"]},
        "after": {str(path): read(path)["id"] for path in sorted(upstream)},
        "sources": {place: place_hash(place) for place in sorted(places)},
    }


def read_spec(path: str | Path) -> dict[str, Any]:
    """Read a specification as it is now: planning the next workflow may replace it while this job runs."""
    content = Path(path).read_bytes()
    return {"path": str(path), "sha256": sha256(content).hexdigest(), "content": json.loads(content)}


def described(paths: Sequence[str | Path]) -> dict[str, dict[str, Any]]:
    """Return SHA-256 and size in bytes of files, by path."""
    return {str(path): {"sha256": known_hash(path), "bytes": Path(path).stat().st_size} for path in paths}


def is_there(path: str | Path, content: dict[str, Any]) -> bool:
    """Return whether an output exists with the size and SHA-256 that its receipt states."""
    path = Path(path)
    return path.exists() and path.stat().st_size == content["bytes"] and known_hash(path) == content["sha256"]


def outputs(receipt: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of all outputs of a receipt, by path."""
    return receipt["made"] | receipt["beside"]


def files_in(folders: list[Path]) -> list[Path]:
    """List the files that folders contain, sorted by name within each."""
    return [path for folder in folders for path in sorted(folder.glob("*"))]


def absent(receipt: dict[str, Any]) -> list[str]:
    """List the outputs of a receipt that do not exist."""
    return [path for path in outputs(receipt) if not Path(path).exists()]


def behind(path: str, read: Callable[[str], dict[str, Any]] = read) -> dict[str, dict[str, Any]]:
    """Return a receipt and all receipts upstream of it, each read once, by path, in the order they were made."""
    found: dict[str, dict[str, Any]] = {}

    def visit(one: str) -> None:
        if one not in found:
            content = read(one)
            for before in content["made_from"]["after"]:
                visit(before)
            found[one] = content

    visit(path)
    return found


def read_by(command: Sequence[str], receipt: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the outputs of a receipt that a command names; all of them if it names none.

    Where thousands of parts come from one job, each job after it reads one of them.
    """
    named = {path: content for path, content in receipt["made"].items() if path in command}
    return named or receipt["made"]


def require(receipts: Sequence[str | Path], command: Sequence[str] = ()) -> None:
    """Check that the results that a job, which runs a command, builds on exist.

    Raises:
        ValueError: one is missing or differs from what its receipt states, or the receipt was edited.
    """
    for path in receipts:
        for output, content in read_by(command, read(path)).items():
            if not Path(output).exists():
                raise ValueError(
                    f"{output}: not found, though {path} says that it was made; fetch it (`dvc pull {output}`), or "
                    f"delete {path} to have it made again"
                )
            if not is_there(output, content):
                raise ValueError(
                    f"{output}: not what {path} says it is; restore it (`dvc checkout {output}`), or delete {path} "
                    "to have it made again"
                )


def refusal(receipt: str | Path) -> Path:
    """Return the file that is there if the last job for a receipt found a fault of its inputs, which no retry mends."""
    return REFUSED / str(receipt).replace("/", "_")


def frozen(spec: str, command: list[str]) -> dict[str, str]:
    """Return SHA-256 of the frozen parameters that a command reads, by path: it must read what was planned."""
    folder = f"{Path(spec).parts[0]}/"
    return {word: file_hash(word) for word in command if word.startswith(folder) and word.endswith(".yaml")}


def run(command: list[str], parameters: dict[str, str]) -> int:
    """Run a command and return its exit code; `parameters` are those that it may read (`frozen`)."""
    with foreground(command, os.environ | {PLANNED: json.dumps(parameters)}) as process:
        process.wait()
    return exit_code(process)


def now() -> str:
    """Return the time (UTC, ISO 8601, milliseconds)."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write(options: argparse.Namespace, inputs: dict[str, Any], spec: dict[str, Any], start: str) -> None:
    """Write the receipt; `id` is a hash over the outputs that identify the result, in the order of the command line.

    Raises:
        ValueError: the command ended without error, and an output is missing.
    """
    if missing := [path for path in (*options.outputs, *options.extra_outputs) if not path.exists()]:
        absent = ", ".join(map(str, missing))
        raise ValueError(f"{absent}: missing, though the command that makes it ended without error")
    made = described([*options.outputs, *files_in(options.output_dirs)])
    facts: dict[str, Any] = {"made_from": inputs, "made": made, "beside": described(options.extra_outputs)}
    facts |= {"scratch": options.intermediate}
    facts |= {"facts": {path.stem: read_json(path) for path in options.facts}}
    facts |= {"id": sha256(" ".join(one["sha256"] for one in made.values()).encode()).hexdigest()}
    facts |= {"spec": spec, "command": shlex.join(options.command), "git": git_state()}
    facts |= {"versions": versions(), "machine": machine(), "start": start, "end": now()}
    facts |= {"receipt": Path(options.out).as_posix()}
    save(options.out, facts)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a stage's command by the options of the command line, and write its receipt."""
    parser = argparse.ArgumentParser(prog="python -m flip.provenance.receipt", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the receipt (JSON)")
    parser.add_argument("--spec", required=True, help="parameters and sources of the stage (flip.provenance.specs)")
    parser.add_argument(
        "--upstream", nargs="*", default=[], help="receipts of the results it builds on; {0..63} is a range"
    )
    parser.add_argument("--sources", nargs="*", default=[], help="files, globs and folders from outside the project")
    parser.add_argument(
        "--outputs", nargs="+", required=True, help="files that identify the result; {0..63} is a range"
    )
    parser.add_argument("--output-dirs", type=Path, nargs="*", default=[], help="folders whose files identify it")
    parser.add_argument("--extra-outputs", type=Path, nargs="*", default=[], help="further files: logs, times")
    parser.add_argument("--facts", type=Path, nargs="*", default=[], help="JSON outputs that the receipt repeats")
    parser.add_argument("--intermediate", action="store_true", help="the outputs serve later stages only")
    parser.add_argument("command", nargs="+", help="after --: what to run")
    options = parser.parse_args(argv)
    end_with_parent()
    options.upstream, options.outputs = expand(options.upstream), [Path(path) for path in expand(options.outputs)]
    refusal(options.out).unlink(missing_ok=True)
    try:
        require(options.upstream, options.command)
        with leased(str(options.out)) as lease:
            os.environ.update(lease)
            make(options, parser)
    except (ValueError, OSError) as error:
        if isinstance(error, ValueError):
            write_atomic(refusal(options.out), f"{error}\n")
        parser.exit(1, f"{full(error) or error}\n")


def make(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Run the command and write its receipt, unless its outputs exist and were made from the same inputs.

    Raises:
        ValueError: code or files from outside changed under the job, or an output is missing.
    """
    spec, start = read_spec(options.spec), now()
    inputs = made_from(spec, options.upstream, options.sources)
    if is_fresh(options.out, inputs):
        os.utime(options.out)
        return
    if code := run(options.command, frozen(options.spec, options.command)):
        parser.exit(code)
    if other := [place for place, found in inputs["sources"].items() if place_hash(place) != found]:
        raise ValueError(f"{', '.join(other)}: changed while this job read it; start the workflow again")
    write(options, inputs, spec["content"], start)


def is_fresh(path: Path, inputs: dict[str, Any]) -> bool:
    """Return whether a receipt exists whose result exists, too, and was made from these inputs."""
    try:
        earlier = read(path)
    except (FileNotFoundError, ValueError):
        return False
    return earlier["made_from"] == inputs and all(is_there(*one) for one in outputs(earlier).items())


if __name__ == "__main__":
    main()
