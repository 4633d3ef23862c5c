"""Captions in other languages: of the training pictures, each in one of several, with a tokenizer of them all; and the
world's retrieval set in another language.

    python -m flip.synthetic.translate captions --params specs/tiny/params/clip.yaml --languages en-de-es-ru \\
        --manifest data/tiny/manifest.json --shards data/tiny/shards --out data/tiny/languages/en-de-es-ru
    python -m flip.synthetic.translate set --params specs/tiny/params/clip.yaml --language de \\
        --out data/tiny/languages/tests/retrieval-de

A picture's language follows from its URL alone, so all seeds and epochs of training have it, whatever the shards. The
world says itself what its captions say; others have a file of translations (source.translations).
"""

import argparse
from collections import Counter
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
from flip.data.words import has_words
from flip.files import atomic, file_hash, read_json, write_atomic, write_json
from flip.metrics.sets import retrieval_in
from flip.synthetic import world
from flip.synthetic.languages.spoken import LANGUAGES
from flip.testsets.__main__ import clear, revision, write_pictures
from flip.testsets.layout import KIND


def language_of(url: str, languages: list[str]) -> str:
    """Of the picture at a URL: all languages with equal chance."""
    return languages[int.from_bytes(sha256(url.encode()).digest()[:8]) % len(languages)]


def known_translations(source: Source, languages: list[str], urls: pa.Array) -> dict[str, dict[str, str | None]]:
    """Translations by URL, of these URLs alone, however long the file is.

    Raises:
        ValueError: no such file, or it lacks a column.
    """
    found, columns = {}, [source.url_column, *languages]
    remedy = f"give a file with the columns {', '.join(columns)}, or take languages out of captions.languages"
    for path in files("source.translations", source.translations, columns, remedy):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH, columns=columns):
                for row in batch.filter(pc.is_in(batch[source.url_column], urls)).to_pylist():
                    found.setdefault(row[source.url_column], row)
    return found


def translated(params: Params, languages: list[str], listed: pa.Table) -> pa.Table:
    """The captions (SCHEMA) of a part's samples (flip.data.pairs); where a translation has no words, as it came."""
    urls, captions = (listed[name].to_pylist() for name in ("url", "caption"))
    others = [language for language in languages if language != ENGLISH]
    world_speaks = params.source.table == "world"
    known = {} if world_speaks else known_translations(params.source, others, listed["url"].combine_chunks())
    rows = []
    for url, caption in zip(urls, captions, strict=True):
        language, text = language_of(url, languages), None
        if language != ENGLISH:
            if world_speaks:
                text = world.caption(params.world, world.row_of(url), LANGUAGES[language])
            else:
                text = known.get(url, {}).get(language)
        if not has_words(text or ""):
            language, text = ENGLISH, caption
        rows.append({"language": language, "caption": text})
    return pa.Table.from_pylist(rows, SCHEMA)


def by_shard(params: Params, languages: list[str], manifest: dict, folder: Path):
    """(shard's name, its captions) of all shards of a manifest, part by part."""
    shards = iter(manifest["shards"])
    for part in tqdm(manifest["lists"], desc="translations", unit="part", disable=None):
        captions, start = translated(params, languages, pq.read_table(folder / part["name"])), 0
        while start < len(captions):
            shard = next(shards)
            yield shard["name"], captions.slice(start, shard["samples"])
            start += shard["samples"]


def write_captions(params: Params, languages: list[str], manifest: dict, shards: Path, out: Path) -> None:
    """Tables, tokenizer and, last, what they are.

    Raises:
        ValueError: translations that are not there.
    """
    counts, hashes = Counter(), {}
    for name, captions in by_shard(params, languages, manifest, shards):
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


def write_set(params: Params, language: str, out: Path) -> None:
    """The retrieval set in a language, or a look at the one that lies elsewhere; its revision comes last.

    Raises:
        ValueError: evaluate.languages has no such language, or a folder that is not in clip-benchmark's layout.
    """
    places, name = params.evaluate.languages, retrieval_in(language)
    if language not in places:
        raise ValueError(f"evaluate.languages has no '{language}'; known: {', '.join(places)}")
    place = places[language]
    clear(out)
    if place == "world":
        write_pictures(params.world, "retrieval", out, "test", LANGUAGES[language])
        write_atomic(out / KIND, "retrieval\n")
    write_json(out / "revision.json", revision(out if place == "world" else Path(place), name, place))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flip.synthetic.translate", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("captions", help="of the training pictures")
    one.add_argument("--languages", required=True, help="codes, joined by -")
    one.add_argument("--manifest", required=True, help="data/<scale>/manifest.json")
    one.add_argument("--shards", type=Path, required=True, help="folder with the shards")
    two = commands.add_parser("set", help="the retrieval set")
    two.add_argument("--language", required=True, help="a language of evaluate.languages")
    for command in (one, two):
        command.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
        command.add_argument("--out", type=Path, required=True, help="folder")
    return parser


def main(argv=None):
    parser = build_parser()
    options = parser.parse_args(argv)
    try:
        params = load(options.params)
        if options.command == "captions":
            languages, manifest = options.languages.split("-"), read_json(options.manifest)
            write_captions(params, languages, manifest, options.shards, options.out)
        else:
            write_set(params, options.language, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
