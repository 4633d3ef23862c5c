"""Translate the training images' captions, each into one of several languages, and train a tokenizer on all of them.

    python -m flip.data.translate --params specs/cc12m/params/clip.yaml --languages en-de-es-ru \\
        --manifest data/cc12m/manifest.json --shards data/cc12m/shards --out data/cc12m/languages/en-de-es-ru

An image's language follows from its URL alone, so all seeds and epochs of training have it, whatever the shards. What
captions are in it stands in a file of translations (source.translations).
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from flip.config.frozen import load
from flip.config.schema import Params, Source
from flip.config.sections.data import ENGLISH
from flip.data.pairs import BATCH, files
from flip.data.tokenizer import TRAINING_CAPTIONS, train_wordpiece
from flip.data.translations import FACTS, SCHEMA, table_path
from flip.files import atomic, file_hash, read_json, write_json
from flip.formats.words import has_words

Translator = Callable[[str, str], str | None]  # the caption of the image at a URL in a language, where there is one
TranslatorFactory = Callable[
    [Params, list[str], pa.Array], Translator
]  # of the images at these URLs, in these languages


def language_of(url: str, languages: list[str]) -> str:
    """Return the language of the image at a URL: all languages with equal probability."""
    return languages[int.from_bytes(sha256(url.encode()).digest()[:8]) % len(languages)]


def known_translations(source: Source, languages: list[str], urls: pa.Array) -> dict[str, dict[str, str | None]]:
    """Read translations by URL, of these URLs alone, however long the file is.

    Raises:
        ValueError: no such file, or it lacks a column.
    """
    found: dict[str, dict[str, str | None]] = {}
    columns = [source.url_column, *languages]
    remedy = f"give a file with the columns {', '.join(columns)}, or take languages out of captions.languages"
    for path in files("source.translations", str(source.translations), columns, remedy):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH, columns=columns):
                for row in batch.filter(pc.is_in(batch[source.url_column], urls)).to_pylist():
                    found.setdefault(row[source.url_column], row)
    return found


def from_file(params: Params, languages: list[str], urls: pa.Array) -> Translator:
    """Return a function that looks translations of the images at `urls` up in the file of translations.

    Raises:
        ValueError: as `known_translations`.
    """
    known = known_translations(params.source, languages, urls)
    return lambda url, language: known.get(url, {}).get(language)


def translated(
    params: Params, languages: list[str], listed: pa.Table, speak: TranslatorFactory = from_file
) -> pa.Table:
    """Return the captions (SCHEMA) of a part's samples (flip.data.pairs); as it came where no translation has words."""
    say = speak(params, [one for one in languages if one != ENGLISH], listed["url"].combine_chunks())
    rows = []
    for url, caption in zip(listed["url"].to_pylist(), listed["caption"].to_pylist(), strict=True):
        language = language_of(url, languages)
        text = None if language == ENGLISH else say(url, language)
        if not has_words(text or ""):
            language, text = ENGLISH, caption
        rows.append({"language": language, "caption": text})
    return pa.Table.from_pylist(rows, SCHEMA)


def by_shard(
    params: Params, languages: list[str], manifest: dict, folder: Path, speak: TranslatorFactory
) -> Iterator[tuple[str, pa.Table]]:
    """Yield (shard's name, its captions) of all shards of a manifest, part by part."""
    shards = iter(manifest["shards"])
    for part in tqdm(manifest["lists"], desc="translations", unit="part", disable=None):
        listed = pq.read_table(folder / part["name"])
        if len(listed) != part["samples"]:
            raise ValueError(
                f"{folder / part['name']}: {len(listed)} captions of {part['samples']} images, and translations are of "
                "one for each; set captions.languages to [en], or give each image one caption"
            )
        captions, start = translated(params, languages, listed, speak), 0
        while start < len(captions):
            shard = next(shards)
            yield shard["name"], captions.slice(start, shard["samples"])
            start += shard["samples"]


def write_captions(
    params: Params, languages: list[str], manifest: dict, shards: Path, out: Path, speak: TranslatorFactory = from_file
) -> None:
    """Write tables, tokenizer and, last, what they are.

    Raises:
        ValueError: translations are missing.
    """
    counts: Counter[str] = Counter()
    hashes = {}
    for name, captions in by_shard(params, languages, manifest, shards, speak):
        with atomic(table_path(out, name)) as file:
            pq.write_table(captions, file)
        hashes[name] = file_hash(table_path(out, name))
        counts.update(captions["language"].to_pylist())
    texts = (text for name in hashes for text in pq.read_table(table_path(out, name))["caption"].to_pylist())
    definition = train_wordpiece(islice(texts, TRAINING_CAPTIONS), params.tokenizer.multilingual, accents=True)
    entries = len(definition["model"]["vocab"])
    write_json(out / "tokenizer.json", {"kind": "wordpiece", "vocabulary": entries, "definition": definition})
    facts = {"manifest": manifest["id"], "captions": dict(sorted(counts.items())), "sha256": hashes}
    write_json(out / FACTS, facts)


def main(argv: list[str] | None = None, speak: TranslatorFactory = from_file) -> None:
    """Run the command; `speak` says what captions are in other languages."""
    parser = argparse.ArgumentParser(prog=f"python -m {speak.__module__}", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--languages", required=True, help="codes, joined by -")
    parser.add_argument("--manifest", required=True, help="data/<scale>/manifest.json")
    parser.add_argument("--shards", type=Path, required=True, help="folder with the shards")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    options = parser.parse_args(argv)
    try:
        params, languages = load(options.params), options.languages.split("-")
        write_captions(params, languages, read_json(options.manifest), options.shards, options.out, speak)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
