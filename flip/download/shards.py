"""List img2dataset's shards of one part: which are to be there, which are complete, and what became of every row.

A part is asked for in rounds, a table each: first all of its rows, then those that failed for a reason that passes.
img2dataset numbers its shards through all tables in order, so each round continues where the one before ends.
"""

import os
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flip.download.failures import ASKED_AGAIN, failure
from flip.files import atomic, read_json
from flip.formats.tar_members import members

ROUNDS = ".rounds"  # folder of the tables, beside the shards
ARRIVED = ["key", "url", "caption", "sha256"]
OUTCOME = pa.schema([("row", pa.int64()), ("status", pa.string()), ("error_message", pa.string())])


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as parquet, at once."""
    with atomic(path) as file:
        pq.write_table(table, file)


class DownloadShards:
    """Keep the shards of a part, `per_shard` rows each, in `folder`."""

    def __init__(self, folder: Path, per_shard: int):
        self.folder, self.per_shard = folder, per_shard

    @property
    def rounds(self) -> Path:
        """Return the folder of the tables that img2dataset reads."""
        return self.folder / ROUNDS

    def tables(self) -> list[Path]:
        """List the tables of the rounds, in order."""
        return sorted(self.rounds.glob("*.parquet"))

    def sizes(self) -> list[int]:
        """List the number of rows of every shard; their places are the shards' numbers."""
        rows = [pq.read_metadata(table).num_rows for table in self.tables()]
        return [min(self.per_shard, many - start) for many in rows for start in range(0, many, self.per_shard)]

    def path(self, number: int, suffix: str) -> Path:
        """Return a file of a shard."""
        return self.folder / f"{number:05d}{suffix}"

    def begin(self, table: Path, asked: pa.Table | None) -> None:
        """Let the first round be those rows of the table that are asked for; None: the table itself."""
        first = self.rounds / "0000.parquet"
        if asked is not None:
            write_table(asked, first)
            return
        self.rounds.mkdir(exist_ok=True)
        first.unlink(missing_ok=True)
        first.symlink_to(os.path.relpath(table.resolve(), self.rounds.resolve()))

    def ask_again(self) -> None:
        """Add a round for the rows that failed for a reason that may have passed; none where there are none."""
        if len(rows := self.passing()):
            write_table(rows, self.rounds / f"{len(self.tables()):04d}.parquet")

    def is_whole(self, number: int, rows: int) -> bool:
        """Tell whether statistics, account and images agree, which a full disk or a kill can prevent."""
        try:
            stats = read_json(self.path(number, "_stats.json"))
            statuses = pq.read_table(self.path(number, ".parquet"), columns=["status"])["status"]
            images = members(self.path(number, ".tar"))
        except (OSError, ValueError, pa.ArrowException):
            return False
        return stats["count"] == rows and len(images) == pc.sum(pc.equal(statuses, "success")).as_py()

    def discard(self, number: int) -> None:
        """Delete the files of a shard."""
        for suffix in ("_stats.json", ".parquet", ".tar"):
            self.path(number, suffix).unlink(missing_ok=True)

    def discard_incomplete(self) -> list[int]:
        """Delete the files of incomplete shards; return their numbers."""
        found = [number for number, rows in enumerate(self.sizes()) if not self.is_whole(number, rows)]
        for number in found:
            self.discard(number)
        return found

    def discard_all(self) -> None:
        """Delete all shards, and all rounds but the first."""
        for number in range(len(self.sizes())):
            self.discard(number)
        for table in self.tables()[1:]:
            table.unlink()

    def finished(self) -> int:
        """Count the shards that have their statistics."""
        return sum(self.path(number, "_stats.json").exists() for number in range(len(self.sizes())))

    def outcomes(self) -> pa.Table:
        """Return what became of every row when it was last asked for (`OUTCOME`)."""
        asked = [pq.read_table(table, columns=["row"])["row"].combine_chunks() for table in self.tables()]
        found, number = [OUTCOME.empty_table()], 0
        for place, rows in enumerate(asked):
            later = pa.concat_arrays([OUTCOME.empty_table()["row"].combine_chunks(), *asked[place + 1 :]])
            for _ in range(0, len(rows), self.per_shard):
                shard = pq.read_table(self.path(number, ".parquet"), columns=OUTCOME.names)
                found.append(shard.filter(pc.invert(pc.is_in(shard["row"], later))))
                number += 1
        return pa.concat_tables(found)

    def account(self, not_asked: Counter[str]) -> dict:
        """Count images: {"wanted", "arrived", "failed": {class: count}}.

        Rows `not_asked` were not passed to img2dataset; what it forgot counts as "other".
        """
        failed, arrived = +not_asked, 0
        wanted = not_asked.total() + pq.read_metadata(self.tables()[0]).num_rows
        for group in self.outcomes().group_by(OUTCOME.names[1:]).aggregate([([], "count_all")]).to_pylist():
            if group["status"] == "success":
                arrived += group["count_all"]
            else:
                failed[failure(group["error_message"])] += group["count_all"]
        if forgotten := wanted - arrived - failed.total():
            failed["other"] += forgotten
        return {"wanted": wanted, "arrived": arrived, "failed": dict(sorted(failed.items()))}

    def arrived(self, encoding: str) -> str:
        """Hash which images arrived under which key, with their captions, and how they are encoded: hexadecimal.

        A sum, as threads end in another order each time.
        """
        total = 0
        for number in range(len(self.sizes())):
            rows = pq.read_table(self.path(number, ".parquet"), columns=["status", *ARRIVED])
            columns = rows.filter(pc.equal(rows["status"], "success")).select(ARRIVED).to_pydict().values()
            total += sum(int.from_bytes(sha256(repr(row).encode()).digest()) for row in zip(*columns, strict=True))
        return sha256(f"{total} {encoding}".encode()).hexdigest()

    def passing(self) -> pa.Table:
        """Return the rows of the first round that failed for a reason that may have passed."""
        outcomes = self.outcomes()
        messages = outcomes.filter(pc.not_equal(outcomes["status"], "success"))["error_message"].unique()
        passing = pa.array([one for one in messages.to_pylist() if failure(one) in ASKED_AGAIN], pa.string())
        again = outcomes.filter(pc.is_in(outcomes["error_message"], passing))["row"]
        first = pq.read_table(self.tables()[0])
        return first.filter(pc.is_in(first["row"], again))
