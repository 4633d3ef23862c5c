"""The stages from a source of one's own to a manifest, called one after the other in a folder."""

from flip.config.frozen import dump, load
from flip.data import fingerprints, manifest, shards
from flip.data.tar_cache import TarCache
from flip.download import several as arriving
from flip.files import read_json, write_json
from flip.sources import list_tars, pack, several, table, take_in
from tests.dropping import drop


def arrive(params, folder):
    """Table and arrival of all parts; the accounts' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(dump(params))
    tables = folder / "table"
    if params.source.kind == "several":
        several.deal(params, tables)
    elif params.source.kind == "tars":
        account = list_tars.deal(params.source, table.part_paths(tables, params.download.parts))
        write_json(tables / table.ACCOUNT, account)
    else:
        table.write_parts(params, tables)
    accounts = []
    for part in sorted(tables.glob("*.parquet")):
        accounts.append(folder / "download" / f"{part.stem}.json")
        if params.source.kind == "several":
            arriving.arrive(params, part, accounts[-1])
        elif params.source.kind == "tars":
            take_in.take_in(params.source, part, accounts[-1])
        else:
            pack.pack(params, part, accounts[-1])
    return accounts


def finish(accounts, folder, how, tests=None):
    """Fingerprints to manifest of what has arrived; the manifest and the ledger's total. Without test sets, `tests`
    being None, nothing is compared with any."""
    params = ["--params", str(folder / "params.yaml")]
    known = [folder / "fingerprints" / f"{account.stem}.parquet" for account in accounts]
    for account, out in zip(accounts, known, strict=True):
        fingerprints.main([*params, "--download", str(account), "--out", str(out)])
    if tests is None:
        tests = folder / "fingerprints" / "tests.parquet"
        fingerprints.write([fingerprints.PART.empty_table()], fingerprints.PART, tests)
    (dropped,) = drop(folder, tests, known)
    hold = TarCache(load(params[1]).source.cache).hold
    written = [folder / "shards" / account.name for account in accounts]
    for account, found, out in zip(accounts, known, written, strict=True):
        shards.write_part(account, found, dropped, out, how, hold)
    data, ledger = manifest.merge(written, accounts[0].parents[1] / "table/account.json")
    write_json(folder / "manifest.json", data)
    return data, ledger["total"]


def ledger_of(folder, part="0000"):
    return read_json(folder / "download" / f"{part}.json")
