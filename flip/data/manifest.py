"""Merge the accounts of all parts into the manifest of the training data and the ledger of what was lost.

    python -m flip.data.manifest --table data/tiny/table/account.json --shards data/tiny/shards/{0000..0001}.json \\
        --manifest data/tiny/manifest.json --ledger data/tiny/ledger.json
"""

import argparse
import json
from collections import Counter
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path

from flip.data.pairs import combine_digests
from flip.files import expand, read_json, write_json

WHERE = ("tar", "version")  # of an entry: where a tar is that is not the project's own
COUNTS = ("wanted", "arrived", "decoded", "used")  # of a part; "rows" of the source come before them in the total


def sum_ledgers(ledgers: list[dict]) -> dict:
    """Sum ledgers."""
    lost = sum((Counter(ledger["lost"]) for ledger in ledgers), Counter())
    return {name: sum(ledger[name] for ledger in ledgers) for name in COUNTS} | {"lost": dict(sorted(lost.items()))}


def check(ledger: dict, where: str, first: str) -> None:
    """Check that the counts of a ledger add up to its `first`; `where` is for the message.

    Raises:
        ValueError: images have vanished, or come from nowhere.
    """
    accounted = ledger["used"] + sum(ledger["lost"].values())
    if ledger[first] != accounted:
        raise ValueError(f"{where}: {ledger[first]} {first}, but {accounted} used or lost; run its stages again")


def from_rows(total: dict, table: dict) -> dict:
    """Extend the sum of the parts' ledgers to all rows of the source, by the account of the URL table. What tars hold,
    only the parts know.

    Raises:
        ValueError: the parts want other rows than the table dealt.
    """
    table = table if "rows" in table else {"rows": total["wanted"], "wanted": total["wanted"], "lost": {}}
    if total["wanted"] != table["wanted"]:
        raise ValueError(
            f"{total['wanted']} rows wanted by the parts, but {table['wanted']} dealt to them; run the table and "
            "download stages again"
        )
    lost = Counter(total["lost"]) + Counter(table["lost"])
    found = {"rows": table["rows"]} | total | {"lost": dict(sorted(lost.items()))}
    check(found, "the URL table", "rows")
    return found


def merge(paths: list, table: str | Path) -> tuple[dict, dict]:
    """Build manifest and ledger of the parts that the shards stage described, and of the account of the URL table.

    The manifest's id is a hash of the shards' names, sizes and contents in order, wherever tars lie that are not the
    project's own: equal data, equal id. Its `pairs` say which images and captions these are, whatever the shards, their
    order and the JPEG encoder (`pairs.combined`).

    Raises:
        ValueError: counts do not add up, or no pair is left.
    """
    parts = {Path(path).stem: read_json(path) for path in sorted(paths)}
    for part, account in parts.items():
        check(account["ledger"], f"part {part}", "wanted")
    ledgers, dealt = {part: account["ledger"] for part, account in parts.items()}, read_json(table)
    if "sources" not in dealt:
        total = from_rows(sum_ledgers(list(ledgers.values())), dealt)
        return manifest_of([*parts.values()], total), {"total": total, "table": dealt, "parts": ledgers}
    sources = {}
    for name, account in dealt["sources"].items():
        own = [*parts][slice(*account["parts"])]
        sources[name] = from_rows(sum_ledgers([ledgers[part] for part in own]), account)
        for part in own:
            parts[part]["shards"] = [shard | {"source": name} for shard in parts[part]["shards"]]
    total = {"rows": sum(one["rows"] for one in sources.values())} | sum_ledgers([*sources.values()])
    ledger = {"total": total, "sources": sources, "table": dealt, "parts": ledgers}
    return manifest_of([*parts.values()], total), ledger


def manifest_of(parts: list[dict], total: dict) -> dict:
    """Build the manifest of parts in order, with the ledger's total.

    Raises:
        ValueError: no pair is left.
    """
    shards = [shard for account in parts for shard in account["shards"]]
    if not shards:
        raise ValueError(f"no pair is left of {total['rows']}: {total['lost']}; see source.filters and shards.only")
    contents = [{name: fact for name, fact in shard.items() if name not in WHERE} for shard in shards]
    identity = sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    lists = [account["list"] for account in parts]
    pairs = combine_digests(one["pairs"] for one in lists)
    return {"id": identity, "pairs": pairs, "samples": total["used"], "shards": shards, "lists": lists}


def first_pairs(manifest: dict, pairs: int) -> dict:
    """Return the manifest of the first `pairs` pairs, of each source as large a share: complete shards, but for the
    last one, of which only some are taken."""
    pairs, sources = min(pairs, manifest["samples"]), Counter[str]()
    for shard in manifest["shards"]:
        sources[shard.get("source", "")] += shard["samples"]
    ends = [end * pairs // manifest["samples"] for end in accumulate(sources.values(), initial=0)]
    left = {name: end - first for name, (first, end) in zip(sources, pairwise(ends), strict=True)}
    kept = []
    for shard in manifest["shards"]:
        name = shard.get("source", "")
        if left[name] > 0:
            kept.append(shard | {"samples": min(shard["samples"], left[name])})
            left[name] -= shard["samples"]
    return manifest | {"samples": pairs, "shards": kept}


def as_text(ledger: dict) -> str:
    """Format the ledger's total as a table: count, share of the source's rows, class; the largest loss first."""
    total = ledger["total"]
    losses = sorted(total["lost"].items(), key=lambda item: -item[1])
    rows = [(name, total[name]) for name in ("rows", *COUNTS)] + [(f"lost: {name}", count) for name, count in losses]
    rows += [(f"used of {name}", one["used"]) for name, one in ledger.get("sources", {}).items()]
    return "\n".join(f"{count:>12,} {count / total['rows']:>7.2%}  {name}" for name, count in rows)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.manifest", description=__doc__.splitlines()[0])
    parser.add_argument("--table", required=True, help="account of the URL table")
    parser.add_argument("--shards", nargs="+", required=True, help="accounts of all parts; {0000..0511} is a range")
    parser.add_argument("--manifest", required=True, help="shards and lists of their samples, in order (JSON)")
    parser.add_argument("--ledger", required=True, help="rows, wanted, arrived, decoded, used, lost (JSON)")
    options = parser.parse_args(argv)
    try:
        manifest, ledger = merge(expand(options.shards), options.table)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    write_json(options.manifest, manifest)
    write_json(options.ledger, ledger)
    print(as_text(ledger))


if __name__ == "__main__":
    main()
