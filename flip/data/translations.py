"""Read the training captions in several languages: a table beside each shard, in its order, and a tokenizer of them
all.

    data/<scale>/languages/<languages>/translations.json      of which images they are, and hashes of the tables
    data/<scale>/languages/<languages>/<shard>.parquet        language, caption
    data/<scale>/languages/<languages>/tokenizer.json

flip.data.translate and flip.synthetic.translate write them. As on the web, which mSigLIP is trained on, an image has
one caption, in one language; it keeps it in all epochs and for all seeds of training.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flip.config.schema import Captions
from flip.files import file_hash, read_json

FACTS = "translations.json"
SCHEMA = pa.schema([("language", pa.string()), ("caption", pa.string())])


def translations_folder(data: str | Path, captions: Captions) -> Path:
    """Return the folder of captions in several languages."""
    return Path(data) / "languages" / captions.language_key


def translations_path(data: str | Path, captions: Captions) -> Path | None:
    """Return the file that says what the tables are; None where captions are read as they come."""
    return translations_folder(data, captions) / FACTS if captions.translated else None


def table_path(folder: str | Path, shard: str) -> Path:
    """Return the file of a shard's captions, by its name in the manifest."""
    return (Path(folder) / shard).with_suffix(".parquet")


class Translations:
    """Read captions: translations(number) -> captions of the manifest's shard of that number.

    `identity` is the SHA-256 of their description.

    Raises:
        ValueError: they are missing, or are those of other images.
    """

    def __init__(self, folder: str | Path, manifest: dict):
        path = Path(folder) / FACTS
        if not path.exists():
            raise ValueError(f"{path}: missing; `snakemake variant --config variant=NAME` makes it")
        if (found := read_json(path)["manifest"]) != manifest["id"]:
            raise ValueError(f"{path}: manifest {found}, expected {manifest['id']}; run the pipeline again")
        self.paths = [table_path(folder, shard["name"]) for shard in manifest["shards"]]
        self.counts = [shard["samples"] for shard in manifest["shards"]]
        self.identity = file_hash(path)

    def __call__(self, number: int) -> list[str]:
        with pq.ParquetFile(self.paths[number]) as file:  # read_table would load 60 MB of code first
            column = file.read(columns=["caption"], use_threads=False)["caption"].to_pylist()
        if len(column) < self.counts[number]:  # more, where a variant learns from a share of the data
            raise ValueError(f"{self.paths[number]}: {len(column)} captions for {self.counts[number]} pictures")
        return column
